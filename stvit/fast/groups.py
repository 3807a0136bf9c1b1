"""Batches in groups: without gradients, a CPU runs a layer on as many images at a time as its cache holds.

The widest activation of a layer, four times the tokens, is written and read again at once. For a whole batch
it goes through main memory, in pages that the system clears anew for each layer; for a group of images it
stays in the cache. Images do not see each other, so the outcome is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import torch
from torch import Tensor, nn

from stvit.fast.when import plain_inference

FFN, POOLING = 4, 16  # what a layer works on, by its tokens: a hidden layer, or windows in a dozen steps
GROUP = 16 * 2**20  # bytes that a group works on; from 8 to 32 MiB make little difference


def in_groups(layer: nn.Module, forward: Callable[..., Tensor], *tokens: Tensor, width: int = FFN) -> Tensor:
    """``forward(*tokens)``, for a group of images at a time where that is faster and nobody can tell."""
    size = group_size(layer, tokens[0], width)
    if size is None:
        return forward(*tokens)
    return torch.cat([forward(*part) for part in zip(*(x.split(size) for x in tokens), strict=True)])


def group_size(layer: nn.Module, x: Tensor, width: int = FFN) -> int | None:
    """Images in a group, or None for the whole batch: on a GPU, with gradients, in a graph, under hooks."""
    if x.shape[0] == 1 or torch.compiler.is_compiling() or not plain_inference(x):
        return None
    size = max(1, GROUP // (width * x[0].numel() * x.element_size()))
    if size >= x.shape[0] or watched(layer):
        return None
    return ceil(x.shape[0] / ceil(x.shape[0] / size))  # groups of one size, as far as it goes


def watched(layer: nn.Module) -> bool:
    """Somebody hooked the layer or a part of it, and is to see the batch in one piece."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in layer.modules())
