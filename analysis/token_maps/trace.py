"""Where each patch of an image is after each layer, from the assignments that ``stvit.record`` notes."""

from __future__ import annotations

import re
from typing import NamedTuple

import torch
from torch import Tensor, nn

import stvit

DROPPED = -1


class ReductionStage(NamedTuple):
    """After one reduction: ``labels`` (B, N) say which of the ``tokens`` holds each patch, −1 if none does.

    shares: (B, M, N) how much of each token comes from each patch, rows sum to 1
    """

    layer: int
    grid: tuple[int, int]
    shares: Tensor

    @property
    def tokens(self) -> int:
        return self.shares.shape[1]

    @property
    def labels(self) -> Tensor:
        """A patch that has a part in several tokens goes to the one that takes most of it."""
        best, label = self.shares.max(dim=1)
        return torch.where(best > 0, label, DROPPED)


def follow(model: nn.Module, images: Tensor) -> list[ReductionStage]:
    """A stage for each layer that reduces tokens; semantic tokens are assigned the patches they look at."""
    if not any(hasattr(module, "assignment") for module in model.modules()):
        raise ValueError(
            f"{type(model).__name__} reduces no tokens, so there is nothing to follow; sparsify it first, such as "
            'with stvit.sparsify(model, method="tome") or --method tome'
        )
    with torch.inference_mode(), stvit.record(model, attention=False) as maps:
        model(images)
    found = model.held(maps) if hasattr(model, "reductions") else looked_at(maps)
    if not found:
        raise ValueError(f"{type(model).__name__} reduces no tokens: nothing to follow")
    layers = sorted(found)
    grid = _grid(model, images, found[layers[0]].shape[2])
    return [ReductionStage(layer, grid, found[layer]) for layer in layers]


def looked_at(maps: dict[str, Tensor]) -> dict[int, Tensor]:
    """Layer → (B, M, N): STGM layers all look at the image's own tokens; of a Swin, in its third stage."""
    found = {}
    for name, assignment in maps.items():
        match = re.fullmatch(r"(?:layers\.2\.)?blocks\.(\d+)\.assignment", name)
        if match:
            found[int(match[1]) + 1] = assignment
    return found


def _grid(model: nn.Module, images: Tensor, count: int) -> tuple[int, int]:
    if hasattr(model, "layers"):  # a Swin's third stage, after two mergings
        grid = tuple(-(-side // (4 * model.patch_embed.patch_size[0])) for side in images.shape[-2:])
    else:
        grid = tuple(model.patch_embed.dynamic_feat_size(images.shape[-2:]))
    if grid[0] * grid[1] != count:
        raise ValueError(
            f"the map {grid} of {type(model).__name__} is padded to {count} tokens; choose another image size"
        )
    return grid
