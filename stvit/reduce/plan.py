"""What a reduction decides, as a value: which new tokens are made of which old ones.

A Plan merges tokens, says where each old token went, and brings new tokens back to the old places:

    plan = reduction.plan(x, seen)
    y = plan.merge(x)    # (B, N, C) → (B, M, C)
    plan.assignment(N)   # (B, M, N), each row sums to 1; a dropped token's column is 0, and a padded row
    plan.unmerge(y, N)   # (B, M, C) → (B, N, C)

Its parts are static in shape, so that plans compile and export; tokens that stay as they are cost a
gather and nothing else, and merging costs what its own small matrix costs.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor


class Kept(NamedTuple):
    """Tokens that stay as they are."""

    index: Tensor  # type: ignore[assignment]  # (B, m); it hides tuple.index

    def merge(self, x: Tensor) -> Tensor:
        return take(x, self.index)

    def matrix(self, count: int) -> Tensor:
        return F.one_hot(self.index, count).float()  # (B, m, N)


class Padded(NamedTuple):
    """Tokens that stay as they are, fewer in some images than in others: what follows them is no token."""

    index: Tensor  # type: ignore[assignment]  # (B, m); it hides tuple.index
    valid: Tensor  # (B, m), True for tokens

    def merge(self, x: Tensor) -> Tensor:
        return take(x, self.index) * self.valid[..., None]

    def matrix(self, count: int) -> Tensor:
        return F.one_hot(self.index, count) * self.valid[..., None].float()  # (B, m, N)


class Scaled(NamedTuple):
    """Tokens that stay, each times a factor of its own."""

    index: Tensor  # type: ignore[assignment]  # (B, m); it hides tuple.index
    factor: Tensor  # (B, m)

    def merge(self, x: Tensor) -> Tensor:
        return take(x, self.index) * self.factor[..., None].to(x.dtype)

    def matrix(self, count: int) -> Tensor:
        return F.one_hot(self.index, count) * self.factor[..., None]  # (B, m, N)


def standing(keep: Tensor) -> Padded:
    """The tokens where ``keep`` (B, N) is True, in their order; as wide as the image that keeps most needs.

    In graphs all N are wide enough, so that shapes are static; padding is masked either way.
    """
    count = keep.shape[1]
    number = torch.arange(count, device=keep.device)
    index = torch.where(keep, number, number + count).argsort(dim=1)  # (B, N)
    left = keep.sum(dim=1, keepdim=True)
    width = count
    if not (torch.compiler.is_compiling() or torch.jit.is_tracing() or keep.is_meta):
        width = max(1, int(left.max()))
    return Padded(index[:, :width], number[:width] < left)


class Mixed(NamedTuple):
    """New tokens, each a weighted sum of old ones."""

    sources: Tensor | None  # (B, n); None: all tokens in order
    weights: Tensor  # (B, m, n)

    def merge(self, x: Tensor) -> Tensor:
        return self.weights.to(x.dtype) @ (x if self.sources is None else take(x, self.sources))

    def matrix(self, count: int) -> Tensor:
        if self.sources is None:
            return self.weights
        return self.weights @ F.one_hot(self.sources, count).to(self.weights.dtype)


class Absorbed(NamedTuple):
    """Tokens that stay, some of which take others in: y_t = x_t + Σ_j share_j · (x_j − x_t) over the sources of t."""

    index: Tensor  # type: ignore[assignment]  # (B, m); it hides tuple.index
    sources: Tensor  # (B, n)
    target: Tensor  # (B, n), where among the tokens that stay
    shares: Tensor  # (B, n), of the sources in their targets

    def merge(self, x: Tensor) -> Tensor:
        kept = take(x, self.index)
        moves = take(x, self.sources) - take(kept, self.target)
        moves = moves * self.shares[..., None].to(x.dtype)
        return kept.scatter_add_(1, self.target[..., None].expand_as(moves), moves)

    def matrix(self, count: int) -> Tensor:
        gains = F.one_hot(self.target, self.index.shape[1]).transpose(1, 2) * self.shares[:, None]
        own = (1 - gains.sum(dim=2, keepdim=True)) * F.one_hot(self.index, count)
        return own + Mixed(self.sources, gains).matrix(count)


def shares(target: Tensor, weights: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Of sources with ``weights`` (B, n) in targets that weigh ``own`` (B, m): shares (B, n), totals (B, m)."""
    total = own.scatter_add(1, target, weights)
    return weights / total.gather(1, target), total


