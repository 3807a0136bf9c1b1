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


def stage_grid(model: nn.Module, images: Tensor, stage: int = 2) -> tuple[int, int]:
    """The map of a stage: patches, halved by each merging before it."""
    patch = model.patch_embed.patch_size
    patch = (patch, patch) if isinstance(patch, int) else tuple(patch)
    return tuple(-(-side // (size * 2**stage)) for side, size in zip(images.shape[-2:], patch, strict=True))


def has_semantic_windows(model: nn.Module) -> bool:
    return hasattr(model.layers[2], "plan")


def whole_windows(grid: tuple[int, int], window: tuple[int, int]) -> None:
    if any(side % w for side, w in zip(grid, window, strict=True)):
        raise ValueError(f"choose an image size whose map {grid} the window {tuple(window)} divides")


def capture_windows(model: nn.Module, images: Tensor, unit: int = 0) -> WindowMaps:
    """The first STGM layer of a dumbbell unit (of STViT-Swin's only one)."""
    import stvit

    if not has_semantic_windows(model):
        raise ValueError(f"{type(model).__name__} has no semantic tokens")
    stage, grid = model.layers[2], stage_grid(model, images)
    whole_windows(grid, stage.window)
    with torch.inference_mode(), stvit.record(model, attention=False) as maps:
        model(images)
    layer = stage.plan.index(("stgm", 0, unit))
    maps = maps[f"layers.2.blocks.{layer}.assignment"]
    return WindowMaps(maps, grid, stage.window, stage.options.semantic_window)


class Received(NamedTuple):
    """What each place of stage 3's map receives of the attention in its window: (B, layers, N), rows sum to 1."""

    layers: list[int]  # within the stage, counted from 1
    maps: Tensor
    grid: tuple[int, int]


def capture_received(model: nn.Module, images: Tensor) -> Received:
    """The layers of stage 3 on image tokens, whose windows partition the map (shifted in every other layer)."""
    import stvit

    stage, grid = model.layers[2], stage_grid(model, images)
    layers = [i for i, block in enumerate(stage.blocks) if hasattr(block, "shift_size")]
    with torch.inference_mode(), stvit.record(model) as recorded:
        model(images)
    maps = []
    for i in layers:
        block = stage.blocks[i]
        whole_windows(grid, block.window_size)
        weights = recorded[f"layers.2.blocks.{i}.attn"].mean((1, 2))  # (B·windows, w²)
        maps.append(from_windows(weights, grid, block.window_size, block.shift_size, images.shape[0]))
    if not maps:
        raise ValueError(f"stage 3 of {type(model).__name__} has no layer on image tokens")
    found = torch.stack(maps, dim=1)
    return Received([i + 1 for i in layers], found / found.sum(-1, keepdim=True), grid)


def from_windows(values: Tensor, grid, window, shift, batch: int) -> Tensor:
    """(B·windows, w²) of a map rolled by −shift → (B, N)."""
    (H, W), (h, w) = grid, window
    shift = (shift, shift) if isinstance(shift, int) else tuple(shift)
    cells = values.reshape(batch, H // h, W // w, h, w).transpose(2, 3).reshape(batch, H, W)
    return cells.roll(shift, dims=(1, 2)).flatten(1)


def draw_all(model: nn.Module, images: Tensor, photo: np.ndarray, label: str) -> dict[str, Figure]:
    """Every figure that a Swin has the layers for: its windows' columns, and the semantic windows of each unit."""
    from analysis.attention_maps import figures

    received = capture_received(model, images)
    title = f"{label}: attention that each place of stage 3 receives in its window"
    titles = [f"layer {layer}" for layer in received.layers]
    drawn = {"received": figures.by_layer([photo], received.maps, received.grid, title, titles=titles)}
    if has_semantic_windows(model):
        units = len(model.layers[2].units)
        for unit in range(units):
            name = "windows" if units == 1 else f"windows_unit_{unit + 1}"
            title = f"{label}: attention in semantic windows" + (f", unit {unit + 1}" if units > 1 else "")
            drawn[name] = draw(capture_windows(model, images, unit), photo, title)
    return drawn


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
