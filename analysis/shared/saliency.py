"""What stands out in an image, as a trained head reads it from a map of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor, nn

BATCH = 100


@torch.inference_mode()
def read_saliency(head: nn.Module, maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """(n, N, C) → (n, H, W), at the size that the head's layers give, before it is made larger."""
    size = tuple(2**head.steps * side for side in grid)
    parts = (part.float().transpose(1, 2).unflatten(2, grid) for part in maps.split(BATCH))
    return torch.cat([head(part, size) for part in parts])


def salient_patches(saliency: Tensor, grid: tuple[int, int], share: float) -> Tensor:
    """(B, H, W) → (B, N) truth values, as many in each image."""
    means = F.adaptive_avg_pool2d(saliency[:, None], grid).flatten(1)  # (B, N)
    count = round(share * means.shape[1])
    return torch.zeros_like(means, dtype=torch.bool).scatter_(1, means.topk(count, dim=1).indices, True)
