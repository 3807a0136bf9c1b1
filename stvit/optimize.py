"""Models made ready for inference: the same function, faster, and no longer for training.

    fast = stvit.optimize(model)  # a copy; the model itself stays as it is

1. BatchNorm goes into the convolution before it.
2. On a CPU, linear layers are packed: oneDNN lays their weights out once, as its kernels want them.
3. The GELU behind a packed layer becomes a part of that layer's product.

A packed layer has no weights to save or to move to another device. Any model of timm can be optimised, the
dense ones too: compare like with like. ``python -m analysis.throughput.tricks`` measures what each pays, and what a
constant G·W_q, or LayerNorm's scale and shift in the next layer's weights, could pay at most: too little.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from timm.layers import BatchNormAct2d, ConvNormAct, Mlp
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stvit.token_linear import TokenLinear

Trick = Callable[[nn.Module], None]


class PackedLinear(nn.Module):
    """A linear layer whose weights lie as oneDNN's kernels read them; ``act`` is "none" or "gelu".

    Rows are packed when they are first asked for; when all are, the weights as they were are let go.
    """

    def __init__(self, layer: nn.Linear, act: str = "none"):
        super().__init__()
        self.in_features, self.out_features, self.act = layer.in_features, layer.out_features, act
        self.dtype, self.weight = layer.weight.dtype, layer.weight.detach()
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.packed: dict[tuple[int, int], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        return self.rows(x, 0, self.out_features)

    def rows(self, x: Tensor, first: int, last: int) -> Tensor:
        """x through the rows first … last−1 alone."""
        rows = first, last
        if rows not in self.packed and self.weight is not None:
            self.pack(rows)
        if rows in self.packed:
            return self.product(x, rows)
        whole = (0, self.out_features)
        parts = [whole] if whole in self.packed else sorted(self.packed)
        return torch.cat([self.product(x, part) for part in parts], dim=-1)[..., first:last]

    def pack(self, rows: tuple[int, int]) -> None:
        weight = self.weight[slice(*rows)].contiguous()
        self.packed[rows] = torch.ops.mkldnn._reorder_linear_weight(weight)
        parts = sorted(self.packed)
        ends = [0, *(last for _, last in parts)]
        if rows == (0, self.out_features) or [*(first for first, _ in parts), self.out_features] == ends:
            self.weight = None

    def product(self, x: Tensor, rows: tuple[int, int]) -> Tensor:
        bias = None if self.bias is None else self.bias[slice(*rows)]
        approximate = "none" if self.act == "gelu" else ""
        return torch.ops.mkldnn._linear_pointwise(
            x.to(self.dtype), self.packed[rows], bias, self.act, [], approximate
        )

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, act={self.act}"


def optimize(model: nn.Module, tricks: tuple[str, ...] | None = None) -> nn.Module:
    """A copy of ``model`` with the chosen ``tricks`` (default: all of TRICKS), for inference alone."""
    if model.training:
        raise ValueError("only a model in evaluation mode can be optimised: call model.eval() first")
    unknown = sorted(set(tricks or ()) - set(TRICKS))
    if unknown:
        raise ValueError(f"unknown trick {unknown[0]!r}; choose from {', '.join(TRICKS)}")
    fast = deepcopy(model).requires_grad_(False)
    for name in TRICKS if tricks is None else tricks:
        TRICKS[name](fast)
    return fast


def fold_norms(model: nn.Module) -> None:
    """BatchNorm into the convolution before it; an activation that stands in one module with it stays."""
    for parent in list(model.modules()):
        if isinstance(parent, ConvNormAct) and isinstance(parent.bn, BatchNormAct2d):
            norm = parent.bn
            parent.conv = fuse_conv_bn_eval(parent.conv, norm)
            parent.bn = nn.Sequential(norm.drop, norm.act)
        elif isinstance(parent, nn.Sequential):
            for i in range(len(parent) - 1):
                if isinstance(parent[i], nn.Conv2d) and type(parent[i + 1]) is nn.BatchNorm2d:
                    parent[i] = fuse_conv_bn_eval(parent[i], parent[i + 1])
                    parent[i + 1] = nn.Identity()


def pack_linear(model: nn.Module) -> None:
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) in (nn.Linear, TokenLinear) and packable(layer):
                setattr(parent, name, PackedLinear(layer))


def fuse_gelu(model: nn.Module) -> None:
    """GELU into the packed layer before it; without ``pack_linear`` there is none."""
    for mlp in model.modules():
        exact = isinstance(mlp, Mlp) and isinstance(mlp.act, nn.GELU) and mlp.act.approximate == "none"
        if exact and isinstance(mlp.fc1, PackedLinear):
            mlp.fc1.act, mlp.act = "gelu", nn.Identity()


def packable(layer: nn.Linear) -> bool:
    """Whether oneDNN is here and has kernels for the weights' type on this processor."""
    if layer.weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if layer.weight.dtype is torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return layer.weight.dtype is torch.float32


TRICKS: dict[str, Trick] = {"fold_norms": fold_norms, "pack_linear": pack_linear, "fuse_gelu": fuse_gelu}
