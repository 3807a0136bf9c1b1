"""Query and key index tables for windowed attention, built for a feature map of any size."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from stvit.layers.window_options import SemanticOptions
from stvit.layers.window_semantic import Windows
from stvit.layers.windows import Grid, neighbourhoods, restore_table, window_counts, window_table


class Layout(NamedTuple):
    """The windows of each role on one map; None is attention among all tokens."""

    grid: Grid  # of the image tokens
    semantic: Grid  # of the semantic tokens
    generate: Windows | None  # STGM, first layer
    cluster: Windows | None  # STGM, further layers
    local: Windows | None  # semantic layers
    cross: Windows | None
    recover: Windows | None


def layout(grid: Grid, window: Grid, options: SemanticOptions, device: torch.device) -> Layout:
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


def cross_windows(grid: Grid, w_s: int, side: int | str, device: torch.device) -> Tensor | None:
    """The semantic tokens that each window attends to, ``side`` windows wide: (windows, keys); None: all."""
    if side == "global" or max(grid) <= side * w_s:
        return None
    return neighbourhoods(grid, (w_s, w_s), (side * w_s, side * w_s), device)


def layout_cross(grid: Grid, w_s: int, options: SemanticOptions, device: torch.device) -> Windows | None:
    keys = cross_windows(grid, w_s, options.cross_window, device)
    if keys is None:
        return None
    own = (w_s, w_s)
    return Windows(window_table(grid, own, device), keys, restore_table(grid, own, device))
