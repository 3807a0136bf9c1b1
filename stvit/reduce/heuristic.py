"""Controls that look at nothing but places: the middle of the image stays (Haurum et al., 2023)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor

from stvit.reduce.about import About
from stvit.reduce.plan import Kept, Plan
from stvit.reduce.reduction import Grid, HostBlock, PruningBlock, Reduction, Seen, check_rate

DISTANCES = {"l1": 1.0, "l2": 2.0, "linf": torch.inf}


class Shrinking(Reduction):
    """The tokens within a radius of the middle stay; it falls layer by layer, from the corners' down to ``min_radius``.

    A control: the same places for all images. The public program masks the others, and saves nothing; here they
    leave, which is the same to those that stay and to the class token.
    """

    about: ClassVar[About] = About(
        paper="control, Haurum et al., 2023",
        looks_at="places",
        keeps="the middle of the image",
        origin="JoakimHaurum/TokenReduction",
        licence="MIT",
    )
    identity: ClassVar[dict] = {"min_radius": float("inf")}

    def __init__(
        self, dim: int, distance: str = "l1", min_radius: float = 1.0, stage: int = 0, depth: int = 12
    ):
        super().__init__()
        if distance not in DISTANCES:
            raise ValueError(f"unknown distance {distance!r}; choose one of {', '.join(DISTANCES)}")
        self.distance, self.min_radius, self.stage = distance, min_radius, stage
        self.stages = len(self.layers(depth))

    @staticmethod
    def layers(depth: int) -> tuple[int, ...]:
        """Layers 4 to 10 of 12."""
        return tuple(range(depth // 4 + 1, depth * 3 // 4 + 2))

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        numbers = self.numbers(tuple(seen.whole))
        if len(numbers) == x.shape[1]:
            return Plan()
        return Plan((Kept(torch.tensor(numbers, device=x.device).expand(x.shape[0], -1)),))

    @torch.compiler.assume_constant_result  # it depends on the grid alone; a graph holds its result
    def numbers(self, grid: Grid) -> list[int]:
        """Of the tokens that are here, the numbers of those that stay."""
        present, kept = (self.places(grid, stage) for stage in (self.stage - 1, self.stage))
        return np.searchsorted(present, kept).tolist()

    def places(self, grid: Grid, stage: int) -> np.ndarray:
        """The places that stay in a stage, in their order; all of them before the first."""
        away = from_middle(grid, self.distance)
        return (
            np.arange(len(away))
            if stage < 0
            else np.flatnonzero(away <= max(away.min(), self.radius(away, stage)))
        )

    def radius(self, away: np.ndarray, stage: int) -> float:
        """Evenly down, over two steps more than there are stages: one before the first, one after the last."""
        corner = away.max()
        return corner + (min(corner, self.min_radius) - corner) * (stage + 1) / (self.stages + 1)

    def host(self, block: TimmBlock) -> HostBlock:
        return PruningBlock.from_block(block, self)

    def extra_repr(self) -> str:
        return f"distance={self.distance!r}, min_radius={self.min_radius}"


class Middle(Shrinking):
    """About as many tokens as other methods keep, N₀ · keep_rateⁱ, from the middle out to a whole ring."""

    about: ClassVar[About] = About(
        paper="control, Haurum et al., 2023",
        looks_at="places",
        keeps="the middle of the image",
        origin="JoakimHaurum/TokenReduction",
        licence="MIT",
    )
    identity: ClassVar[dict] = {"keep_rate": 1.0}

    def __init__(self, dim: int, keep_rate: float = 0.7, distance: str = "l1", stage: int = 0):
        super().__init__(dim, distance, stage=stage)
        self.keep_rate = check_rate(keep_rate)

    layers = staticmethod(Reduction.layers)

    def radius(self, away: np.ndarray, stage: int) -> float:
        wanted = int(len(away) * self.keep_rate ** (stage + 1) + 1e-9)
        rings, sizes = np.unique(away.round(9), return_counts=True)
        return rings[np.abs(sizes.cumsum() - wanted).argmin()] + 1e-6

    def extra_repr(self) -> str:
        return f"keep_rate={self.keep_rate}, distance={self.distance!r}"


def from_middle(grid: Grid, distance: str) -> np.ndarray:
    """Each place's distance from the middle, in patches and in the order of places: (N,)."""
    y, x = np.meshgrid(*(np.linspace(-(side // 2), side // 2, side) for side in grid), indexing="ij")
    return np.linalg.norm(np.stack([y.ravel(), x.ravel()]), ord=DISTANCES[distance], axis=0)
