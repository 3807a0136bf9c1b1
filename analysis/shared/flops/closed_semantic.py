"""Closed forms of STViT-Swin and STViT-R: semantic tokens in the windows of Swin's third stage.

``apart`` counts norms as the authors' program does, which norms queries and keys apart even where they are
the same tokens: in the second STGM layer, and in global blocks. It changes nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from analysis.shared.flops.closed_local import (
    Grid,
    conv_stem,
    halved,
    merging,
    output_norm,
    padded,
    patch_stem,
    stage,
    window_block,
)
from analysis.shared.flops.formulas import (
    Cost,
    Term,
    block,
    head,
    linear,
    pooling_intra,
    pooling_intra_inter,
    pooling_mean,
)

Apart = tuple[bool, bool]


class Map(NamedTuple):
    """The map of stage 3: image tokens in windows, w_s² semantic tokens for each window."""

    grid: Grid
    w_s: int = 3
    window: int = 7

    @property
    def N(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def inside(self) -> int:
        """Image tokens with the padding."""
        return padded(self.grid[0], self.window) * padded(self.grid[1], self.window)

    @property
    def windows(self) -> int:
        return self.inside // self.window**2

    @property
    def semantic_grid(self) -> Grid:
        return tuple(-(-side // self.window) * self.w_s for side in self.grid)

    @property
    def S(self) -> int:
        """All semantic tokens, NM/W of them in the paper's symbols."""
        return self.semantic_grid[0] * self.semantic_grid[1]

    def image_keys(self, side: int) -> int:
        """A key window of ``side``² image tokens, as far as the map reaches."""
        return min(side, self.grid[0]) * min(side, self.grid[1])

    def semantic_keys(self, side: int) -> int:
        return min(side, self.semantic_grid[0]) * min(side, self.semantic_grid[1])


