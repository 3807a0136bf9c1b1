"""Class probabilities of images of any size, averaged over scales and mirror images where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # those of the paper's Table 12


@torch.no_grad()
def predict(
    model: nn.Module,
    images: Tensor,
    size: tuple[int, int] | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> Tensor:
    """Probabilities (B, classes, *size) of images (B, 3, H, W), by the model as it is (set ``eval`` before).

    size: of the map; by default that of the images
    scales: the images are seen at each of these sizes, and the probabilities averaged
    flip: the mirror images too
    """
    if not scales or min(scales) <= 0:
        raise ValueError(f"scales must be positive numbers, at least one; not {tuple(scales)}")
    size = tuple(images.shape[2:]) if size is None else tuple(size)
    total, views = 0, 0
    for scale in scales:
        seen = rescale(images, scale)
        for mirrored in (False, True) if flip else (False,):
            logits = model(seen.flip(3) if mirrored else seen).logits.float()  # (B, classes, h, w)
            logits = logits.flip(3) if mirrored else logits
            if tuple(logits.shape[2:]) != size:
                logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
            total, views = total + logits.softmax(1), views + 1
    return total / views


def rescale(images: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return images
    size = [max(1, round(side * scale)) for side in images.shape[2:]]
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=scale < 1)
