"""Semantic tokens in windows, small: registered models with few, narrow layers."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn

import stvit

SWIN = dict(embed_dim=16, depths=(2, 2, 6, 2), num_heads=(1, 2, 4, 8))
IMAGE = (224, 224)
SMALL = (96, 120)  # a stage 3 of 6 × 8 tokens: one window and a bit

MICRO: dict[str, tuple[str, dict]] = {
    "swin": ("stvit_swin_tiny_patch4_window7_224", {}),
    "swin earlier": ("stvit_swin_tiny_patch4_window7_224", dict(base_depth=1, semantic_window=2)),
    "swin intra pooling": ("stvit_swin_tiny_patch4_window7_224", dict(pooling="intra")),
    "swin X as keys": ("stvit_swin_tiny_patch4_window7_224", dict(stgm_keys="image", pooling="max")),
    "swin G alone": ("stvit_swin_tiny_patch4_window7_224", dict(initialization="global")),
    "swin G as keys": ("stvit_swin_tiny_patch4_window7_224", dict(initialization="learned")),
    "swin learned positions": ("stvit_swin_tiny_patch4_window7_224", dict(position="learned")),
    "swin conditional positions": ("stvit_swin_tiny_patch4_window7_224", dict(position="conditional")),
    "swin relative positions": ("stvit_swin_tiny_patch4_window7_224", dict(position="relative")),
    "recovery, relative positions": (
        "stvit_r_swin_small_patch4_window7_224",
        dict(position="relative", initialization="learned"),
    ),
    "recovery": ("stvit_r_swin_small_patch4_window7_224", {}),
    "recovery, two units": (
        "stvit_r_swin_small_patch4_window7_224",
        dict(units=((1, 1, 0, 1), (0, 2, 0, 1)), reuse=True),
    ),
    "recovery without units": ("stvit_r_swin_small_patch4_window7_224", dict(units=((2, 2, 1, 1),))),
    "released": ("stvit_r_swin_small_patch4_window7_224.released", {}),
    "released detection": ("stvit_r_swin_small_patch4_window7_224.released_detection", {}),
    "released detection mask": (
        "stvit_r_swin_small_patch4_window7_224.released_detection",
        dict(border="released"),
    ),
}


def build(row: str, **changes) -> nn.Module:
    name, args = MICRO[row]
    torch.manual_seed(0)
    return timm.create_model(name, **{**SWIN, "num_classes": 7, **args, **changes}).eval()


def images(size: tuple[int, int] = SMALL, batch: int = 2, channels: int = 3) -> Tensor:
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(1))


__all__ = ["IMAGE", "MICRO", "SMALL", "SWIN", "build", "images", "stvit"]
