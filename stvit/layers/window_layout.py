"""Which tokens a layer of semantic tokens looks at, on a map of any size: tables, made for each map."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from stvit.layers.window_options import SemanticOptions
from stvit.layers.window_semantic import Windows
from stvit.layers.windows import (
    Grid,
    bordered_neighbourhoods,
    neighbourhoods,
    padding,
    restore_table,
    window_counts,
    window_table,
)

RELEASED_MASK = -1000.0


class Layout(NamedTuple):
    """The windows of each role on one map; None is attention among all tokens."""

    grid: Grid  # of the image tokens, padded where key windows may stick out
    semantic: Grid  # of the semantic tokens
    generate: Windows | None  # STGM, first layer
    cluster: Windows | None  # STGM, further layers
    local: Windows | None  # semantic layers
    cross: Windows | None
    recover: Windows | None
    real: Tensor | None = None  # image tokens that are not padding
    zero: bool = False  # keys have one more token, a zero, for all that lies outside


def layout(grid: Grid, window: Grid, options: SemanticOptions, device: torch.device) -> Layout:
    make = _layout_inside if options.border == "inside" else _layout_bordered
    return make(grid, window, options, device)


def cross_windows(grid: Grid, w_s: int, side: int | None, device: torch.device) -> Tensor | None:
    """The semantic tokens that each window looks at, ``side`` windows wide: (windows, keys); None: all."""
    if side is None or max(grid) <= side * w_s:
        return None
    return neighbourhoods(grid, (w_s, w_s), (side * w_s, side * w_s), device)


def layout_cross(grid: Grid, w_s: int, options: SemanticOptions, device: torch.device) -> Windows | None:
    keys = cross_windows(grid, w_s, options.cross_window, device)
    if keys is None:
        return None
    own = (w_s, w_s)
    return Windows(window_table(grid, own, device), keys, restore_table(grid, own, device))


def _layout_inside(grid: Grid, window: Grid, options: SemanticOptions, device: torch.device) -> Layout:
    """Key windows are pushed inside the map: every key is a token of the image, and nothing is masked."""
    w_s = options.semantic_window
    own, counts = (w_s, w_s), window_counts(grid, window)
    semantic = counts[0] * w_s, counts[1] * w_s
    M = semantic[0] * semantic[1]
    table, restore = window_table(semantic, own, device), restore_table(semantic, own, device)

    def stgm(first: bool) -> Windows | None:
        reach = options.key_windows[0 if first else 1]
        concat = options.stgm_keys == "concat" or (options.stgm_keys == "image_first" and not first)
        if reach >= max(grid) and (not first or not concat or counts == (1, 1)):
            return None
        keys = neighbourhoods(grid, window, (reach, reach), device)  # (windows, w_k²)
        if concat:
            side = -(-reach * w_s // max(window))
            centers = table if first else neighbourhoods(semantic, own, (side, side), device)
            keys = torch.cat([centers, M + keys], dim=1)
        return Windows(table, keys, restore)

    sources = cross_windows(semantic, w_s, options.recovery_window, device)
    recover = None
    if sources is not None:
        recover = Windows(window_table(grid, window, device), sources, restore_table(grid, window, device))
    return Layout(
        grid,
        semantic,
        generate=stgm(first=True),
        cluster=stgm(first=False),
        local=None if counts == (1, 1) else Windows(table, table, restore),
        cross=layout_cross(semantic, w_s, options, device),
        recover=recover,
    )


def _layout_bordered(grid: Grid, window: Grid, options: SemanticOptions, device: torch.device) -> Layout:
    """Key windows stick out of the padded map, as in the authors' detection backbone."""
    pads, w_s = padding(grid, window), options.semantic_window
    padded = grid[0] + pads[0], grid[1] + pads[1]
    own, counts = (w_s, w_s), window_counts(grid, window)
    semantic = counts[0] * w_s, counts[1] * w_s
    table, restore = window_table(semantic, own, device), restore_table(semantic, own, device)
    masked = options.border == "masked"
    seen = _seen(grid, window, w_s) if masked else semantic  # semantic tokens that show some of the image

    def around(
        queries: Tensor, back: Tensor, size: Grid, inner: Grid, reach: int, real: Grid, corner: Grid
    ) -> Windows:
        keys, outside, unreal = bordered_neighbourhoods(size, inner, (reach, reach), real, device)
        if masked:
            mask = torch.zeros(keys.shape, device=device).masked_fill(unreal, -torch.inf)
            return Windows(queries, keys, back, mask)
        mask = _released_mask(size, corner, device).flatten()[keys].masked_fill(outside, RELEASED_MASK)
        return Windows(queries, keys.masked_fill(outside, size[0] * size[1]), back, mask)

    local, cross = Windows(table, table, restore), None
    if seen != semantic:
        y, x = (torch.arange(side, device=device) < real for side, real in zip(semantic, seen, strict=True))
        hidden = torch.zeros(semantic, device=device).masked_fill(~(y[:, None] & x), -torch.inf).flatten()
        everyone = torch.arange(len(hidden), device=device)
        local = local._replace(mask=hidden[table])
        cross = Windows(everyone[None], everyone[None], everyone, hidden[None])
    rows, columns = (torch.arange(side, device=device) for side in grid)
    first, second = options.key_windows
    back = restore_table(padded, window, device)
    return Layout(
        padded,
        semantic,
        generate=around(table, restore, padded, window, first, grid, pads),
        cluster=around(table, restore, padded, window, second, grid, pads),
        local=local,
        cross=cross,
        recover=around(
            window_table(padded, window, device),
            back,
            semantic,
            own,
            options.recovery_window * w_s,
            seen,
            pads,
        ),
        real=(rows[:, None] * padded[1] + columns).flatten() if any(pads) else None,
        zero=not masked,
    )


def _seen(grid: Grid, window: Grid, w_s: int) -> Grid:
    """The part of the semantic tokens' grid whose cells hold a token of the image."""

    def along(size: int, side: int) -> int:
        return size // side * w_s + sum(cell * side // w_s < size % side for cell in range(w_s))

    return along(grid[0], window[0]), along(grid[1], window[1])


def _released_mask(grid: Grid, corner: Grid, device: torch.device) -> Tensor:
    """The released code masks the slice [-bottom:, -right:], whatever it is.

    With padding on both sides that is the corner where both meet, not the two strips; with padding on one
    side it is the strip; with none, −0 is 0 and it is the whole map, which masks nothing. On semantic
    tokens it counts rows and columns of image tokens.
    """
    mask = torch.zeros(grid, device=device)
    bottom, right = (-side if side else 0 for side in corner)
    mask[bottom:, right:] = RELEASED_MASK
    return mask
