"""What a part takes with a single row: its weights are read, and little else is done.

However few tokens are left, a layer's weights are read from memory, and its products are called one by one. What that
alone takes is the time of the same products with a single row. Where it is more than the part's FLOPs would take at
the dense model's rate, fewer tokens save little more: this is what stands in the way of a small batch.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def products(model: nn.Module, parts: dict[str, str]) -> list[tuple[str, Tensor]]:
    """(part, weights) of every linear layer, in the model's order; ``parts``: part of each module, by its name."""
    from torch import nn

    found = []
    for name, module in model.named_modules():
        outer = [part for part in parts if name == part or name.startswith(f"{part}.")]
        if isinstance(module, nn.Linear) and outer:
            found.append((parts[max(outer, key=len)], module.weight))
    return found


def one_row(found: list[tuple[str, Tensor]], watch) -> Counter:
    """Seconds of each part's products with one row; ``watch`` is a ``roofline.Stopwatch``."""
    import torch
    import torch.nn.functional as F

    rows = [weight.new_ones(1, weight.shape[1]) for _, weight in found]
    with torch.inference_mode():
        for (part, weight), row in zip(found, rows, strict=True):
            watch.timed(part, F.linear)(row, weight)
    return watch.spent
