"""One token's view in one layer as a figure; ``analysis.explore`` has the same with widgets.

snapshot(maps, photo, layer=3)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis import style
from analysis.attention_maps.capture import Captured
from analysis.attention_maps.draw import heads
from analysis.panels import blank, outline, overlay

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def views(maps: Captured) -> list[tuple[str, object, int]]:
    """(title, attention of one image (1, heads, rows, N), rows in front that are no image tokens) by layer."""
    found = [
        (f"layer {i + 1}: image tokens", layer[..., maps.prefix :], maps.prefix)
        for i, layer in enumerate(maps.base)
    ]
    first = len(maps.base) + 1
    found += [(f"layer {first + i}: semantic tokens", layer, -1) for i, layer in enumerate(maps.to_image)]
    return found


def snapshot(
    maps: Captured,
    photo: np.ndarray,
    layer: int = 1,
    head: int | None = None,
    token: int = 1,
    label: str = "",
) -> Figure:
    """Photo, what ``token`` looks at, and who looks at that place, in one layer; all counted from 1."""
    title, weights, prefix = views(maps)[layer - 1]
    rows = heads(weights, head)[0].numpy()  # (rows, N)
    row = min(token, len(rows)) - 1
    which = "mean over heads" if head is None else f"head {head}"
    with style.house_style():
        fig, axes = style.figure(5.4, 2.25, 1, 3)
        axes[0].imshow(photo)
        blank(axes[0], label)
        if prefix < 0:
            overlay(axes[1], photo, rows[row], maps.grid, f"semantic token {row + 1} looks at")
            axes[2].imshow(rows, cmap="inferno", aspect="auto", vmin=0)
            axes[2].axhline(row, color=style.SKY, lw=1)
            axes[2].grid(False)
            axes[2].set(xlabel="image token", ylabel="semantic token")
            axes[2].set_title("all rows", fontsize=7.5)
        else:
            name = "class token" if row < prefix else f"patch {row + 1 - prefix}"
            overlay(axes[1], photo, rows[row], maps.grid, f"{name} looks at")
            place = max(row - prefix, 0)
            overlay(axes[2], photo, rows[prefix:, place], maps.grid, f"who looks at patch {place + 1}")
            mark = np.zeros(maps.grid, dtype=bool)
            mark.flat[place] = True
            for ax in (axes[0], axes[2]) if row >= prefix else ():
                outline(ax, mark, photo.shape[:2], style.SKY, 2)
        fig.suptitle(f"{title}, {which}", fontsize=8, x=0.01, ha="left")
    return fig