def window_pool(name: str, X: Map, C: int) -> Iterator[Term]:
    """Initial centers, w_s² for each window."""
    taps = (-(-X.window // X.w_s)) ** 2
    if name == "intra_inter":
        return pooling_intra_inter(X.S, taps, C)
    if name == "intra":
        return pooling_intra(X.S, taps, C)
    if name == "mean":
        return pooling_mean(X.inside, C)
    if name == "max":
        return iter(())
    raise ValueError(
        f"no closed form for pooling {name!r} in windows; choose intra_inter, intra, mean or max"
    )


def stgm(
    names: Sequence[str],
    C: int,
    X: Map,
    reaches: Sequence[int] = (10, 14),
    concat: Sequence[bool] = (True, True),
    once: bool = True,
    apart: Apart = (False, False),
) -> Iterator[Term]:
    """STGM layers with key windows of ``reaches``; one that covers the map is global attention.

    concat: are the semantic tokens among the keys, in the first layer and in the others?
    once: keys and values are projected for the map and gathered then; else, in the first layer, in each window
    """
    for number, name in enumerate(names):
        first, later = number == 0, min(number, 1)
        reach, own = reaches[later], concat[later]
        K = X.N + X.S * own
        normed = K + (X.S if not own or (apart[0] and not first) else 0)
        per_query = K
        if reach < max(X.grid) or (first and own and X.windows > 1):
            centers = X.w_s**2 if first else X.semantic_keys(-(-reach * X.w_s // X.window))
            per_query = X.image_keys(reach) + own * centers
            if first and not once:
                K, normed = X.windows * per_query, X.S + X.windows * per_query
        yield from block(f"STGM {number + 1}", name, C, X.S, K, per_query=per_query, normed=normed)


def stgm_bordered(names: Sequence[str], C: int, X: Map, reaches: Sequence[int]) -> Iterator[Term]:
    """STGM layers whose key windows stick out of the padded map, with image tokens for keys."""
    for number, name in enumerate(names):
        reach = reaches[min(number, 1)]
        normed = X.S + X.inside
        yield from block(f"STGM {number + 1}", name, C, X.S, X.inside, per_query=reach**2, normed=normed)


def semantic_blocks(names: Sequence[str], C: int, X: Map, cross: int | None, apart: bool) -> Iterator[Term]:
    """In turn within the windows and across them, ``cross`` windows wide (None: all)."""
    for i, name in enumerate(names):
        yield from cross_block(name, C, X, cross, apart) if i % 2 else local_block(name, C, X)


def local_block(name: str, C: int, X: Map) -> Iterator[Term]:
    return block("semantic", name, C, X.S, per_query=X.w_s**2)


def cross_block(name: str, C: int, X: Map, cross: int | None = 4, apart: bool = False) -> Iterator[Term]:
    keys = X.S if cross is None else X.semantic_keys(cross * X.w_s)
    return block("semantic", name, C, X.S, per_query=keys, normed=2 * X.S if apart else X.S)


def recovery(name: str, C: int, X: Map, reach: int | None = 4) -> Iterator[Term]:
    """Eq. 6: image tokens ask the semantic tokens ``reach`` windows around; windows are filled up for it."""
    if reach is None or max(X.semantic_grid) <= reach * X.w_s:
        return block("recovery", name, C, X.N, X.S, normed=X.N + X.S)
    products = X.inside * X.semantic_keys(reach * X.w_s)
    return block("recovery", name, C, X.N, X.S, pairs=products, normed=X.N + X.S)


def recovery_bordered(name: str, C: int, X: Map, reach: int = 9) -> Iterator[Term]:
    """Recovery on the padded map; the FFN on the real tokens alone."""
    per_query, normed = (reach * X.w_s) ** 2, X.inside + X.S
    return block("recovery", name, C, X.inside, X.S, per_query=per_query, normed=normed, kept=X.N)


def trunk(C: int, depths: Sequence[int], grid: Grid, training: bool) -> tuple[list[Term], int, Grid]:
    """Stem, stages 1 and 2, and the mergings after them; then the channels and the map of stage 3."""
    terms = [*conv_stem(grid, C, training)]
    for number in (1, 2):
        terms += stage(number, C, grid, depths[number - 1])
        terms += merging(f"merging {number}", C, grid)
        C, grid = 2 * C, halved(grid)
    return terms, C, grid


def stvit_swin(
    C: int,
    depths: Sequence[int],
    base: int,
    semantic_window: int = 3,
    grid: Grid = (56, 56),
    pooling: str = "intra_inter",
    once: bool = True,
    classes: int = 1000,
    bn_training: bool = False,
    apart: Apart = (False, False),
) -> Cost:
    """STViT-Swin: ``base`` blocks of stage 3 on the image tokens, STGM, semantic blocks, linear C → 2C, and
    stage 4 across the windows of semantic tokens."""
    terms, C, grid = trunk(C, depths, grid, bn_training)
    X = Map(grid, semantic_window)
    terms += stage(3, C, grid, base)
    names = [f"stage 3 block {i}" for i in range(base + 1, depths[2] + 1)]
    terms += semantic_part(names, C, X, depths[3], pooling, once=once, apart=apart)
    return Cost([*terms, *head(X.S, 2 * C, classes)])


def semantic_part(
    names: Sequence[str], C: int, X: Map, last: int, pooling: str, apart: Apart, **options
) -> Iterator[Term]:
    """Pooling, STGM, semantic blocks of stage 3, the linear layer and stage 4."""
    yield from window_pool(pooling, X, C)
    yield from stgm(names[:2], C, X, apart=apart, **options)
    yield from semantic_blocks(names[2:], C, X, 4, apart[1])
    yield Term("downsampling", "expansion", "downsampling", linear(X.S, C, 2 * C), X.S * C)
    for i in range(1, last + 1):
        yield from cross_block(f"stage 4 block {i}", 2 * C, X, 4, apart[1])


def stvit_video_swin(
    C: int,
    depths: Sequence[int],
    base: int,
    frames: int = 16,
    classes: int = 400,
    pooling: str = "max",
    apart: Apart = (False, False),
) -> Cost:
    """STViT on Video Swin: windows of 8×7×7 and a patch stem; everything after the base blocks frame by frame, with
    the keys 4 × 100 without the centers, projected in each window, then all tokens. ``frames``: after the patches."""
    grid, span = (56, 56), min(8, frames)
    terms = [*patch_stem(grid, C, frames, taps=32)]
    for number in (1, 2):
        terms += stage(number, C, grid, depths[number - 1], 7, frames, span)
        terms += merging(f"merging {number}", C, grid, frames)
        C, grid = 2 * C, halved(grid)
    terms += stage(3, C, grid, base, 7, frames, span)
    X, names = Map(grid), [f"stage 3 block {i}" for i in range(base + 1, depths[2] + 1)]
    one = semantic_part(names, C, X, depths[3], pooling, concat=(False, True), once=False, apart=apart)
    terms += [term._replace(flops=frames * term.flops, values=frames * term.values) for term in one]
    return Cost([*terms, *head(frames * X.S, 2 * C, classes)])


def unit(names: Sequence[str], C: int, X: Map, pooling: str, once: bool, apart: Apart) -> Iterator[Term]:
    """A dumbbell unit of six: a window block, two STGM layers, a local and a cross block, recovery."""
    yield from window_block("base", names[0], C, X.grid)
    yield from window_pool(pooling, X, C)
    yield from stgm(names[1:3], C, X, once=once, apart=apart)
    yield from semantic_blocks(names[3:5], C, X, 4, apart[1])
    yield from recovery(names[5], C, X)


def unit_bordered(
    names: Sequence[str], C: int, X: Map, pooling: str, once: bool, apart: Apart
) -> Iterator[Term]:
    """A unit of the authors' detection backbone: key windows 14, 21 and 27 on the padded map."""
    yield from window_block("base", names[0], C, X.grid)
    yield from window_pool(pooling, X, C)
    yield from stgm_bordered(names[1:3], C, X, (14, 21))
    yield from semantic_blocks(names[3:5], C, X, None, apart[1])
    yield from recovery_bordered(names[5], C, X)


def stvit_r_swin(
    C: int,
    depths: Sequence[int],
    grid: Grid = (56, 56),
    pooling: str = "intra_inter",
    once: bool = True,
    classes: int = 1000,
    dense: bool = False,
    bordered: bool = False,
    bn_training: bool = False,
    apart: Apart = (False, False),
) -> Cost:
    """STViT-R-Swin; ``dense``: four feature maps, each with a norm, instead of a classifier."""
    make = unit_bordered if bordered else unit
    trunk_terms, C3, grid3 = trunk(C, depths, grid, bn_training)
    terms = [*_with_norms(trunk_terms, C, grid)] if dense else trunk_terms
    C, grid, X = C3, grid3, Map(grid3)
    names = [f"stage 3 block {i}" for i in range(1, depths[2] + 1)]
    for start in range(0, depths[2], 6):
        terms += make(names[start : start + 6], C, X, pooling, once, apart)
    terms += output_norm(3, C, grid) if dense else ()
    terms += merging("merging 3", C, grid)
    C, grid = 2 * C, halved(grid)
    terms += stage(4, C, grid, depths[3])
    return Cost([*terms, *(output_norm(4, C, grid) if dense else head(grid[0] * grid[1], C, classes))])


def _with_norms(terms: list[Term], C: int, grid: Grid) -> Iterator[Term]:
    """The trunk, with a norm after each of its two stages."""
    for term in terms:
        if term.layer.startswith("merging") and term.kind == "norms":
            number = int(term.layer.split()[1])
            yield from output_norm(number, C, grid)
            C, grid = 2 * C, halved(grid)
        yield term


def without_units(
    C: int,
    depths: Sequence[int],
    base: int,
    apart: Apart = (False, False),
    recoveries: int = 1,
    dense: int = 0,
) -> Cost:
    """Table 9's "w/o DU": one STGM after ``base`` blocks of stage 3, semantic blocks, ``recoveries`` recovery
    layers, and ``dense`` window blocks after them on the recovered map."""
    terms, C, grid = trunk(C, depths, (56, 56), training=True)
    X, names = Map(grid), [f"stage 3 block {i}" for i in range(base + 1, depths[2] + 1)]
    terms += stage(3, C, grid, base)
    terms += stgm(names[:2], C, X, once=False, apart=apart)
    first, last = len(names) - recoveries - dense, len(names) - dense
    terms += semantic_blocks(names[2:first], C, X, 4, apart[1])
    for name in names[first:last]:
        terms += recovery(name, C, X)
    for name in names[last:]:
        terms += window_block("base", name, C, grid)
    terms += merging("merging 3", C, grid)
    C, grid = 2 * C, halved(grid)
    terms += stage(4, C, grid, depths[3])
    return Cost([*terms, *head(grid[0] * grid[1], C, 1000)])
