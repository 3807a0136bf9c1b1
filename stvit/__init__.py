"""Token-sparsified vision transformers: STViT, STViT-R and their rivals, registered with timm."""

# ruff: noqa: E402 (what may stop the others from being imported is checked first)
from stvit.compatibility import check_torchvision

check_torchvision()

from stvit import dense, fast
from stvit.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from stvit.convert.released import load_released
from stvit.convert.swin import load_swin
from stvit.convert.video import load_video_swin
from stvit.distill import distill
from stvit.hub import from_pretrained, push_to_hub, save_pretrained
from stvit.models import micro_video, micro_vit  # noqa: F401 (register their models)
from stvit.models.lvvit import LVViT
from stvit.models.micro_swin import DenseSwin
from stvit.models.reduced_vit import ReducedViT
from stvit.models.stvit_swin import STViTRSwin, STViTSwin
from stvit.models.stvit_video_swin import STViTVideoSwin
from stvit.models.swin import ConvStem
from stvit.models.video_swin import VideoSwin
from stvit.models.vit import STViT
from stvit.multimodal import adjust_placeholders, prefill_table
from stvit.optimize import optimize
from stvit.pretrained import pretrained, saliency_head
from stvit.record import record
from stvit.restore import restore
from stvit.sparsify import densify, sparsify
from stvit.version import __version__

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
    "__version__",
    "adjust_placeholders",
    "dense",
    "densify",
    "distill",
    "fast",
    "from_pretrained",
    "load_checkpoint",
    "load_released",
    "load_swin",
    "load_video_swin",
    "optimize",
    "prefill_table",
    "pretrained",
    "push_to_hub",
    "record",
    "restore",
    "saliency_head",
    "save_checkpoint",
    "save_pretrained",
    "sparsify",
]
