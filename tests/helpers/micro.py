"""Models small enough to test by the dozen: the registered ones with few, narrow layers."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn

import stvit  # registers the models

VIT = dict(img_size=48, patch_size=8, embed_dim=48, depth=6, num_heads=3, num_classes=7)

# name → registered model and arguments; what runs over this table is a new model's test by its row.
MODELS: dict[str, tuple[str, dict]] = {
    "default": ("stvit_deit_tiny_patch16_224", dict(VIT, num_semantic_tokens=4, stgm_at=3)),
    "class token": (
        "stvit_deit_tiny_patch16_224",
        dict(VIT, num_semantic_tokens=9, stgm_at=2, class_token=True),
    ),
    "kept class token": (
        "stvit_deit_tiny_patch16_224",
        dict(VIT, num_semantic_tokens=4, stgm_at=3, class_token=True, global_pool="token"),
    ),
    "three STGM layers": (
        "stvit_deit_tiny_patch16_224",
        dict(VIT, num_semantic_tokens=4, stgm_at=3, stgm_layers=3),
    ),
    "not square": ("stvit_deit_tiny_patch16_224", dict(VIT, num_semantic_tokens=(2, 3), stgm_at=3)),
    **{
        f"pooling {name}": (
            "stvit_deit_tiny_patch16_224",
            dict(VIT, num_semantic_tokens=13 if name == "multi_scale" else 9, stgm_at=3, pooling=name),
        )
        for name in ("intra", "mean", "max", "overlap", "multi_scale")
    },
    **{
        f"initialization {name}": (
            "stvit_deit_tiny_patch16_224",
            dict(VIT, num_semantic_tokens=4, stgm_at=3, initialization=name),
        )
        for name in ("spatial", "global", "learned")
    },
    **{
        f"position {name}": (
            "stvit_deit_tiny_patch16_224",
            dict(VIT, num_semantic_tokens=4, stgm_at=3, position=name),
        )
        for name in ("learned", "conditional", "relative")
    },
}


def build(row: str, **changes) -> nn.Module:
    name, args = MODELS[row]
    torch.manual_seed(0)
    return timm.create_model(name, **{**args, **changes}).eval()


def images(model: nn.Module, batch: int = 2, size: tuple[int, int] | None = None) -> Tensor:
    size = size or tuple(model.patch_embed.img_size)
    return torch.randn(batch, model.in_chans, *size, generator=torch.Generator().manual_seed(1))


__all__ = ["MODELS", "VIT", "build", "images", "stvit"]
