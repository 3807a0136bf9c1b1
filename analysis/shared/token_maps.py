"""One token map: groups of patches drawn back on the image, one colour a group."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np

from analysis import style
from analysis.panels import blank, outline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIRST_COLOURS = [
    style.BLUE,
    style.ORANGE,
    style.GREEN,
    style.PURPLE,
    style.VERMILION,
    style.SKY,
    style.YELLOW,
]
MOST_LINES = 12  # more pairs than that are not joined: lines would hide the picture


def colours(count: int) -> np.ndarray:
    """(count, 3): the house palette if it has enough colours, else evenly spaced hues at two lightnesses."""
    from matplotlib.colors import to_rgb

    if count <= len(FIRST_COLOURS):
        return np.array([to_rgb(colour) for colour in FIRST_COLOURS[:count]]).reshape(-1, 3)
    hues = (0.13 + np.arange(count) * 0.618034) % 1
    return np.array([colorsys.hls_to_rgb(hue, 0.42 + 0.2 * (i % 2), 0.75) for i, hue in enumerate(hues)])


def token_map(ax: Axes, photo: np.ndarray, labels, grid, title: str = "", soft: bool = False) -> None:
    """Kept patches as they are, merged ones in their group's colour, dropped ones faded and crossed out.

    labels: (N,) the group of each patch, −1 where it was dropped. The two patches of a pair are joined
    by a line. ``soft``: colour every group, groups of one too (semantic tokens).
    """
    labels = np.asarray(labels).reshape(grid)
    height, width = photo.shape[:2]
    sizes = {label: int((labels == label).sum()) for label in np.unique(labels)}
    soft = soft and len(sizes) < labels.size  # nothing is assigned yet where each patch is its own
    merged = [label for label, size in sizes.items() if label >= 0 and (soft or size > 1)]
    picture = photo.astype(float) / 255
    rows = np.arange(height) * grid[0] // height
    columns = np.arange(width) * grid[1] // width
    at = labels[rows[:, None], columns[None]]  # (H, W)
    for label, colour in zip(merged, colours(len(merged)), strict=True):
        picture[at == label] = 0.42 * picture[at == label] + 0.58 * colour
    gone = at == -1
    picture[gone] = 0.88 + 0.12 * picture[gone].mean(-1, keepdims=True)
    ax.imshow(picture, interpolation="nearest", extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    outline(ax, labels, (height, width), color="white", lw=0.9)
    outline(ax, labels, (height, width), color=style.INK, lw=0.3)
    pairs = [label for label in merged if sizes[label] == 2]
    for label in pairs if len(pairs) <= MOST_LINES else ():
        places = np.argwhere(labels == label)
        y, x = ((places + 0.5) * (height / grid[0], width / grid[1]) - 0.5).T
        ax.plot(x, y, "o-", color=style.INK, ms=2.6, lw=0.9, mec="white", mew=0.5)
    blank(ax, title)
