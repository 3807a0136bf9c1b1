"""Token maps: groups of patches drawn back on the image, one colour a group."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np

from analysis import style
from analysis.panels import SIDE, blank, outline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW = [style.BLUE, style.ORANGE, style.GREEN, style.PURPLE, style.VERMILION, style.SKY, style.YELLOW]
LINES = 12  # more pairs than that are not joined: lines would hide the picture


def colours(count: int) -> np.ndarray:
    """(count, 3): the house's palette while it lasts, then hues as far apart as can be at two lightnesses."""
    from matplotlib.colors import to_rgb

    if count <= len(FEW):
        return np.array([to_rgb(colour) for colour in FEW[:count]]).reshape(-1, 3)
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
    for label in pairs if len(pairs) <= LINES else ():
        places = np.argwhere(labels == label)
        y, x = ((places + 0.5) * (height / grid[0], width / grid[1]) - 0.5).T
        ax.plot(x, y, "o-", color=style.INK, ms=2.6, lw=0.9, mec="white", mew=0.5)
    blank(ax, title)


def rows(photos, stages_of, titles, label: str, names=None, soft=(), side=SIDE) -> Figure:
    """A row an image or a method: the photo, then a token map for each entry of ``stages_of[row]``.

    stages_of: lists of (labels, grid, title) or None for an empty place
    titles: above the columns. names: left of the rows. side: of a panel, in inches, at most
    soft: numbers of rows whose groups all have a colour
    """
    count, columns = len(stages_of), max(map(len, stages_of)) + 1
    with style.house_style():
        side = min((style.PAGE - (0.9 if names else 0)) / columns, side)
        aspect = photos[0].shape[0] / photos[0].shape[1]
        width = max(side * columns + (0.9 if names else 0), style.COLUMN)
        fig, axes = style.figure(width, count * (side * aspect + 0.17) + 0.5, count, columns, squeeze=False)
        for r, (photo, stages) in enumerate(zip(photos, stages_of, strict=True)):
            axes[r, 0].imshow(photo)
            blank(axes[r, 0], titles[0] if r == 0 else "")
            if names:
                axes[r, 0].set_ylabel(names[r], fontsize=7.5, rotation=0, ha="right", va="center", labelpad=6)
            for c in range(1, columns):
                ax, stage = axes[r, c], stages[c - 1] if c <= len(stages) else None
                above = titles[c] if r == 0 else ""
                if stage is None:
                    blank(ax, above)
                    continue
                labels, grid, below = stage
                token_map(ax, photo, labels, grid, above, soft=r in soft)
                ax.set_xlabel(below, fontsize=6.5, labelpad=2)
        fig.suptitle(label, fontsize=8, x=0.01, ha="left")
    return fig
