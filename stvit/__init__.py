"""Token-sparsified vision transformers: STViT, STViT-R and their rivals, registered with timm."""

from stvit import vit

__all__ = ["vit"]
