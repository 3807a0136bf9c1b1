"""DGE: dynamic grained encoder (Song et al., NeurIPS 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn

from stvit.fast.groups import in_groups
from stvit.layers.attention import Attention
from stvit.reduce.about import About
from stvit.reduce.plan import Padded, Plan, standing, take
from stvit.reduce.reduction import Grid, HostBlock, ReducingBlock, Reduction, Seen
from stvit.surgery import recast


class Squares(NamedTuple):
    """Means over squares of a grid's tokens, some of them of each size."""

    grid: Grid
    sides: tuple[int, ...]
    chosen: Padded  # among the squares of all sizes

    def merge(self, x: Tensor) -> Tensor:
        return self.chosen.merge(square_means(x, self.grid, self.sides))

    def matrix(self, count: int) -> Tensor:
        every = torch.eye(count, device=self.chosen.index.device)[None]  # (1, N, N)
        means = square_means(every, self.grid, self.sides)  # (1, squares, N)
        return self.chosen.merge(means.expand(self.chosen.index.shape[0], -1, -1))


def square_means(x: Tensor, grid: Grid, sides: Sequence[int]) -> Tensor:
    """Means over squares of each side, size after size, at the border over what is there.

    (B, N, C) → (B, squares, C)
    """
    image = x.transpose(1, 2).unflatten(2, grid)  # (B, C, h, w)
    means = [
        F.avg_pool2d(image, side, ceil_mode=True, count_include_pad=False).flatten(2)
        if side > 1
        else image.flatten(2)
        for side in sides
    ]
    return torch.cat(means, dim=2).transpose(1, 2)


def squares_of(grid: Grid, side: int, device: torch.device) -> tuple[Tensor, int]:
    """The square of ``side`` that each token is in, (N,), and how many there are."""
    rows, columns = (torch.arange(length, device=device) // side for length in grid)
    across = -(-grid[1] // side)
    return (rows[:, None] * across + columns).flatten(), -(-grid[0] // side) * across


class DGE(Reduction):
    """In each layer every region of the image has as many queries as a router gives it; keys are all tokens.

    1. The mean of each region of R × R tokens goes through a linear router, which chooses a split s of split_sizes.
    2. The region's queries are the means over its s × s squares; the class token is a query as it is.
    3. x + (what the layer has changed of its square's mean): no token is lost, only queries are few.
    In training queries of all sizes are computed, and the choice is differentiable by Gumbel-softmax.
    """

    about: ClassVar[About] = About(
        paper="DGE, Song et al., NeurIPS 2021",
        looks_at="means over regions, by a learned router",
        keeps="all tokens; layers have fewer queries",
        origin="StevenGrove/vtpack",
        licence="Apache-2.0",
    )
    identity: ClassVar[dict] = {"split_sizes": (1,)}
    keeps_all: ClassVar[bool] = True

    def __init__(self, dim: int, split_sizes: Sequence[int] = (4, 2, 1)):
        super().__init__()
        region = max(split_sizes, default=0)
        if min(split_sizes, default=0) < 1 or any(region % split for split in split_sizes):
            raise ValueError(
                f"split_sizes must be whole numbers that divide the largest, not {split_sizes!r}"
            )
        self.split_sizes, self.region = tuple(split_sizes), region
        self.sides = tuple(region // split for split in split_sizes)
        if self.routes:
            self.router = nn.Linear(dim, len(split_sizes))

    @property
    def routes(self) -> bool:
        """Whether there is anything to choose, or every token is a query of its own."""
        return self.sides != (1,)

    @staticmethod
    def layers(depth: int) -> tuple[int, ...]:
        return tuple(range(1, depth + 1))

    def choose(self, x: Tensor, grid: Grid) -> Tensor:
        """How much each split counts at each token, (B, N, splits): 1 for the router's choice."""
        scores = self.router(square_means(x, grid, (self.region,)))  # (B, regions, splits)
        if self.training:
            choice = F.gumbel_softmax(scores, hard=True, dim=2)
        else:
            choice = F.one_hot(scores.argmax(dim=2), len(self.sides)).to(x.dtype)
        region, _ = squares_of(grid, self.region, x.device)
        return choice[:, region]

    def squares(self, grid: Grid, device: torch.device) -> tuple[Tensor, int]:
        """The square of each side that each token is in, numbered size after size: (splits, N); and their number."""
        found, before = [], 0
        for side in self.sides:
            square, count = squares_of(grid, side, device)
            found.append(square + before)
            before += count
        return torch.stack(found), before

    def host(self, block: TimmBlock) -> HostBlock:
        return FewQueriesBlock.from_block(block, self)

    def extra_repr(self) -> str:
        return f"split_sizes={self.split_sizes}"


class FewQueriesBlock(ReducingBlock):
    """A layer whose queries are means over squares of tokens."""

    where = "around"

    @classmethod
    def from_block(cls, block: TimmBlock, reduction: Reduction) -> HostBlock:
        self = super().from_block(block, reduction)
        self.attn = recast(block.attn, Attention)
        return self

    def forward(self, x: Tensor, seen: Seen) -> tuple[Tensor, Plan]:
        method = self.reduction
        if not method.routes:
            return self.attend_to(x, seen), Plan()
        if seen.grid is None:
            raise ValueError("dge needs tokens on their grid: nothing else may reduce them")
        lead, image = x[:, : seen.prefix], x[:, seen.prefix :]
        choice = method.choose(image, seen.grid)  # (B, N, splits)
        squares, count = method.squares(seen.grid, x.device)
        mine = squares[choice.argmax(dim=2), torch.arange(image.shape[1], device=x.device)]  # (B, N)
        wanted = torch.ones(x.shape[0], count, dtype=torch.bool, device=x.device)
        if not method.training:
            wanted = (~wanted).scatter(1, mine, torch.ones_like(mine, dtype=torch.bool))
        part = Squares(seen.grid, method.sides, standing(wanted))
        before = torch.cat([lead, part.merge(image)], dim=1)  # (B, prefix + m, C), the queries
        after = self.attend_to(before, seen, x, part)
        change = after[:, seen.prefix :] - before[:, seen.prefix :]
        if method.training:
            change = sum(change[:, squares[i]] * choice[..., i, None] for i in range(len(method.sides)))
        else:
            place = wanted.cumsum(dim=1) - 1  # of each square among those that are wanted
            change = take(change, place.gather(1, mine))  # (B, N, C)
        return torch.cat([after[:, : seen.prefix], image + change], dim=1), Plan(computed=part)

    def attend_to(
        self, queries: Tensor, seen: Seen, x: Tensor | None = None, part: Squares | None = None
    ) -> Tensor:
        """The layer for ``queries``, which are ``part`` of x and look at it, or for all tokens."""
        angles = (
            None if seen.angles is None else (seen.angles_of(() if part is None else (part,)), seen.angles)
        )
        y = self.attn(self.norm1(queries), None if x is None else self.norm1(x), angles=angles)
        return in_groups(self.feed_forward, queries + self.drop_path1(self.ls1(y)))
