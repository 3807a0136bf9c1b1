"""Token-sparsified vision transformers: STViT, STViT-R and their rivals, registered with timm."""

# ruff: noqa: E402 (what may stop the others from being imported is checked first)
from stvit.compatibility import check_torchvision

check_torchvision()

from stvit import dense, micro_video  # noqa: F401 (registers its models)
from stvit.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from stvit.convert.released import load_released
from stvit.convert.swin import load_swin
from stvit.convert.video import load_video_swin
from stvit.lvvit import LVViT
from stvit.micro import ConvStem
from stvit.micro_swin import DenseSwin
from stvit.optimize import optimize
from stvit.record import record
from stvit.reduced_vit import ReducedViT
from stvit.sparsify import densify, sparsify
from stvit.swin_semantic import STViTRSwin, STViTSwin
from stvit.video_swin import VideoSwin
from stvit.video_swin_semantic import STViTVideoSwin
from stvit.vit import STViT

__all__ = [
    "CheckpointError",
    "ConvStem",
    "DenseSwin",
    "LVViT",
    "ReducedViT",
    "STViT",
    "STViTRSwin",
    "STViTSwin",
    "STViTVideoSwin",
    "VideoSwin",
    "dense",
    "densify",
    "load_checkpoint",
    "load_released",
    "load_swin",
    "load_video_swin",
    "optimize",
    "record",
    "save_checkpoint",
    "sparsify",
]
