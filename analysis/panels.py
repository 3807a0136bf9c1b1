"""Panels that several analyses draw: a photo with something about its tokens on top."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CMAP = "inferno"
INCHES = 1.15  # inches of a panel, where the page leaves room for more


def blank(ax: Axes, title: str = "") -> None:
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    if title:
        ax.set_title(title, fontsize=7.5)


def number(ax: Axes, n: int) -> None:
    """A small number in the corner that is legible on any picture."""
    from matplotlib.patheffects import withStroke

    text = ax.text(0.05, 0.94, n, transform=ax.transAxes, color="white", fontsize=6.5, va="top")
    text.set_path_effects([withStroke(linewidth=1.6, foreground="black")])


def overlay(ax: Axes, photo: np.ndarray, weights, grid, title: str = "", window=None, strength=0.72) -> None:
    """A map over the grey photo, scaled to its own maximum; ``window`` (N,) outlines a set of tokens."""
    height, width = photo.shape[:2]
    values = np.asarray(weights, dtype=float).reshape(grid)
    frame = (-0.5, width - 0.5, height - 0.5, -0.5)
    ax.imshow(photo.mean(2), cmap="gray", vmin=-60, vmax=255, extent=frame)
    ax.imshow(values, cmap=CMAP, vmin=0, vmax=values.max() or 1, alpha=strength, extent=frame)
    if window is not None:
        outline(ax, np.asarray(window).reshape(grid), photo.shape[:2], color="white", lw=1.0)
    blank(ax, title)


def outline(ax: Axes, labels: np.ndarray, size, color="white", lw=0.8) -> None:
    """Lines between neighbouring places of ``labels`` (rows, columns) that differ, in pixels of the image."""
    from matplotlib.collections import LineCollection

    rows, columns = labels.shape
    y, x = size[0] / rows, size[1] / columns
    padded = np.pad(labels.astype(int), 1, constant_values=0 if labels.dtype == bool else -1)
    level = np.argwhere(padded[:-1, 1:-1] != padded[1:, 1:-1])  # (lines, 2): below row i − 1, at column j
    upright = np.argwhere(padded[1:-1, :-1] != padded[1:-1, 1:])
    lines = [[(j * x, i * y), ((j + 1) * x, i * y)] for i, j in level]
    lines += [[(j * x, i * y), (j * x, (i + 1) * y)] for i, j in upright]
    ax.add_collection(LineCollection(np.array(lines) - 0.5, colors=color, linewidths=lw, capstyle="round"))
    ax.set(xlim=(-0.5, size[1] - 0.5), ylim=(size[0] - 0.5, -0.5))
