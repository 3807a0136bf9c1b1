"""The fate of tokens in numbers: what is kept, merged and dropped, and where it lies in the scene."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MARKED = 1  # the object whose class is asked for


def owner_of(instances: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, H, W) object masks → (B, N): what covers most of each patch, 0 for the ground."""
    kinds = int(instances.max()) + 1
    masks = F.one_hot(instances.long(), kinds).permute(0, 3, 1, 2).float()
    return F.adaptive_avg_pool2d(masks, grid).argmax(1).flatten(1)


def group_sizes(labels: Tensor, tokens: int) -> Tensor:
    """(B, N) → (B, N): how many patches are in the token that each patch is in; 0 if it was dropped."""
    sizes = F.one_hot(labels + 1, tokens + 1).sum(1)  # (B, 1 + M); the first counts dropped patches
    return torch.where(labels >= 0, sizes.gather(1, labels + 1), 0)


def purity(labels: Tensor, owner: Tensor, tokens: int, merged: Tensor) -> float:
    """Of patches in merged tokens, the part that belongs to the most frequent object of its token."""
    groups = F.one_hot(labels + 1, tokens + 1).float() * merged[..., None]  # (B, N, 1 + M)
    counts = groups[..., 1:].transpose(1, 2) @ F.one_hot(owner).float()  # (B, M, kinds)
    return float(counts.amax(2).sum() / counts.sum()) if counts.sum() else float("nan")


def fate(labels: Tensor, tokens: int, owner: Tensor, generator: torch.Generator) -> dict[str, float | int]:
    """Shares of patches; ``*_marked`` inside the marked object, ``*_elsewhere`` outside.

    kept: a token to itself. purity_chance: groups of the same sizes, filled at random.
    pairs: tokens of two patches; pairs_alike: those whose patches belong to one object or the ground.
    """
    sizes = group_sizes(labels, tokens)  # (B, N)
    kept, merged, dropped = sizes == 1, sizes > 1, sizes == 0
    marked = owner == MARKED
    order = torch.rand(labels.shape, generator=generator).argsort(1)
    shuffled = owner.gather(1, order)
    pair = sizes == 2
    return {
        "tokens": tokens,
        "kept": float(kept.float().mean()),
        "merged": float(merged.float().mean()),
        "dropped": float(dropped.float().mean()),
        "kept_marked": float(kept[marked].float().mean()),
        "kept_elsewhere": float(kept[~marked].float().mean()),
        "dropped_marked": float(dropped[marked].float().mean()),
        "dropped_elsewhere": float(dropped[~marked].float().mean()),
        "purity": purity(labels, owner, tokens, merged),
        "purity_chance": purity(labels, shuffled, tokens, merged),
        "pairs": float(pair.sum() / 2 / len(labels)),
        "pairs_alike": alike(labels, owner, tokens, pair),
        "pairs_alike_chance": alike(labels, shuffled, tokens, pair),
    }


def alike(labels: Tensor, owner: Tensor, tokens: int, pair: Tensor) -> float:
    """Of tokens of two patches, the part whose patches have the same owner."""
    groups = F.one_hot(labels + 1, tokens + 1).float() * pair[..., None]
    counts = groups[..., 1:].transpose(1, 2) @ F.one_hot(owner).float()  # (B, M, kinds)
    pairs = counts.sum(2) == 2
    return float((counts.amax(2) == 2)[pairs].float().mean()) if pairs.any() else float("nan")
