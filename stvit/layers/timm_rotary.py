"""The angles of timm's rotary positions at each place of a grid: (N, head_dim / 2), or places where layers differ."""

from __future__ import annotations

import math

import torch
from timm.layers import (
    RotaryEmbeddingCat,
    RotaryEmbeddingDinoV3,
    RotaryEmbeddingMixed,
    RotaryEmbeddingMRope,
    build_fourier_pos_embed,
)
from timm.layers.pos_embed_sincos import get_mixed_grid, make_coords_dinov3
from torch import Tensor, nn

from stvit.layers.windows import Grid


def angles_of(rope: nn.Module, grid: Grid) -> Tensor:
    """Angles that are linear in a token's place, so that they can be averaged; of ``mixed`` ones places (N, 2)."""
    if isinstance(rope, RotaryEmbeddingDinoV3):
        places = make_coords_dinov3(
            *grid, rope.normalize_coords, rope.grid_indexing, rope.grid_offset
        )  # (N, 2)
        places = places[:, :, None].to(device=rope.periods.device, dtype=rope.periods.dtype)
        return (2 * math.pi * places / rope.periods).flatten(1)
    if isinstance(rope, RotaryEmbeddingCat):
        places = build_fourier_pos_embed(
            list(grid),
            bands=rope.bands[:1],
            include_grid=True,
            in_pixels=rope.in_pixels,
            ref_feat_shape=rope.ref_feat_shape,
            grid_offset=rope.grid_offset,
            grid_indexing=rope.grid_indexing,
            grid_type=rope.grid_type,
            normalize_coords=rope.normalize_coords,
        )[0]  # (h, w, 2, 1)
        return (places * rope.bands).flatten(2).flatten(0, 1)
    places = torch.stack(
        get_mixed_grid(list(grid), rope.grid_indexing, BUFFER[type(rope)](rope).device), dim=1
    )
    if isinstance(rope, RotaryEmbeddingMixed):
        return places
    places = torch.cat([torch.zeros_like(places[:, :1]), places], dim=1)  # (N, 3): time, row, column
    return places[:, rope.axis] * rope.inv_freq


BUFFER = {RotaryEmbeddingMixed: lambda rope: rope.freqs, RotaryEmbeddingMRope: lambda rope: rope.inv_freq}
KNOWN = (RotaryEmbeddingDinoV3, RotaryEmbeddingCat, *BUFFER)
