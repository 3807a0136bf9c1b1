"""bfloat16 on a CPU where its kernels are slow: float32 products of numbers rounded to bfloat16.

A processor without bfloat16 instructions multiplies such matrices one number at a time, ten times as slow as in
float32. Where it has them, the gradients of fused attention alone are slow, two to five times. There the factors are
rounded to bfloat16, multiplied in float32, and the product is rounded again: what bfloat16 kernels compute, which add
up in float32 too, but for the order of the sums (and, within attention, the rounding of its map).

    with mixed_precision("cpu", "bf16"):
        features = model(images)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

ATTENTION = frozenset({F.scaled_dot_product_attention})
PRODUCTS = frozenset(
    {
        F.linear, F.scaled_dot_product_attention, F.conv1d, F.conv2d, F.conv3d, torch.conv1d, torch.conv2d,
        torch.conv3d, torch.matmul, torch.bmm, torch.mm, torch.addmm, torch.baddbmm, torch.einsum, Tensor.matmul,
        Tensor.__matmul__, Tensor.__rmatmul__, Tensor.bmm, Tensor.mm,
    }
)  # fmt: skip


def bfloat16_products() -> bool:
    """Whether this CPU multiplies matrices in bfloat16."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def to_bfloat16(x: Tensor) -> Tensor:
    """float32 numbers that bfloat16 has."""
    return x.bfloat16().float()


class RoundedProducts(TorchFunctionMode):
    """Under autocast of the CPU to bfloat16, the functions ``which`` multiply in float32."""

    def __init__(self, which: frozenset = PRODUCTS):
        super().__init__()
        self.which = which

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func not in self.which or not under_autocast():
            return func(*args, **(kwargs or {}))
        args, kwargs = tree_map(rounded, (args, kwargs or {}))
        with torch.autocast("cpu", enabled=False):
            return func(*args, **kwargs).bfloat16()


def under_autocast() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16


def rounded(value):
    return to_bfloat16(value) if isinstance(value, Tensor) and value.is_floating_point() else value


def fast_products(device: str, precision: str):
    """A context for computations under autocast: ``RoundedProducts`` for what would be slow without it."""
    if device != "cpu" or precision != "bf16":
        return nullcontext()
    return RoundedProducts(ATTENTION if bfloat16_products() else PRODUCTS)


@contextmanager
def mixed_precision(device: str, precision: str) -> Iterator[None]:
    """autocast to bfloat16 where ``precision`` is "bf16"."""
    with (
        torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"),
        fast_products(device, precision),
    ):
        yield
