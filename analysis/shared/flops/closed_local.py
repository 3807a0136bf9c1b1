"""Closed forms of Swin and Video Swin, and what STViT on them shares.

N image tokens, W of them in a window, M semantic tokens in a window, N/W windows. Maps that the window
does not divide are padded: attention runs on the padded map, norms and FFN on the real one. The relative
position bias and the masks are added, which counts nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.shared.flops.formulas import (
    Cost,
    Grid,
    Term,
    batch_norm,
    block,
    conv,
    head,
    layer_norm,
    linear,
)

SWIN = {"tiny": (96, (2, 2, 6, 2)), "small": (96, (2, 2, 18, 2)), "base": (128, (2, 2, 18, 2))}


def padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def patch_stem(grid: Grid, C: int, frames: int = 1, taps: int = 16) -> Iterator[Term]:
    """Swin's patch embedding and its norm; ``taps`` pixels a patch and channel."""
    N = frames * grid[0] * grid[1]
    yield Term("stem", "patch_embed", "patch embedding", conv(N, 3, C, taps), 3 * N * taps)
    yield Term("stem", "patch_embed", "norms", layer_norm(N, C), N * C)


def conv_stem(grid: Grid, C: int, training: bool) -> Iterator[Term]:
    """STViT's stem: twice 3×3 with stride 2, BatchNorm and Hardswish; C/2, then C channels."""
    N, half = grid[0] * grid[1], C // 2
    convolutions = conv(4 * N, 3, half, 9) + conv(N, half, C, 9)
    norms = batch_norm(4 * N, half, training) + batch_norm(N, C, training)
    yield Term(
        "stem", "patch_embed", "patch embedding", convolutions, (16 * 3 + 4 * half) * N + (4 * half + C) * N
    )
    yield Term("stem", "patch_embed", "norms", norms, (4 * half + C) * N)


def window_block(
    part: str, layer: str, C: int, grid: Grid, window: int = 7, frames: int = 1, span: int = 1
) -> Iterator[Term]:
    """W-MSA or SW-MSA and FFN; ``frames`` images in windows of ``span`` frames."""
    N = frames * grid[0] * grid[1]
    inside = padded(frames, span) * padded(grid[0], window) * padded(grid[1], window)
    return block(part, layer, C, inside, per_query=span * window**2, normed=N, kept=N)


def merging(layer: str, C: int, grid: Grid, frames: int = 1) -> Iterator[Term]:
    """Patch merging: four tokens side by side, norm, linear 4C → 2C; odd maps grow by a row or a column."""
    N = frames * -(-grid[0] // 2) * -(-grid[1] // 2)
    yield Term("downsampling", layer, "norms", layer_norm(N, 4 * C), 4 * N * C)
    yield Term("downsampling", layer, "downsampling", linear(N, 4 * C, 2 * C), 4 * N * C)


def halved(grid: Grid) -> Grid:
    return -(-grid[0] // 2), -(-grid[1] // 2)


def stage(
    number: int, C: int, grid: Grid, depth: int, window: int = 7, frames: int = 1, span: int = 1
) -> Iterator[Term]:
    for i in range(1, depth + 1):
        yield from window_block("base", f"stage {number} block {i}", C, grid, window, frames, span)


def swin(
    C: int,
    depths: Sequence[int],
    grid: Grid = (56, 56),
    window: int = 7,
    classes: int = 1000,
    frames: int = 1,
    span: int = 1,
    taps: int = 16,
    dense: bool = False,
) -> Cost:
    """Swin, Video Swin (``frames`` after the patches, windows of ``span`` of them) and, with ``dense``, the
    backbone whose four stages each end in a norm instead of a classifier."""
    terms = [*patch_stem(grid, C, frames, taps)]
    for number, depth in enumerate(depths, 1):
        terms += stage(number, C, grid, depth, window, frames, span)
        if dense:
            terms += output_norm(number, C, grid)
        if number < len(depths):
            terms += merging(f"merging {number}", C, grid, frames)
            C, grid = 2 * C, halved(grid)
    return Cost(terms if dense else [*terms, *head(frames * grid[0] * grid[1], C, classes)])


def output_norm(number: int, C: int, grid: Grid) -> Iterator[Term]:
    yield Term("head", f"norm {number}", "norms", layer_norm(grid[0] * grid[1], C), grid[0] * grid[1] * C)


def swin_own_counter(C: int, depths: Sequence[int], grid: Grid = (56, 56), window: int = 7) -> Cost:
    """What the Swin paper's own counter says: as above, but a LayerNorm counts 1 a value and not 5."""
    return Cost(
        term._replace(flops=term.flops // 5) if term.kind == "norms" else term
        for term in swin(C, depths, grid, window)
    )
