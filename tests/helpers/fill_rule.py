"""Weights by rule: a model filled from the names and shapes of its parameters alone.

Reference outputs were made with weights that anybody can make again: each tensor is drawn with a
generator seeded by the CRC-32 of its name in the reference implementation, and scaled by what the
name says it is. Comparing outputs under that rule compares architectures without any checkpoint.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def draw(name: str, like: Tensor) -> Tensor | None:
    """The value of the entry ``name``; None for what keeps the value it was built with."""
    kind = name.rpartition(".")[2]
    if not like.is_floating_point() or kind == "attn_mask":
        return None
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randn(tuple(like.shape), generator=generator, dtype=torch.float32)
    if kind == "running_mean" or kind == "bias":
        return noise * 0.1
    if kind == "running_var":
        return 1 + 0.1 * noise.abs()
    if kind.startswith(("layer_scale", "gamma")):
        return 0.5 + 0.1 * noise
    if kind == "weight":
        return noise / math.sqrt(noise[0].numel()) if noise.ndim > 1 else 1 + 0.1 * noise
    return noise * 0.2  # class tokens, positions, tables of relative positions


@torch.no_grad()
def fill_state(model: nn.Module, keymap: Mapping[str, str] | None = None) -> nn.Module:
    """Fill ``model`` in place and set it to eval; ``keymap``: own name → the reference's name."""
    for name, value in model.state_dict().items():
        new = draw(name if keymap is None else keymap.get(name, name), value)
        if new is not None:
            value.copy_(new)
    return model.eval()


def make_input(shape: tuple[int, ...] = (2, 3, 224, 224), seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
