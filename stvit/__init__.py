"""Token-sparsified vision transformers: STViT, STViT-R and their rivals, registered with timm."""

from stvit.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from stvit.record import record
from stvit.sparsify import dense, sparsify
from stvit.vit import STViT

__all__ = ["CheckpointError", "STViT", "dense", "load_checkpoint", "record", "save_checkpoint", "sparsify"]
