"""A photograph, what a trained model attends to in it, and the tokens that are left: the first thing to see.

first_look(open_pretrained("dinov2_small"), photo("chelsea", 196))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

import stvit
from analysis import style
from analysis.images import normalised
from analysis.panels import INCHES, blank, overlay
from analysis.shared.token_maps import token_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.shared.models import Subject

METHODS = {"BAT": dict(method="bat", keep_rate=0.5), "ToMe": dict(method="tome", r=12)}


def first_look(
    subject: Subject, *pictures: np.ndarray, methods: dict[str, dict] = METHODS, side: float = INCHES
) -> Figure:
    """A row a photograph: the photograph, class attention in the last layers, and each method's tokens at the end.

    side: of a panel, in inches, at most
    """
    images = normalised(np.stack(pictures), subject.model)
    grid = tuple(subject.model.patch_embed.dynamic_feat_size(images.shape[-2:]))
    maps = class_attention(subject.model, images, layers=(-2, -1))
    left = {
        name: labels(stvit.sparsify(subject.model, **choices).eval(), images)
        for name, choices in methods.items()
    }
    depth = len(subject.model.blocks)
    names = ["photograph", *(f"class attention,\nlayer {depth + layer + 1}" for layer in maps)]
    with style.house_style():
        columns = len(names) + len(left)
        side = min(style.PAGE / columns, side)
        fig, axes = style.figure(
            side * columns, side * len(pictures) + 0.45, len(pictures), columns, squeeze=False
        )
        for row, (picture, line) in enumerate(zip(pictures, axes, strict=True)):
            line[0].imshow(picture)
            blank(line[0], names[0] if row == 0 else "")
            for ax, name, found in zip(line[1:], names[1:], maps.values(), strict=False):
                overlay(ax, picture, found[row], grid, name if row == 0 else "")
            for ax, (name, (holds, tokens)) in zip(line[len(names) :], left.items(), strict=True):
                title = f"{grid[0] * grid[1]} tokens become\n{tokens}: {name}"
                token_map(ax, picture, holds[row], grid, title if row == 0 else "")
    return fig


def class_attention(model: nn.Module, images: Tensor, layers: tuple[int, ...]) -> dict[int, Tensor]:
    """Layer (counted from the end) → (B, N), what the class token attends to, the mean over heads."""
    with torch.inference_mode(), stvit.record(model, assignments=False) as maps:
        model(images)
    prefix, depth = model.num_prefix_tokens, len(model.blocks)
    return {layer: maps[f"blocks.{depth + layer}.attn"].mean(1)[:, 0, prefix:] for layer in layers}


def labels(model: nn.Module, images: Tensor) -> tuple[Tensor, int]:
    """After all reductions: the token that each patch is in, −1 where it was dropped (B, N), and their number."""
    with torch.inference_mode(), stvit.record(model, attention=False) as maps:
        model(images)
    *_, held = model.held(maps).values()  # (B, M, N)
    best, label = held.max(dim=1)
    return torch.where(best > 0, label, -1), held.shape[1]
