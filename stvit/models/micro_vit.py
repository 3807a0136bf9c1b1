"""Models that a CPU trains in a minute: a convolutional stem, narrow layers, any method, 48 × 48 images.

``micro_deit`` is the dense model, ``micro_stvit`` the one with semantic tokens, ``micro_bat`` and so on
those of ``stvit.reduce.METHODS``. They keep the proportions of DeiT and of STViT-DeiT: the first third of
the layers is the base module, the next two layers are the STGM. The stem is there because patches that
enter through one linear layer learn too slowly for so small a training.
"""

from __future__ import annotations

from functools import partial

from timm.layers import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from stvit.models.reduced_vit import ReducedViT
from stvit.models.registry import default_cfg, register
from stvit.models.vit import STViT
from stvit.reduce import METHODS

SIZES = dict(img_size=48, patch_size=6, embed_dim=64, depth=6, num_heads=4, mlp_ratio=3)
MEAN_HEAD = dict(class_token=False, global_pool="avg", fc_norm=False)


class MicroStem(PatchEmbed):
    """Patches through three convolutions: stride 2, 1, and what is left, without overlap."""

    def __init__(self, img_size, patch_size: int, in_chans: int, embed_dim: int, **kwargs):
        super().__init__(img_size, patch_size, in_chans, embed_dim, **kwargs)
        if patch_size % 2:
            raise ValueError(f"this stem halves the image first, which patches of {patch_size} do not allow")
        narrow, wide, last = 3 * embed_dim // 8, 3 * embed_dim // 4, patch_size // 2
        self.proj = nn.Sequential(
            nn.Conv2d(in_chans, narrow, 3, 2, 1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, wide, 3, 1, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.Conv2d(wide, embed_dim, last, last),
        )  # (B, C, H / patch, W / patch)


FAMILY = {
    "micro_deit": (VisionTransformer, MEAN_HEAD),
    "micro_stvit": (STViT, dict(MEAN_HEAD, num_semantic_tokens=4, stgm_at=3)),
}
CFG = default_cfg(input_size=(3, 48, 48), num_classes=12, mean=(0.5,) * 3, std=(0.5,) * 3)


def name_model(name: str, cls: type[VisionTransformer], defaults: dict) -> None:
    register(
        name,
        partial(cls, embed_layer=MicroStem),
        f"{cls.__name__} for 48 × 48 images: {defaults}.",
        CFG,
        **{**SIZES, **defaults},
    )


for _name, (_cls, _defaults) in FAMILY.items():
    name_model(_name, _cls, _defaults)
METHODS.watch(lambda method: name_model(f"micro_{method}", ReducedViT, dict(method=method)))
