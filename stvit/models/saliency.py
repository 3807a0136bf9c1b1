"""A head for dense output: from patch tokens to a map of what stands out in an image."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class SaliencyHead(nn.Module):
    """A map of patch tokens → how much each pixel stands out, in [0, 1].

    Three transposed convolutions, each twice the size (BatchNorm, ReLU), 1 × 1 to one channel, up to the
    image's size, sigmoid.
    """

    def __init__(self, widths: tuple[int, ...] = (384, 256, 128, 64)):
        super().__init__()
        for i, (before, after) in enumerate(pairwise(widths), 1):
            self.add_module(f"upconv{i}", nn.ConvTranspose2d(before, after, 4, stride=2, padding=1))
            self.add_module(f"bn{i}", nn.BatchNorm2d(after))
        self.final_conv = nn.Conv2d(widths[-1], 1, 1)
        self.steps = len(widths) - 1

    def forward(self, patches: Tensor, size: tuple[int, int]) -> Tensor:
        """patches: (B, C, h, w) after the model's last norm; size: of the image → (B, height, width)."""
        x = patches
        for i in range(1, self.steps + 1):
            x = F.relu(getattr(self, f"bn{i}")(getattr(self, f"upconv{i}")(x)))  # (B, C_i, 2^i h, 2^i w)
        x = F.interpolate(self.final_conv(x), size, mode="bilinear", align_corners=False)
        return x.sigmoid().squeeze(1)  # (B, height, width)
