"""Rotary positions: queries and keys are turned by angles that are linear in a token's place.

So the mean of tokens' places has the mean of their angles, and a merged token is turned by the mean of what it is
made of. Angles are (1 or B, N, head_dim), of image tokens alone; class and register tokens in front are not turned.
"""

from __future__ import annotations

import torch
from torch import Tensor


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """x (B, heads, prefix + N, head_dim), channels i and i + head_dim / 2 turned together."""
    prefix = x.shape[2] - angles.shape[1]
    cos, sin = (
        angle[:, None].to(x.dtype) for angle in (angles.cos(), angles.sin())
    )  # (1 or B, 1, N, head_dim)
    image = x[:, :, prefix:]
    first, second = image.chunk(2, dim=3)
    image = image * cos + torch.cat([-second, first], dim=3) * sin
    return torch.cat([x[:, :, :prefix], image], dim=2) if prefix else image
