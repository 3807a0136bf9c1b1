"""Micro Swins: 64 × 64 images, windows of 4, strides 2, 4, 8 and 16, for a CPU to train in minutes.

``micro_swin`` is the dense trunk, ``micro_stvit_swin`` STViT in it and ``micro_stvit_r_swin`` STViT-R, each
with the same stem and stages. They keep the papers' proportions: all but three layers are in stage 3,
whose map of 8 × 8 is four windows; w_s = 2 where the paper has 3 of 7; STViT-R has units of (1, 2, 2, 1).
Images may have any size, so that they are backbones for detection and segmentation too.
"""

from __future__ import annotations

from stvit.models.registry import STAGES, register, swin_cfg
from stvit.models.stvit_swin import STViTRSwin, STViTSwin
from stvit.models.swin import AnySizeSwin, ConvStem


class HalvingStem(ConvStem):
    """The convolutional stem of STViT-Swin, which halves the image once."""

    strides = (2, 1)


TRUNK = dict(
    img_size=64, patch_size=2, window_size=4, embed_dim=16, depths=(1, 1, 12, 1), num_heads=(1, 2, 4, 8),
    mlp_ratio=3, embed_layer=HalvingStem, always_partition=True, strict_img_size=False,
)  # fmt: skip
SEMANTIC = dict(semantic_window=2, key_windows=(6, 8))  # 10 and 14 for windows of 7


class DenseSwin(AnySizeSwin):
    """The trunk with nothing left out.

    mask_padding: padding takes no part in window attention
    """

    def __init__(self, mask_padding: bool = True, **choices: object):
        super().__init__(**{**TRUNK, **choices})
        self.adopt_blocks(mask_padding)


FAMILY: dict[str, tuple[type[AnySizeSwin], dict]] = {
    "micro_swin": (DenseSwin, {}),
    "micro_stvit_swin": (STViTSwin, SEMANTIC),
    "micro_stvit_r_swin": (STViTRSwin, SEMANTIC),
}
CFG = swin_cfg(input_size=(3, 64, 64), pool_size=(4, 4), num_classes=12, mean=(0.5,) * 3, std=(0.5,) * 3)

for _name, (_cls, _defaults) in FAMILY.items():
    register(
        _name,
        _cls,
        f"{_cls.__name__} for 64 × 64 images: {_defaults}.",
        CFG,
        out_indices=STAGES,
        **TRUNK,
        **_defaults,
    )
