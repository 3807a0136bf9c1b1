"""Run a layer on a few images at a time, so that its widest activation stays in the processor's cache.

That activation, four times the tokens, is written and read again at once. For a whole batch it travels
through main memory, in pages that the system clears anew for each layer. Images do not depend on each other,
so the results are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks

from stvit.fast.when import allowed, plain_inference

FFN, POOLING = 4, 16  # what a layer works on, by its tokens: a hidden layer, or windows in a dozen steps
GROUP = 16 * 2**20  # bytes that a group works on; from 8 to 32 MiB make little difference
GATHERED = 4 * 2**20  # bytes of keys and values that windows gather at once: their memory is used again


def in_groups(layer: Callable[..., Tensor], *tokens: Tensor, width: int = FFN, **settings) -> Tensor:
    """``layer(*tokens, **settings)``, a few images at a time where that is faster.

    layer: a module, or a method of one
    width: how many times the tokens' own size the layer works on
    """
    size = group_size(getattr(layer, "__self__", layer), tokens[0], width)
    if size is None:
        return layer(*tokens, **settings)
    parts = zip(*(x.split(size) for x in tokens), strict=True)
    return torch.cat([layer(*part, **settings) for part in parts])


def group_size(layer: nn.Module, x: Tensor, width: int = FFN) -> int | None:
    """Images in a group, or None for the whole batch: on a GPU, with gradients, in a graph, under hooks."""
    if x.shape[0] <= 1 or torch.compiler.is_compiling() or not plain_inference(x):
        return None
    size = max(1, GROUP // max(1, width * x[0].numel() * x.element_size()))
    if size >= x.shape[0] or watched(layer):
        return None
    return ceil(x.shape[0] / ceil(x.shape[0] / size))  # groups of one size, as far as possible


def watched(layer: nn.Module) -> bool:
    """A hook on the layer, on a part of it or on all modules: it is to see the batch in one piece."""
    if global_hooks._global_forward_hooks or global_hooks._global_forward_pre_hooks:
        return True
    return any(module._forward_hooks or module._forward_pre_hooks for module in layer.modules())


def windows_at_once(x: Tensor, count: int, size: int) -> int:
    """How many of ``count`` windows gather their keys and values, ``size`` bytes each, at a time."""
    if not allowed() or x.device.type != "cpu":
        return max(count, 1)
    return max(1, GATHERED // max(size, 1))
