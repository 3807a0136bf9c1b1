"""The captions in numbers: functions of attention maps, averaged over images, with their values by chance."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from stvit.layers.pooling import Grid, window_index

TOP_COLUMNS, TOP_TOKENS = 0.05, 0.3


def top_column_share(weights: Tensor, share: float = TOP_COLUMNS) -> tuple[float, float]:
    """The part of all attention that falls on the top columns of a map, and the part of an even map.

    weights: (B, heads, rows, columns). Heads are averaged and the columns chosen image by image.
    """
    columns = weights.mean((1, 2))  # (B, columns), sums 1
    count = math.ceil(share * columns.shape[1])
    return float(columns.topk(count).values.sum(1).mean()), count / columns.shape[1]


def row_overlap(weights: Tensor) -> float:
    """How alike a map's rows are: Σ min(p, q), the mean over pairs of rows; 1 means vertical lines only."""
    rows = weights.mean(1) if weights.ndim == 4 else weights  # (B, rows, columns)
    count = rows.shape[1]
    if count < 2:
        return math.nan
    total = sum(torch.minimum(rows[:, i : i + 1], rows).sum((1, 2)) for i in range(count))
    return float(((total - count) / (count * (count - 1))).mean())


def ranks(values: Tensor) -> Tensor:
    return values.argsort(-1).argsort(-1).float()


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's, over the last dimension, the mean over images."""
    a, b = ranks(a), ranks(b)
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    return float(F.cosine_similarity(a, b, dim=-1).mean())


def top_overlap(a: Tensor, b: Tensor, share: float = TOP_TOKENS) -> tuple[float, float]:
    """The part of a's top tokens that are also b's, and what chance gives."""
    count = math.ceil(share * a.shape[-1])
    one, two = (torch.zeros_like(t).scatter(-1, t.topk(count).indices, 1.0) for t in (a, b))
    return float((one * two).sum(-1).mean() / count), count / a.shape[-1]


def effective_tokens(weights: Tensor) -> float:
    """Perplexity exp(H) of a distribution over tokens: over how many it spreads; mean over images."""
    return float(torch.special.entr(weights).sum(-1).exp().mean())


def places(grid: Grid) -> Tensor:
    """Row and column of each image token: (N, 2)."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    return torch.stack([rows.flatten(), columns.flatten()], dim=1).float()


def windows(grid: Grid, tokens: Grid) -> Tensor:
    """(M, N): True where an image token is in the window that a semantic token is pooled from."""
    inside = torch.zeros(tokens[0] * tokens[1], grid[0] * grid[1], dtype=torch.bool)
    for row, window in zip(inside, window_index(grid, tokens)[0], strict=True):
        row[[number for number in window if number >= 0]] = True
    return inside


def locality(maps: Tensor, grid: Grid, tokens: Grid) -> dict[str, float]:
    """How well (B, M, N) maps stay with their windows, in image tokens.

    distance: from the centre of a token's window to the centroid of its map
    distance_even: the same for a map that is even, whose centroid is the image's middle
    distance_other: from the centre of another token's window, the mean over all of them
    window_share: the part of a token's map inside its own window
    window_even: the part of an even map
    """
    inside, where = windows(grid, tokens).float(), places(grid)
    centres = inside @ where / inside.sum(1, keepdim=True)  # (M, 2)
    centroids = maps @ where  # (B, M, 2)
    apart = torch.cdist(centroids, centres.expand(len(maps), -1, -1))  # (B, M, M)
    own, count = apart.diagonal(dim1=1, dim2=2).mean(), apart.shape[1]
    return {
        "distance": float(own),
        "distance_even": float((centres - where.mean(0)).norm(dim=1).mean()),
        "distance_other": float((apart.sum((1, 2)).mean() - own * count) / (count * (count - 1))),
        "window_share": float((maps * inside).sum(2).mean()),
        "window_even": float(inside.mean()),
    }


def agreement(scores: Tensor, draws: int = 400, seed: int = 0) -> dict[str, float | int]:
    """Which of (B, M) columns is an image's largest, and how many images agree on the same one.

    chance: the share of the most frequent column when each image picks one at random
    """
    winners = scores.argmax(1)
    votes = torch.bincount(winners, minlength=scores.shape[1])
    generator = torch.Generator().manual_seed(seed)
    random = torch.randint(scores.shape[1], (draws, len(scores)), generator=generator)
    modal = F.one_hot(random, scores.shape[1]).sum(1).amax(1)
    return {
        "token": int(votes.argmax()) + 1,  # counted from 1, as the paper does
        "agree": float(votes.max() / len(scores)),
        "chance": float(modal.float().mean() / len(scores)),
    }


def follows(scores: Tensor, inside: Tensor, marked: Tensor) -> dict[str, float]:
    """Is the token with the largest score the one whose window holds most of the marked object?

    scores: (B, M); inside: (M, N) windows; marked: (B, N) how much of each image token the object covers.
    Chance is what the same two habits give when scenes are paired at random.
    """
    winners, homes = scores.argmax(1), (marked @ inside.float().T).argmax(1)
    shares = [torch.bincount(t, minlength=scores.shape[1]) / len(t) for t in (winners, homes)]
    return {
        "follows_marked": float((winners == homes).float().mean()),
        "follows_chance": float((shares[0] * shares[1]).sum()),
    }


def owners(instances: Tensor, grid: Grid, kinds: int) -> Tensor:
    """(B, H, W) masks → (B, N, kinds): the part of each image token that each object covers; 0 is ground."""
    masks = F.one_hot(instances.long(), kinds).permute(0, 3, 1, 2).float()
    return F.adaptive_avg_pool2d(masks, grid).flatten(2).transpose(1, 2)


def on_objects(maps: Tensor, covered: Tensor) -> dict[str, float]:
    """The part of the maps that lies on the marked object (number 1) and on any, and the part of even maps."""
    share, area = (maps @ covered).mean((0, 1)), covered.mean((0, 1))  # (kinds,)
    return {
        "on_marked": float(share[1]),
        "on_marked_even": float(area[1]),
        "on_objects": float(1 - share[0]),
        "on_objects_even": float(1 - area[0]),
    }
