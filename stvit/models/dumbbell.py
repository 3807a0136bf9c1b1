"""Dumbbell units (Section 3.3): image layers, STGM, semantic layers, recovery, as data and as a stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from timm.models.swin_transformer import SwinTransformerStage
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stvit.layers.window_centers import (
    GridCenters,
    GridPosition,
    NoPosition,
    WindowInitialization,
    WindowPooling,
)
from stvit.layers.window_layout import Layout, layout, layout_cross
from stvit.layers.window_options import SemanticOptions
from stvit.layers.window_semantic import (
    ConcatStgmLayer,
    LearnedEncodingStgmLayer,
    RecoveryLayer,
    RelativeSemanticLayer,
    WindowedSemanticLayer,
    WindowedStgmLayer,
)
from stvit.layers.windows import Grid, window_counts
from stvit.surgery import recast

STGM_KEYS = {  # the first layer of an STGM, further ones
    "concat": (ConcatStgmLayer, ConcatStgmLayer),
    "image": (WindowedStgmLayer, WindowedStgmLayer),
    "image_first": (WindowedStgmLayer, ConcatStgmLayer),
}


class Dumbbell(NamedTuple):
    """How many layers of stage 3 each part of a unit has; without recovery the unit is STViT's."""

    image: int = 1
    stgm: int = 2
    semantic: int = 2
    recovery: int = 1


class DumbbellStage(SwinTransformerStage):
    """A stage of dumbbell units, made from a stage of window blocks whose layers it takes over.

    1. Image layers: window attention on the map X.
    2. STGM: centers P = pool(X) in each window; S from P, S + G and X (Eqs. 1, 2, 4, 5).
    3. Semantic layers: within the windows, then across them, in turn.
    4. Recovery: X from X and S (Eq. 6). A unit without it returns S as its map.
    """

    @classmethod
    def from_swin(
        cls, stage: SwinTransformerStage, units: tuple[Dumbbell, ...], options: SemanticOptions
    ) -> DumbbellStage:
        self = recast(stage, cls)
        self.units = units
        self.window = tuple(stage.blocks[0].window_size)
        self.options = options.fitted(self.window)
        dim = stage.blocks[0].dim
        self.plan = plan_units(units, len(stage.blocks))
        self.blocks = nn.Sequential(
            *(self.layer(*spot, block) for spot, block in zip(self.plan, stage.blocks, strict=True))
        )
        pools = len(units[:1] if self.options.reuse else units)
        self.initial = nn.ModuleList(self.new_initial(dim) for _ in range(pools))
        self.position = nn.ModuleList(self.new_position(dim) for _ in units)
        like = next(stage.parameters())
        return self.to(device=like.device, dtype=like.dtype)

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)  # (B, H, W, C)
        where = self.layout(tuple(x.shape[1:3]), x.device)
        blocks, s = iter(self.blocks), None
        for number, unit in enumerate(self.units):
            for _ in range(unit.image):
                x = self.run(next(blocks), x)  # (B, H, W, C)
            tokens = self.tokens(x)  # X as a row (B, N, C)
            if s is None or not self.options.reuse:
                s = self.initial[number](tokens, where.grid)  # P (B, M, C)
            s = self.semantic_tokens(number, s, tokens, blocks, where)  # S (B, M, C)
            for _ in range(unit.recovery):
                x = self.recover(next(blocks), x, s, where)  # (B, H, W, C)
        return x if unit.recovery else s.unflatten(1, where.semantic)  # (B, H, W, C) or (B, h, w, C)

    def semantic_tokens(
        self, number: int, s: Tensor, x: Tensor, blocks: Iterator[nn.Module], where: Layout
    ) -> Tensor:
        """Unit ``number``'s STGM and semantic layers: P (B, M, C) and X (B, N, C) → S (B, M, C)."""
        unit, keys = self.units[number], self.keys(x)
        for i in range(unit.stgm):
            windows = where.generate if i == 0 else where.cluster
            s = self.run(next(blocks), s, keys, windows, where.semantic)
        s = self.position[number](s, where.semantic)
        for i in range(unit.semantic):
            s = self.run(next(blocks), s, where.cross if i % 2 else where.local, where.semantic)
        return s

    def recover(self, block: nn.Module, x: Tensor, s: Tensor, where: Layout) -> Tensor:
        restored = self.run(block, self.tokens(x), s, where.recover)  # (B, H·W, C)
        return restored.unflatten(1, x.shape[1:3])  # (B, H, W, C)

    def layout(self, grid: Grid, device: torch.device) -> Layout:
        """Who attends to whom on a map of this size."""
        return layout(grid, self.window, self.options, device)

    def tokens(self, x: Tensor) -> Tensor:
        """The map as a row of tokens."""
        return x.flatten(1, 2)  # (B, N, C)

    def keys(self, tokens: Tensor) -> Tensor:
        """The tokens that the tables of ``layout`` count."""
        return tokens

    def run(self, block: nn.Module, *args) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *args, use_reentrant=False)
        return block(*args)

    # The layers, made of the stage's own:

    def layer(self, role: str, place: int, unit: int, block: nn.Module) -> nn.Module:
        """The layer that takes over ``block``: the ``place``-th of its ``role`` in its ``unit``."""
        if role == "image":
            return block
        if role == "stgm":
            return self.stgm_layer(place, unit, block)
        if role == "semantic":
            return semantic_layer(block, self.options, self.semantic_grid())
        return self.recovery_layer(block)

    def stgm_layer(self, place: int, unit: int, block: nn.Module) -> nn.Module:
        cls = STGM_KEYS[self.options.stgm_keys][min(place, 1)]
        if place > 0 and self.options.initialization == "learned":
            cls = LearnedEncodingStgmLayer
        layer = cls.from_swin(block, self.options.layer_scale)
        if place > 0 and self.options.initialization in ("both", "learned"):
            layer.centers = self.new_centers(block.dim)
        return layer

    def recovery_layer(self, block: nn.Module) -> nn.Module:
        return RecoveryLayer.from_swin(block, self.options.layer_scale)

    def semantic_grid(self) -> Grid:
        """Of the image size that the model was built for."""
        rows, columns = window_counts(self.output_resolution, self.window)
        return rows * self.options.semantic_window, columns * self.options.semantic_window

    def new_centers(self, dim: int) -> nn.Module:
        return GridCenters(self.semantic_grid(), dim)

    def new_initial(self, dim: int) -> nn.Module:
        if self.options.initialization == "global":
            return WindowInitialization(self.options.semantic_window, self.window, self.semantic_grid(), dim)
        return WindowPooling(self.options.pooling, dim, self.options.semantic_window, self.window)

    def new_position(self, dim: int) -> nn.Module:
        if self.options.position == "learned":
            return GridCenters(self.semantic_grid(), dim)
        return GridPosition(dim) if self.options.position == "conditional" else NoPosition()


