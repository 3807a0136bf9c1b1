"""Dumbbell units (Section 3.3): image layers, STGM, semantic layers, recovery, as data and as a stage."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformerStage
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stvit.layers.window_layout import Layout, layout, layout_cross
from stvit.layers.window_options import SemanticOptions
from stvit.layers.window_semantic import (
    ConcatStgmLayer,
    GridCenters,
    OffsetStgmLayer,
    PerWindowImageStgmLayer,
    PerWindowStgmLayer,
    RecoveryLayer,
    SemanticLayer,
    StgmLayer,
    WindowPooling,
)
from stvit.layers.windows import pad
from stvit.surgery import recast

STGM_KEYS = {  # the first layer of an STGM, further ones
    "concat": (ConcatStgmLayer, ConcatStgmLayer),
    "image": (StgmLayer, StgmLayer),
    "image_first": (StgmLayer, ConcatStgmLayer),
}
PER_WINDOW = {ConcatStgmLayer: PerWindowStgmLayer, StgmLayer: PerWindowImageStgmLayer}


class Dumbbell(NamedTuple):
    """How many layers of stage 3 each part of a unit has; without recovery the unit is STViT's."""

    image: int = 1
    stgm: int = 2
    semantic: int = 2
    recovery: int = 1


class DumbbellStage(SwinTransformerStage):
    """A stage of dumbbell units, from a stage of window blocks whose layers it takes over.

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
        self.plan = _plan(units, len(stage.blocks), self.options.reuse)
        dim, w_s = stage.blocks[0].dim, self.options.semantic_window
        self.blocks = nn.Sequential(*(self._layer(i, block) for i, block in enumerate(stage.blocks)))
        pools = len(units[:1] if self.options.reuse else units)
        self.initial = nn.ModuleList(
            WindowPooling(self.options.pooling, dim, w_s, self.window) for _ in range(pools)
        )
        like = next(stage.parameters())
        return self.to(device=like.device, dtype=like.dtype)

    def _layer(self, index: int, block: nn.Module) -> nn.Module:
        options, (role, place, unit) = self.options, self.plan[index]
        if role == "image":
            return block
        if role == "semantic":
            return SemanticLayer.from_swin(block, options.layer_scale)
        if role == "recovery":
            return RecoveryLayer.from_swin(block, options.layer_scale)
        cls = STGM_KEYS[options.stgm_keys][min(place, 1)]
        if place == 0 and options.project_keys == "per_window":
            cls = PER_WINDOW[cls]
        if place == 1 and unit == 0 and options.initialization == "offset":
            cls = OffsetStgmLayer
        layer = cls.from_swin(block, options.layer_scale)
        if isinstance(layer, PerWindowStgmLayer):
            layer.shortcut = options.shortcut
        if place > 0 and (options.initialization == "both" or cls is OffsetStgmLayer):
            rows, columns = (
                -(-side // w) for side, w in zip(self.output_resolution, self.window, strict=True)
            )
            layer.centers = GridCenters(
                (rows * options.semantic_window, columns * options.semantic_window), block.dim
            )
        return layer

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)  # (B, H, W, C)
        where = layout(tuple(x.shape[1:3]), self.window, self.options, x.device)
        blocks, s = iter(self.blocks), None
        for number, unit in enumerate(self.units):
            for _ in range(unit.image):
                x = self.run(next(blocks), x)  # (B, H, W, C)
            tokens = self.tokens(x, where)  # (B, N, C), padded where the layout is
            if s is None or not self.options.reuse:
                s = self.initial[number](tokens, where.grid)  # P (B, M, C)
            s = self.semantic_tokens(s, tokens, unit, blocks, where)  # (B, M, C)
            for _ in range(unit.recovery):
                tokens = self.tokens(x, where)
                sources = _with_zero(s) if where.zero else s
                restored = self.run(next(blocks), tokens, sources, where.recover, where.real)  # (B, H·W, C)
                x = restored.unflatten(1, x.shape[1:3])  # (B, H, W, C)
        return x if unit.recovery else s.unflatten(1, where.semantic)  # (B, H, W, C) or (B, h, w, C)

    def semantic_tokens(self, s: Tensor, x: Tensor, unit: Dumbbell, blocks, where: Layout) -> Tensor:
        keys = _with_zero(x) if where.zero else x
        for i in range(unit.stgm):
            windows = where.generate if i == 0 else where.cluster
            s = self.run(next(blocks), s, keys, windows, where.semantic)
        for i in range(unit.semantic):
            s = self.run(next(blocks), s, where.cross if i % 2 else where.local)
        return s

    def tokens(self, x: Tensor, where: Layout) -> Tensor:
        """The map as a row of tokens, padded to whole windows if key windows may stick out of it."""
        return (x if self.options.border == "inside" else pad(x, self.window)).flatten(1, 2)

    def run(self, block: nn.Module, *args) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *args, use_reentrant=False)
        return block(*args)


def _with_zero(x: Tensor) -> Tensor:
    """One more token, a zero, which stands for all that lies outside the map."""
    return F.pad(x, (0, 0, 0, 1))


def _plan(units: tuple[Dumbbell, ...], depth: int, reuse: bool) -> list[tuple[str, int, int]]:
    """For each layer of the stage its role, its place in it and its unit; ValueError if they do not fit."""
    plan = [
        (role, place, number)
        for number, unit in enumerate(units)
        for role, count in zip(Dumbbell._fields, unit, strict=True)
        for place in range(count)
    ]
    if len(plan) != depth or not units:
        raise ValueError(
            f"units of {[sum(unit) for unit in units]} layers do not fill a stage of {depth} layers; "
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
    def from_swin(cls, stage: SwinTransformerStage, options: SemanticOptions) -> SemanticStage:
        self = recast(stage, cls)
        self.options, dim, like = options, stage.blocks[0].dim, next(stage.parameters())
        self.downsample = nn.Linear(stage.downsample.dim, dim)
        nn.init.trunc_normal_(self.downsample.weight, std=0.02)
        nn.init.zeros_(self.downsample.bias)
        self.blocks = nn.Sequential(
            *(SemanticLayer.from_swin(block, options.layer_scale) for block in stage.blocks)
        )
        return self.to(device=like.device, dtype=like.dtype)

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)  # (B, h, w, 2C)
        grid, w_s = tuple(x.shape[1:3]), self.options.semantic_window
        windows = layout_cross(grid, w_s, self.options, x.device)
        s = x.flatten(1, 2)  # (B, M, 2C)
        for block in self.blocks:
            s = self.run(block, s, windows)
        return s.unflatten(1, grid)

    run = DumbbellStage.run
