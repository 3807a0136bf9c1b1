"""Token maps: groups of patches drawn back on the image, one colour a group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import style
from analysis.panels import INCHES, blank
from analysis.shared.token_maps import token_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def rows(photos, stages_of, titles, label: str, names=None, soft=(), side=INCHES) -> Figure:
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


def wall(photo, drawn, label: str, columns: int = 5) -> Figure:
    """The photo, then a panel for each of ``drawn``: (labels, grid, title, words below)."""
    lines = -(-(len(drawn) + 1) // columns)
    with style.house_style():
        side = style.PAGE / columns
        fig, axes = style.figure(style.PAGE, lines * (side + 0.3) + 0.2, lines, columns, squeeze=False)
        first, *rest = axes.flat
        first.imshow(photo)
        blank(first, "photograph")
        for ax, (labels, grid, above, below) in zip(rest, drawn, strict=False):
            token_map(ax, photo, labels, grid, above)
            ax.set_xlabel(below, fontsize=6.5, labelpad=2)
        for ax in rest[len(drawn) :]:
            ax.axis("off")
        fig.suptitle(label, fontsize=8, x=0.01, ha="left")
    return fig
