"""Plane figures as signed distances: negative inside, in pixels, about πr² in area for each radius r."""

from __future__ import annotations

import torch
from torch import Tensor


def disk(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    return torch.hypot(x, y) - r


def square(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.886 * r


def triangle(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    return torch.maximum(0.866 * x.abs() + 0.5 * y, -y) - 0.78 * r


def cross(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    x, y, long, wide = x.abs(), y.abs(), 1.18 * r, 0.45 * r
    upright, level = torch.maximum(x - wide, y - long), torch.maximum(x - long, y - wide)
    return torch.minimum(upright, level)


SHAPES = {"disk": disk, "square": square, "triangle": triangle, "cross": cross}


def distances(kind: Tensor, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """(B, H, W) distances to one figure an image, its kind an index into SHAPES (B,)."""
    all_kinds = torch.stack([shape(x, y, r) for shape in SHAPES.values()])  # (kinds, B, H, W)
    return all_kinds[kind, torch.arange(len(kind), device=kind.device)]
