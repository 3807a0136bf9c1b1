"""How alike two maps are."""

from __future__ import annotations

import torch
from torch import Tensor


def correlation(one: Tensor, two: Tensor) -> Tensor:
    """Pearson's, row by row; 0 where a row is constant."""
    one, two = (row - row.mean(dim=1, keepdim=True) for row in (one.double(), two.double()))
    norms = one.norm(dim=1) * two.norm(dim=1)
    return torch.where(norms > 1e-12, (one * two).sum(dim=1) / norms.clamp_min(1e-12), 0.0).float()
