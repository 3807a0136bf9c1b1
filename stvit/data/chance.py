"""Random numbers by address: a pure function of (seed, split, stream, index, place), on any device.

Nothing is drawn in order, so that image 17 is image 17 whichever images were made before it, in
batches of any size, by any number of processes. Integer arithmetic is the same on every device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MASK = 0xFFFFFFFF


def mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit numbers, held in int64, each of whose output bits depends on all input bits."""
    x = (x ^ (x >> 16)) * 0x7FEB352D & MASK
    x = (x ^ (x >> 15)) * 0x846CA68B & MASK
    return x ^ (x >> 16)


def uniform(seed: int, split: int, stream: int, index: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Numbers in [0, 1), (B, *shape) for B image numbers, in steps of 2⁻²⁴."""
    key = torch.tensor(seed & MASK, device=index.device)
    for part in (split, stream):
        key = mix((key + 0x9E3779B9 * (part + 1)) & MASK)
    rows = mix((key + index.to(torch.int64) * 0x85EBCA6B) & MASK)  # (B,)
    places = torch.arange(math.prod(shape), device=index.device)
    bits = mix(mix((rows[:, None] + places * 0xC2B2AE35) & MASK) ^ rows[:, None])  # (B, places)
    return ((bits >> 8).to(torch.float32) / 2**24).reshape(len(index), *shape)
