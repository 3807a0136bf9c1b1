"""Why models that no host takes cannot be sparsified, in a line each."""

from __future__ import annotations

from torch import nn

ELSE = (
    "it is not one of timm's plain ViTs (ViT, DeiT, DeiT-III, FlexiViT, DINOv2, CLIP and SigLIP image towers), of its "
    "EVA (EVA-02, DINOv3, PE, RoPE-ViT) and BEiT families, nor a Swin"
)
SWIN_V2 = (
    "its windows compare directions, with a bias from a network of places that semantic tokens do not have"
)
REASONS = {  # class of timm → what stands against it
    "VisionTransformerSAM": "most of its layers attend in windows of the whole map, which fewer tokens do not fill",
    "SwinTransformerV2": SWIN_V2,
    "SwinTransformerV2Cr": SWIN_V2,
    "Hiera": "its layers pool tokens within units of the map, and need each unit whole",
    "VisionTransformerRelPos": "its relative positions are modules of their own, which are not hosted (BEiT's are)",
    "NaFlexVit": "its batches hold images of different sizes, and reductions are told one grid",
    "Cait": "its attention mixes heads before and after the softmax, which has no fused form",
    "Xcit": "its attention is among channels, not among tokens",
    "MaxxVit": "its layers attend in windows and grids of the whole map, which fewer tokens do not fill",
}


def why_not(model: nn.Module) -> str:
    """The reason for a model that no host takes, by its class or by one that it extends."""
    return next((REASONS[cls.__name__] for cls in type(model).__mro__ if cls.__name__ in REASONS), ELSE)
