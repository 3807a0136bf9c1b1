"""Attention in semantic windows: what the semantic tokens of one window of a Swin look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from analysis import style
from analysis.panels import blank, outline, overlay
from analysis.panels import number as number_panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn


class WindowMaps(NamedTuple):
    """The first layer of the first STGM: (B, M, N) maps, and which window each token belongs to."""

    maps: Tensor
    grid: tuple[int, int]
    window: tuple[int, int]
    side: int  # semantic tokens along a window's side

    def tokens_of(self, number: int) -> list[int]:
        """The semantic tokens of a window, windows and tokens counted in reading order."""
        across, row, column = self.grid[1] // self.window[1], *self.position(number)
        width = across * self.side
        return [
            (row * self.side + i) * width + column * self.side + j
            for i in range(self.side)
            for j in range(self.side)
        ]

    def position(self, number: int) -> tuple[int, int]:
        return divmod(number, self.grid[1] // self.window[1])

    def inside(self, number: int) -> np.ndarray:
        """(rows, columns), True in the window."""
        row, column = self.position(number)
        mask = np.zeros(self.grid, dtype=bool)
        h, w = self.window
        mask[row * h : (row + 1) * h, column * w : (column + 1) * w] = True
        return mask

    def reach(self, number: int) -> np.ndarray:
        """(rows, columns), True where the window's tokens can look at all."""
        return np.asarray(self.maps[0, self.tokens_of(number)].sum(0) > 0).reshape(self.grid)

    def outside_share(self) -> float:
        """The part of the attention on image tokens that leaves the own window."""
        windows = (self.grid[0] // self.window[0]) * (self.grid[1] // self.window[1])
        shares = [
            self.maps[:, self.tokens_of(i)][:, :, ~torch.from_numpy(self.inside(i)).flatten()].sum(-1).mean()
            for i in range(windows)
        ]
        return float(torch.stack(shares).mean())

    def outside_even(self) -> float:
        reach, inside = self.reach(0), self.inside(0)
        return float((reach & ~inside).sum() / reach.sum())


def capture_windows(model: nn.Module, images: Tensor) -> WindowMaps:
    import stvit

    with torch.inference_mode(), stvit.record(model, attention=False) as maps:
        model(images)
    stage = model.layers[2]
    layer = next(i for i, (role, _, _) in enumerate(stage.plan) if role == "stgm")
    grid = tuple(-(-side // 16) for side in images.shape[-2:])  # stage 3 sees one token for 16 pixels
    if any(side % window for side, window in zip(grid, stage.window, strict=True)):
        raise ValueError(f"choose an image size whose map {grid} the window {stage.window} divides")
    maps = maps[f"layers.2.blocks.{layer}.assignment"]
    return WindowMaps(maps, grid, stage.window, stage.options.semantic_window)


def draw(found: WindowMaps, photo: np.ndarray, label: str, number: int = 0) -> Figure:
    """The photo with window (orange) and reach (blue), then one map a semantic token of the window."""
    tokens = found.tokens_of(number)
    columns = -(-len(tokens) // 2)
    with style.house_style():
        side = style.PAGE / (columns + 2)
        fig, axes = style.figure(style.PAGE, 2 * side + 0.4, 2, columns + 2)
        spec = axes[0, 0].get_gridspec()
        for ax in axes[:, :2].flat:
            ax.remove()
        ax = fig.add_subplot(spec[:, :2])
        ax.imshow(photo)
        outline(ax, found.reach(number), photo.shape[:2], style.SKY, 2.2)
        outline(ax, found.inside(number), photo.shape[:2], style.ORANGE, 2.2)
        blank(ax)
        for i, ax in enumerate(axes[:, 2:].flat):
            if i >= len(tokens):
                ax.axis("off")
                continue
            overlay(ax, photo, found.maps[0, tokens[i]], found.grid, window=found.inside(number).flatten())
            number_panel(ax, i + 1)
        fig.suptitle(label, fontsize=8, x=0.01, ha="left")
    return fig