def semantic_layer(block: nn.Module, options: SemanticOptions, grid: Grid) -> WindowedSemanticLayer:
    """A layer on semantic tokens from a window block, with relative positions where they are chosen."""
    if options.position == "relative":
        return RelativeSemanticLayer.from_swin(block, options.layer_scale, grid)
    return WindowedSemanticLayer.from_swin(block, options.layer_scale)


def plan_units(units: tuple[Dumbbell, ...], depth: int) -> list[tuple[str, int, int]]:
    """For each of ``depth`` layers its role, its place in it and its unit; ValueError if they do not fit."""
    plan = [
        (role, place, number)
        for number, unit in enumerate(units)
        for role, count in zip(Dumbbell._fields, unit, strict=True)
        for place in range(count)
    ]
    if len(plan) != depth or not units:
        raise ValueError(
            f"units of {[sum(unit) for unit in units]} layers do not fill {depth} layers; "
            "a unit is (image, stgm, semantic, recovery) layers"
        )
    for number, unit in enumerate(units):
        if min(unit) < 0 or unit.stgm < 1:
            raise ValueError(f"unit {number + 1} needs at least one STGM layer and no negative count: {unit}")
        if unit.recovery == 0 and number + 1 < len(units):
            raise ValueError(f"unit {number + 1} recovers no image tokens for the next: {unit}")
    return plan


class SemanticStage(SwinTransformerStage):
    """Stage 4 of STViT-Swin: a linear C → 2C instead of patch merging, cross-window layers on S."""

    @classmethod
    def from_swin(cls, stage: SwinTransformerStage, options: SemanticOptions, grid: Grid) -> SemanticStage:
        """``grid``: that of the semantic tokens, for the image size that the model was built for."""
        self = recast(stage, cls)
        self.options, dim, like = options, stage.blocks[0].dim, next(stage.parameters())
        self.downsample = nn.Linear(stage.downsample.dim, dim)
        nn.init.trunc_normal_(self.downsample.weight, std=0.02)
        nn.init.zeros_(self.downsample.bias)
        self.blocks = nn.Sequential(*(semantic_layer(block, options, grid) for block in stage.blocks))
        return self.to(device=like.device, dtype=like.dtype)

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)  # (B, h, w, 2C)
        grid, w_s = tuple(x.shape[1:3]), self.options.semantic_window
        windows = layout_cross(grid, w_s, self.options, x.device)
        s = x.flatten(1, 2)  # (B, M, 2C)
        for block in self.blocks:
            s = self.run(block, s, windows, grid)
        return s.unflatten(1, grid)

    run = DumbbellStage.run
