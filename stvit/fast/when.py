"""Guards for the CPU short cuts: off under autograd, tracing, transforms and dispatch modes, and in exported graphs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_enabled, _in_exports = True, False


@contextmanager
def enabled(flag: bool) -> Iterator[None]:
    """Allow the short cuts inside the block, or forbid them; for the whole process, not for one thread."""
    global _enabled
    before, _enabled = _enabled, bool(flag)
    try:
        yield
    finally:
        _enabled = before


@contextmanager
def in_exports() -> Iterator[None]:
    """Graphs that are exported inside the block have the short cuts that hold for every batch: they are for a CPU."""
    global _in_exports
    before, _in_exports = _in_exports, True
    try:
        yield
    finally:
        _in_exports = before


def allowed() -> bool:
    """What the switch says."""
    return _enabled


def plain_inference(x: Tensor) -> bool:
    """On a CPU, without gradients, eagerly or in a graph of torch.compile.

    Dispatch modes (torch's FLOP counter is one), functorch's transforms (vmap, jvp) and exported graphs, unless
    made ``in_exports``, see each layer as its class defines it.
    """
    if not _enabled or torch.is_grad_enabled() or x.device.type != "cpu" or torch.jit.is_tracing():
        return False
    if torch.compiler.is_compiling():
        return _in_exports or not torch.compiler.is_exporting()
    return torch._C._len_torch_dispatch_stack() == 0 and not under_transform()


def under_transform() -> bool:
    """Inside torch.func's vmap, grad, jvp and the like."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def surely(condition: bool | torch.SymBool) -> bool:
    """A condition on sizes; in a graph made for many sizes, only if it holds for all of them."""
    if not torch.compiler.is_compiling():
        return condition
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return statically_known_true(condition)
