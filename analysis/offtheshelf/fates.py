"""What became of each patch, against where the dense model sees something that stands out.

A patch is salient if it is among the fifth of an image's patches where the dense model's saliency is highest.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

DROPPED = -1


def labels_of(assignment: Tensor | None, count: int, batch: int) -> Tensor:
    """(B, M, N) shares of patches in tokens → (B, N): the token that takes most of a patch, −1 if none does."""
    if assignment is None:
        return torch.arange(count).expand(batch, -1)
    best, label = assignment.max(dim=1)
    return torch.where(best > 0, label, DROPPED)


def sizes_of(labels: Tensor, tokens: int) -> Tensor:
    """(B, N): how many patches are in the token that each patch is in; 0 if it was dropped."""
    sizes = F.one_hot(labels + 1, tokens + 1).sum(1)  # (B, 1 + M), the dropped ones first
    return torch.where(labels >= 0, sizes.gather(1, labels + 1), 0)


def fate(labels: Tensor, tokens: int, salient: Tensor) -> dict[str, Tensor]:
    """Shares of the salient patches and of the others: kept as a token of their own, or dropped."""
    sizes = sizes_of(labels, tokens)
    found = {}
    for name, which in (("kept", sizes == 1), ("dropped", sizes == 0)):
        for place, inside in (("salient", salient), ("elsewhere", ~salient)):
            found[f"{name}_{place}"] = (which & inside).sum(1) / inside.sum(1)
    return found


def alike(
    labels: Tensor, tokens: int, patches: Tensor, size: tuple[int, int] = (2, 1 << 30)
) -> dict[str, Tensor]:
    """Mean cosine of two patches of one token, and of any two of the patches that are in such tokens.

    patches: (B, N, C), what they are compared by. size: of the tokens looked at, in patches; NaN without any
    """
    unit = F.normalize(patches, dim=2)
    sizes = sizes_of(labels, tokens)
    inside = (sizes >= size[0]) & (sizes <= size[1])  # (B, N)
    unit = unit * inside[..., None]
    member = F.one_hot(labels + 1, tokens + 1)[..., 1:].to(unit.dtype) * inside[..., None]  # (B, N, M)
    sums, counts = member.transpose(1, 2) @ unit, member.sum(1)  # (B, M, C), (B, M)
    number = inside.sum(1)  # (B,)
    together = (sums.square().sum((1, 2)) - number) / (counts * (counts - 1)).sum(1)
    anywhere = (unit.sum(1).square().sum(1) - number) / (number * (number - 1))
    return {"merged_alike": together, "merged_chance": anywhere}


def diversity(tokens: Tensor) -> Tensor:
    """BAT's Eq. 4 as a share of the norm: ‖Z − 1 zᵀ‖₁ / ‖Z‖₁, z the median of each channel: (B, N, C) → (B,)."""
    center = tokens.contiguous().median(dim=1, keepdim=True).values
    return (tokens - center).abs().sum(dim=(1, 2)) / tokens.abs().sum(dim=(1, 2))
