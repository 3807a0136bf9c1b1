"""Token-sparsified vision transformers: STViT, STViT-R and their rivals, registered with timm."""

from stvit.record import record
from stvit.sparsify import dense, sparsify
from stvit.vit import STViT

__all__ = ["STViT", "dense", "record", "sparsify"]
