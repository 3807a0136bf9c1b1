"""When a layer is free to choose its way: in inference on a CPU, where nobody sees more than the outcome."""

from __future__ import annotations

import torch
from torch import Tensor


def plain_inference(x: Tensor) -> bool:
    """On a CPU, without gradients, eagerly or in a graph of torch.compile.

    Dispatch modes, such as torch's FLOP counter, and exported graphs see the layer as the papers define it.
    """
    if torch.is_grad_enabled() or x.device.type != "cpu" or torch.jit.is_tracing():
        return False
    if torch.compiler.is_compiling():
        return not torch.compiler.is_exporting()
    return torch._C._len_torch_dispatch_stack() == 0


def surely(condition: bool | torch.SymBool) -> bool:
    """A condition on sizes; in a graph made for many sizes, only if it holds for them all."""
    if not torch.compiler.is_compiling():
        return condition
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return statically_known_true(condition)
