"""Linear layers for the few semantic tokens of an image or two.

A CPU multiplies a matrix of few rows by the weights slowly; the transposed product, weights times a matrix of
few columns, is up to twice as fast. From about 64 tokens on the two take the same time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stvit.fast.when import plain_inference, surely
from stvit.surgery import recast

FEW = 64


def linear_rows(layer: nn.Module, x: Tensor, first: int, last: int) -> Tensor:
    """x through the rows first … last−1 of a linear layer, by the layer's own ``rows`` where it has them."""
    if hasattr(layer, "rows"):
        return layer.rows(x, first, last)
    if hasattr(layer, "base_layer"):  # an adapter of peft's, whose own weight is the base's alone
        return layer(x)[..., first:last]
    bias = None if layer.bias is None else layer.bias[first:last]
    return F.linear(x, layer.weight[first:last], bias)


class TokenLinear(nn.Linear):
    """nn.Linear; (W xᵀ)ᵀ + b where x holds at most FEW tokens on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return few_times(x, self.weight, self.bias) if few(x) else super().forward(x)

    def rows(self, x: Tensor, first: int, last: int) -> Tensor:
        """x through the rows first … last−1 alone."""
        weight, bias = self.weight[first:last], None if self.bias is None else self.bias[first:last]
        return few_times(x, weight, bias) if few(x) else F.linear(x, weight, bias)


def few(x: Tensor) -> bool:
    """x (..., C) holds at most FEW tokens, in inference on a CPU."""
    return plain_inference(x) and surely(x.numel() <= FEW * x.shape[-1])


def few_times(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.linear by the transposed product; the result is contiguous, as the next layer wants it."""
    y = F.linear(weight, x.reshape(-1, x.shape[-1])).t()  # (tokens, C'), as it lies (C', tokens)
    if bias is None:
        return y.reshape(*x.shape[:-1], len(weight))
    out = y.new_empty(*x.shape[:-1], len(weight))
    torch.add(y, bias, out=out.view(y.shape))
    return out  # (..., C')


def for_few_tokens(layer: nn.Module) -> nn.Module:
    """``layer`` with TokenLinear in place of nn.Linear; the parameters stay where they are."""
    return _with_linear(layer, nn.Linear, TokenLinear)


def for_many_tokens(layer: nn.Module) -> nn.Module:
    """What ``for_few_tokens`` did, undone."""
    return _with_linear(layer, TokenLinear, nn.Linear)


def _with_linear(layer: nn.Module, old: type[nn.Linear], new: type[nn.Linear]) -> nn.Module:
    if type(layer) is old:
        return recast(layer, new)
    layer = recast(layer, type(layer))
    for name, part in layer.named_children():
        setattr(layer, name, _with_linear(part, old, new))
    return layer
