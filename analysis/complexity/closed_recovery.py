"""Closed forms of STViT-R: Swin whose third stage is made of dumbbell units, for images and as a backbone.

A unit of six: one window block on the image tokens, two STGM layers, one local and one global block on the
semantic tokens, one recovery layer (Eq. 6). "Released" says what the authors' programs compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from analysis.complexity.closed_local import (
    Grid,
    conv_stem,
    global_block,
    halved,
    local_block,
    merging,
    output_norm,
    padded,
    stage,
    stgm_windows,
    window_block,
    window_pool,
)
from analysis.complexity.formulas import Cost, Term, block, head


class Map(NamedTuple):
    """The map of stage 3: N real tokens, ``inside`` with the padding, windows of M semantic tokens."""

    grid: Grid
    window: int
    semantic_window: int

    @property
    def N(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def inside(self) -> int:
        return padded(self.grid[0], self.window) * padded(self.grid[1], self.window)

    @property
    def windows(self) -> int:
        return self.inside // self.window**2

    @property
    def M(self) -> int:
        return self.semantic_window**2

    @property
    def semantic(self) -> int:
        return self.windows * self.M


def recovery(layer: str, C: int, X: Map, per_query: int) -> Iterator[Term]:
    """Eq. 6: the image tokens ask ``per_query`` semantic tokens each, then the FFN on the real ones."""
    return block(
        "recovery",
        layer,
        C,
        X.inside,
        X.semantic,
        per_query=per_query,
        normed=X.inside + X.semantic,
        kept=X.N,
    )


def unit_image(
    names: Sequence[str], C: int, X: Map, pooling: str, apart: tuple[bool, bool]
) -> Iterator[Term]:
    """A dumbbell unit at 224: key windows of 10, then global; recovery from all semantic tokens."""
    yield from window_block("base", names[0], C, X.grid, X.window)
    yield from window_pool(pooling, X.windows, X.window, X.semantic_window, C)
    yield from stgm_windows(names[1:3], C, X.N, X.windows, X.M, 10, True, apart[0])
    yield from local_block(names[3], C, X.semantic, X.M)
    yield from global_block(names[4], C, X.semantic, apart[1])
    yield from recovery(names[5], C, X, X.semantic)


def unit_dense(
    names: Sequence[str], C: int, X: Map, pooling: str, apart: tuple[bool, bool]
) -> Iterator[Term]:
    """A unit on any map: key windows 14 and 21 on image tokens, 27 on semantic ones for the recovery; keys
    and values are projected once on the padded map and then gathered into windows."""
    yield from window_block("base", names[0], C, X.grid, X.window)
    yield from window_pool(pooling, X.windows, X.window, X.semantic_window, C)
    for number, (name, side) in enumerate(zip(names[1:3], (14, 21), strict=True), 1):
        normed = X.semantic + X.inside
        yield from block(f"STGM {number}", name, C, X.semantic, X.inside, per_query=side**2, normed=normed)
    yield from local_block(names[3], C, X.semantic, X.M)
    yield from global_block(names[4], C, X.semantic, apart[1])
    yield from recovery(names[5], C, X, 27**2)


def stvit_r_swin(
    C: int,
    depths: Sequence[int],
    grid: Grid = (56, 56),
    window: int = 7,
    semantic_window: int = 3,
    pooling: str = "max",
    classes: int = 1000,
    dense: bool = False,
    bn_training: bool = True,
    apart: tuple[bool, bool] = (False, False),
) -> Cost:
    """STViT-R-Swin; ``dense``: four feature maps, each with a norm, from an image of any size."""
    terms = [*conv_stem(grid, C, bn_training)]
    unit = unit_dense if dense else unit_image
    for number, depth in enumerate(depths, 1):
        if number == 3:
            X = Map(grid, window, semantic_window)
            names = [f"stage 3 block {i}" for i in range(1, depth + 1)]
            for start in range(0, depth, 6):
                terms += unit(names[start : start + 6], C, X, pooling, apart)
        else:
            terms += stage(number, C, grid, depth, window)
        terms += output_norm(number, C, grid) if dense else ()
        if number < len(depths):
            terms += merging(f"merging {number}", C, grid)
            C, grid = 2 * C, halved(grid)
    return Cost(terms if dense else [*terms, *head(grid[0] * grid[1], C, classes)])


def without_units(
    C: int,
    depths: Sequence[int],
    base: int,
    grid: Grid = (56, 56),
    window: int = 7,
    apart: tuple[bool, bool] = (True, True),
) -> Cost:
    """Table 9's "w/o DU": one STGM after ``base`` blocks of stage 3, semantic blocks, one recovery layer."""
    terms = [*conv_stem(grid, C, True)]
    for number in (1, 2):
        terms += stage(number, C, grid, depths[number - 1], window)
        terms += merging(f"merging {number}", C, grid)
        C, grid = 2 * C, halved(grid)
    X = Map(grid, window, 3)
    terms += stage(3, C, grid, base, window)
    names = [f"stage 3 block {i}" for i in range(base + 1, depths[2] + 1)]
    terms += stgm_windows(names[:2], C, X.N, X.windows, X.M, 10, True, apart[0])
    for i, name in enumerate(names[2:-1]):
        terms += (
            global_block(name, C, X.semantic, apart[1]) if i % 2 else local_block(name, C, X.semantic, X.M)
        )
    terms += recovery(names[-1], C, X, X.semantic)
    terms += merging("merging 3", C, grid)
    C, grid = 2 * C, halved(grid)
    terms += stage(4, C, grid, depths[3], window)
    return Cost([*terms, *head(grid[0] * grid[1], C, 1000)])
