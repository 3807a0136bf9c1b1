"""Models made ready for inference: the same function, faster, and no longer for training.

    fast = stvit.optimize(model)  # a copy; the model itself stays as it is

On a CPU with AVX-512, linear layers are packed: oneDNN lays their weights out once, as its kernels want them.
With AVX2 alone this costs time, and nothing is packed. A packed model runs and does nothing else: saving, copying
or converting it is refused, since its weights are gone; do that with the model it was made from. Any model of timm
can be optimised, the dense ones too: compare like with like.

``python -m analysis.throughput.tricks`` measures what this pays. Further tricks were measured and are not here,
since they pay less than 2 % of the time: BatchNorm in the convolution before it, GELU as a part of the packed
product (with AVX2 a loss), a constant G·W_q, and LayerNorm's scale and shift in the next layer's weights.
"""

from __future__ import annotations

from copy import deepcopy
from typing import NoReturn, SupportsIndex

import torch
from torch import Tensor, nn

from stvit.fast.token_linear import TokenLinear


def refuse(what: str) -> NoReturn:
    raise RuntimeError(
        f"a model with packed weights cannot be {what}: do that with the model that optimize() was given, "
        "or optimize it with pack=False"
    )


class PackedLinear(nn.Module):
    """A linear layer whose weights are stored in the layout that oneDNN's kernels read.

    Rows are packed when they are first asked for; when all are, the original weights are freed.
    """

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.dtype = layer.weight.dtype
        self.weight: Tensor | None = layer.weight.detach()
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.packed: dict[tuple[int, int], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        return self.rows(x, 0, self.out_features)

    def rows(self, x: Tensor, first: int, last: int) -> Tensor:
        """x through the rows first … last−1 alone."""
        rows = first, last
        if rows not in self.packed and self.weight is not None:
            self.pack(self.weight, rows)
        if rows in self.packed:
            return self.product(x, rows)
        whole = (0, self.out_features)
        parts = [whole] if whole in self.packed else sorted(self.packed)
        return torch.cat([self.product(x, part) for part in parts], dim=-1)[..., first:last]

    def pack(self, weight: Tensor, rows: tuple[int, int]) -> None:
        self.packed[rows] = torch.ops.mkldnn._reorder_linear_weight(weight[slice(*rows)].contiguous())
        parts = sorted(self.packed)
        ends = [0, *(last for _, last in parts)]
        if rows == (0, self.out_features) or [*(first for first, _ in parts), self.out_features] == ends:
            self.weight = None

    def product(self, x: Tensor, rows: tuple[int, int]) -> Tensor:
        bias = None if self.bias is None else self.bias[slice(*rows)]
        return torch.ops.mkldnn._linear_pointwise(x.to(self.dtype), self.packed[rows], bias, "none", [], "")

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}"

    def __deepcopy__(self, memo: dict) -> NoReturn:
        refuse("copied")

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse("pickled")

    def _save_to_state_dict(self, *args) -> NoReturn:
        refuse("saved")

    def _apply(self, fn, recurse: bool = True) -> PackedLinear:
        before = torch.empty(0, dtype=self.dtype)
        after = fn(before)
        if (after.dtype, after.device) != (before.dtype, before.device):
            refuse(f"converted to {after.dtype} on {after.device}")
        return self


def optimize(model: nn.Module, pack: bool | None = None) -> nn.Module:
    """A copy of ``model`` for inference alone.

    pack: pack linear layers (default: where the processor has AVX-512)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"optimize takes a model (torch.nn.Module), not {model!r}")
    if model.training:
        raise ValueError("only a model in evaluation mode can be optimised: call model.eval() first")
    fast = deepcopy(model).requires_grad_(False)
    if packing_pays() if pack is None else pack:
        pack_linear(fast)
    return fast


def packing_pays() -> bool:
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def pack_linear(model: nn.Module) -> None:
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) in (nn.Linear, TokenLinear) and packable(layer):
                setattr(parent, name, PackedLinear(layer))


def packable(layer: nn.Linear) -> bool:
    """Whether oneDNN is here and has kernels for the weights' type on this processor."""
    if layer.weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if layer.weight.dtype is torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return layer.weight.dtype is torch.float32
