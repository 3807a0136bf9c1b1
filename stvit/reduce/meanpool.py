"""Plain average pooling: the control that every method must beat."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from stvit.layers.pooling import AdaptiveMeanPooling, token_grid
from stvit.reduce.about import About
from stvit.reduce.plan import Mixed, Plan
from stvit.reduce.reduction import Grid, Reduction, Seen, check_rate


class MeanPool(Reduction):
    """Once, at one layer, means over h × w adaptive windows take the place of the tokens.

    ``num_tokens`` gives their number or grid; with ``keep_rate``, each side shrinks by its root instead.
    """

    about: ClassVar[About] = About(
        paper="control",
        looks_at="places",
        keeps="means over windows",
        origin="ours",
        licence="MIT",
    )
    identity: ClassVar[dict] = {"keep_rate": 1.0}

    def __init__(self, dim: int, num_tokens: int | Grid = 16, keep_rate: float | None = None):
        super().__init__()
        self.dim, self.num_tokens = dim, token_grid(num_tokens)
        self.keep_rate = None if keep_rate is None else check_rate(keep_rate)

    @staticmethod
    def layers(depth: int) -> tuple[int, ...]:
        return (depth // 3 + 1,)  # the 5th of 12, where STViT begins to generate its tokens

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        if seen.grid is None:
            raise ValueError("meanpool needs tokens on their grid: it goes first, and once")
        tokens = self.num_tokens
        if self.keep_rate is not None:
            tokens = tuple(max(1, round(side * self.keep_rate**0.5)) for side in seen.grid)
        if tokens == tuple(seen.grid):
            return Plan()
        pool = AdaptiveMeanPooling(self.dim, tokens, seen.grid)
        return Plan((Mixed(None, pool.assignment(x, seen.grid)),))

    def extra_repr(self) -> str:
        return f"num_tokens={self.num_tokens}, keep_rate={self.keep_rate}"
