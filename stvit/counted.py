"""What a call costs: multiply-adds, counted by torch as it runs, and seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

from stvit.fast.when import enabled


def multiply_adds(call: Callable, *args, **kwargs) -> int:
    """Of all matrix products, convolutions and attentions in ``call(*args, **kwargs)``."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), enabled(False), FlopCounterMode(display=False) as counter:
        call(*args, **kwargs)
    return counter.get_total_flops() // 2


def seconds(call: Callable, *args, repeats: int = 5, **kwargs) -> float:
    """The median over ``repeats`` calls, after one that does not count."""
    taken = []
    with torch.no_grad():
        for _ in range(repeats + 1):
            synchronize()
            start = time.perf_counter()
            call(*args, **kwargs)
            synchronize()
            taken.append(time.perf_counter() - start)
    return median(taken[1:])


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
