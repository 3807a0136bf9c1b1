"""What only the STViT-R authors' released program does, kept out of the paper's path.

The released weights were trained with it, and the printed FLOPs count some of it, so that it is kept to the
letter, mistakes included: G added to the semantic tokens themselves, a first STGM layer without a residual,
keys projected anew in each window, key windows that stick out of a padded map, and a mask at its border that
covers the wrong tokens. ``ReleasedOptions`` says which of these a model has.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stvit.fast.groups import in_groups
from stvit.layers.window_layout import Layout
from stvit.layers.window_options import ReleasedOptions
from stvit.layers.window_semantic import ConcatStgmLayer, RecoveryLayer, WindowedStgmLayer, Windows
from stvit.layers.windows import Grid, gather, outer, pad, padding, restore_table, window_counts, window_table
from stvit.models.dumbbell import STGM_KEYS, DumbbellStage

RELEASED_MASK = -1000.0

# The released weights' architecture: what differs from the paper's text. The detectors' backbone shares
# the classifier's parameters, but not its function.
RELEASED: dict[str, dict] = {
    "released": dict(
        pooling="max", initialization="spatial", layer_scale=1e-5, project_keys="per_window", shortcut=False
    ),
    "released_detection": dict(
        pooling="max",
        initialization="spatial",
        layer_scale=1e-5,
        stgm_keys="image",
        key_windows=(14, 21),
        cross_window="global",
        recovery_window=9,
        border="masked",
        mask_padding=False,
        always_shift=True,
        output_norms=True,
    ),
}


class OffsetStgmLayer(ConcatStgmLayer):
    """G as the released program uses it: added to S itself, the residual included, but not to the keys."""

    def forward(self, s: Tensor, x: Tensor, windows: Windows | None, grid: Grid) -> Tensor:
        return self.update(self.guide(s, grid), *self.sources(s, x, grid), windows)

    def sources(self, s: Tensor, x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        return self.norm1(self.guide(s, grid)), self.norm1(torch.cat([s, x], dim=1))


class PerWindowStgmLayer(ConcatStgmLayer):
    """Same output as ConcatStgmLayer, but keys are gathered before projection, so overlaps are projected
    repeatedly; matches the authors' program and the printed FLOPs.
    """

    shortcut: bool = True  # the released classifier adds no residual around this attention

    def forward(self, s: Tensor, x: Tensor, windows: Windows | None, grid: Grid) -> Tensor:
        if windows is None:
            return self.update(s, self.norm1(s), self.norm1(self.candidates(s, x)))
        keys = gather(self.candidates(s, x), windows.keys).flatten(0, 1)  # (B·windows, K, C)
        centers = gather(s, windows.queries).flatten(0, 1)  # (B·windows, w_s², C)
        centers = self.update(centers, self.norm1(centers), self.norm1(keys))
        return centers.reshape(s.shape)[:, windows.restore]  # (B, M, C)

    def candidates(self, s: Tensor, x: Tensor) -> Tensor:
        """The tokens that ``windows.keys`` counts."""
        return torch.cat([s, x], dim=1)

    def update(
        self, x: Tensor, query: Tensor, key: Tensor | None = None, windows: Windows | None = None
    ) -> Tensor:
        if self.shortcut:
            return super().update(x, query, key, windows)
        return self.feed_forward(self.ls1(self.attn(query, key, windows)))


class PerWindowImageStgmLayer(PerWindowStgmLayer):
    """The same with the keys X alone (Eq. 1), as the printed FLOPs of video models count."""

    sources = WindowedStgmLayer.sources

    def candidates(self, s: Tensor, x: Tensor) -> Tensor:
        return x


PER_WINDOW = {ConcatStgmLayer: PerWindowStgmLayer, WindowedStgmLayer: PerWindowImageStgmLayer}


class BorderedRecoveryLayer(RecoveryLayer):
    """Recovery on a padded map: what is padding is left out after the attention."""

    def forward(
        self, x: Tensor, s: Tensor, windows: Windows | None = None, real: Tensor | None = None
    ) -> Tensor:
        """``real``: the numbers of the tokens that are kept, where ``x`` holds padding too."""
        update = self.attn(self.norm1(x), self.norm1(s), windows)  # (B, N, C)
        if real is not None:
            x, update = x[:, real], update[:, real]
        return in_groups(self.feed_forward, x + self.drop_path1(self.ls1(update)))


class ReleasedStage(DumbbellStage):
    """A stage of dumbbell units as ``ReleasedOptions`` say."""

    options: ReleasedOptions

    def stgm_layer(self, place: int, unit: int, block: nn.Module) -> nn.Module:
        options = self.options
        cls = STGM_KEYS[options.stgm_keys][min(place, 1)]
        if place == 1 and unit == 0 and options.initialization == "offset":
            layer = OffsetStgmLayer.from_swin(block, options.layer_scale)
            layer.centers = self.new_centers(block.dim)
            return layer
        if place > 0 or options.project_keys == "once":
            return super().stgm_layer(place, unit, block)
        layer = PER_WINDOW[cls].from_swin(block, options.layer_scale)
        layer.shortcut = options.shortcut
        return layer

    def recovery_layer(self, block: nn.Module) -> nn.Module:
        return BorderedRecoveryLayer.from_swin(block, self.options.layer_scale)

    def layout(self, grid: Grid, device: torch.device) -> Layout | BorderedLayout:
        if self.options.border == "inside":
            return super().layout(grid, device)
        return bordered_layout(grid, self.window, self.options, device)

    def tokens(self, x: Tensor) -> Tensor:
        """The map as a row of tokens, padded to whole windows if key windows may stick out of it."""
        return super().tokens(x if self.options.border == "inside" else pad(x, self.window))

    def keys(self, tokens: Tensor) -> Tensor:
        """With one more token, a zero, which stands for all that lies outside the map."""
        return F.pad(tokens, (0, 0, 0, 1)) if self.options.border == "released" else tokens

    def recover(self, block: nn.Module, x: Tensor, s: Tensor, where: Layout | BorderedLayout) -> Tensor:
        real = getattr(where, "real", None)
        restored = self.run(block, self.tokens(x), self.keys(s), where.recover, real)  # (B, H·W, C)
        return restored.unflatten(1, x.shape[1:3])


class BorderedLayout(NamedTuple):
    """``Layout`` on a map that is padded to whole windows."""

    grid: Grid  # of the image tokens, padding included
    semantic: Grid
    generate: Windows | None
    cluster: Windows | None
    local: Windows | None
    cross: Windows | None
    recover: Windows | None
    real: Tensor | None  # the numbers of the image tokens that are not padding


def bordered_layout(
    grid: Grid, window: Grid, options: ReleasedOptions, device: torch.device
) -> BorderedLayout:
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
    return BorderedLayout(
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


def bordered_neighbourhoods(
    grid: Grid, window: Grid, reach: Grid, real: Grid, device: torch.device | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Larger windows that may stick out of the map: table, which are out, which are out or padding.

    ``real`` is the part of the padded ``grid`` that shows the image; all three are (windows, h'·w').
    """
    rows, columns = (_axis_bordered(*axis, device) for axis in zip(grid, window, reach, strict=True))
    table = outer(rows.clamp(0, grid[0] - 1), columns.clamp(0, grid[1] - 1), grid[1])

    def either(y: Tensor, x: Tensor) -> Tensor:
        return (y[:, None, :, None] | x[None, :, None, :]).reshape(table.shape)

    outside = either((rows < 0) | (rows >= grid[0]), (columns < 0) | (columns >= grid[1]))
    unreal = either((rows < 0) | (rows >= real[0]), (columns < 0) | (columns >= real[1]))
    return table, outside, unreal


def _axis_bordered(size: int, window: int, reach: int, device: torch.device | None) -> Tensor:
    start = torch.arange(size // window, device=device) * window - (reach - window) // 2
    return start[:, None] + torch.arange(reach, device=device)