class Largest(NamedTuple):
    """New tokens, each the channel-wise maximum over a group of old ones."""

    sources: Tensor  # (B, n)
    groups: Tensor  # (B, m, n), True for members

    def merge(self, x: Tensor) -> Tensor:
        outside = ~self.groups[..., None]  # (B, m, n, 1)
        return take(x, self.sources)[:, None].masked_fill(outside, -torch.inf).amax(dim=2)

    def matrix(self, count: int) -> Tensor:
        return Mixed(self.sources, self.groups.float()).matrix(count)


Part: TypeAlias = Kept | Padded | Scaled | Mixed | Absorbed | Largest


class Plan(NamedTuple):
    """New tokens, part after part; without parts all tokens stay as they are.

    mass: what each new token counts for in what follows, (B, M), for methods that keep account of it
    computed: where all tokens stay, but a layer computes with fewer, what it computes with; else None
    carry: whatever else a method hands on to its next layer
    """

    parts: tuple[Part, ...] = ()
    mass: Tensor | None = None
    computed: Part | None = None
    carry: tuple | None = None

    def merge(self, x: Tensor) -> Tensor:
        """(B, N, C) → (B, M, C)."""
        if not self.parts:
            return x
        return torch.cat([part.merge(x) for part in self.parts], dim=1)

    def assignment(self, count: int) -> Tensor | None:
        """Where ``count`` old tokens went: (B, M, N), rows that sum to 1, or 0 for padding; None where all stayed."""
        if not self.parts:
            return None
        return shares_of(self.parts, count)

    def workload(self, count: int) -> Tensor | None:
        """What the layer computes with, made of ``count`` old tokens: (B, M, N); None where it is all of them."""
        return self.assignment(count) if self.computed is None else shares_of((self.computed,), count)

    def unmerge(self, y: Tensor, count: int) -> Tensor:
        """New tokens (B, M, C) back at the places of ``count`` old ones; dropped places read 0."""
        holds = self.assignment(count)
        return y if holds is None else read_back(holds, y)


def read_back(holds: Tensor, y: Tensor) -> Tensor:
    """Tokens y (B, M, C) at the places whose parts they hold, (B, M, N): (B, N, C); places in none read 0."""
    shares = holds / holds.sum(dim=1, keepdim=True).clamp_min(torch.finfo(holds.dtype).tiny)
    return shares.transpose(1, 2).to(y.dtype) @ y


def shares_of(parts: tuple[Part, ...], count: int) -> Tensor:
    """(B, M, N), rows that sum to 1, or to 0 for padding."""
    matrix = torch.cat([part.matrix(count) for part in parts], dim=1)
    return matrix / matrix.sum(dim=2, keepdim=True).clamp_min(torch.finfo(matrix.dtype).tiny)


def put(x: Tensor, part: Kept | Padded, y: Tensor) -> Tensor:
    """Tokens y (B, m, C) at the places in x (B, N, C) that they were taken from; padding goes nowhere."""
    if isinstance(part, Padded):
        y = torch.where(part.valid[..., None], y, take(x, part.index))
    return x.scatter(1, part.index[..., None].expand_as(y), y)


def take(x: Tensor, index: Tensor) -> Tensor:
    """Rows of each sample: (B, N, …) at (B, m) → (B, m, …)."""
    first = torch.arange(x.shape[0], device=x.device) * x.shape[1]  # each sample's first row
    rows = (index + first[:, None]).flatten()
    return x.flatten(0, 1).index_select(0, rows).unflatten(0, (x.shape[0], index.shape[1]))


def compose(assignments: list[Tensor]) -> Tensor:
    """Successive assignments as one: from the first one's old tokens to the last one's new ones."""
    total = assignments[0]
    for assignment in assignments[1:]:
        total = assignment @ total
    return total
