"""Drafts: models that have names and shapes only, to compare with a file before anything is allocated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

RANDOM = ("normal_", "uniform_", "erfinv_", "kaiming_uniform_")
WRITES = frozenset((*RANDOM, "mul_", "add_", "clamp_", "copy_", "fill_", "zero_", "constant_"))


class Unwritten(TorchFunctionMode):
    """Leaves out what writes numbers into a tensor that holds none: most of the time that a draft would take."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in WRITES:
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)


@contextmanager
def drafting() -> Iterator[None]:
    """Models that are created inside are drafts."""
    with torch.device("meta"), Unwritten():
        yield
