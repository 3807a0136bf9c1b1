"""Sliders over a model's attention, for notebooks: layer, head, and the token whose view is drawn.

explore(subject, photo)       # where widgets run; click a patch to see who attends to it
snapshot(maps, photo, layer=3)  # one state of it as a figure, which needs no widgets
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from analysis import style
from analysis.attention_maps.capture import Captured, capture
from analysis.attention_maps.draw import heads
from analysis.images import normalised
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


def explore(subject, photo: np.ndarray):
    """A widget: sliders for layer, head and token beside the picture, and the photo's patches as buttons."""
    import ipywidgets as widgets

    maps = capture(subject.model, normalised(photo, subject.model))
    found = views(maps)
    picture = widgets.Image(format="png")
    layer = widgets.IntSlider(1, 1, len(found), description="layer")
    head = widgets.IntSlider(0, 0, found[0][1].shape[1], description="head (0: mean)")
    token = widgets.IntSlider(1, 1, found[0][1].shape[2], description="token")

    def show(_=None) -> None:
        token.max = found[layer.value - 1][1].shape[2]
        fig = snapshot(maps, photo, layer.value, head.value or None, token.value, subject.label)
        picture.value = png(fig)

    def press(place: int) -> None:
        token.value = min(place + 1 + maps.prefix, token.max)

    for slider in (layer, head, token):
        slider.observe(show, "value")
    show()
    sliders = widgets.VBox([layer, head, token])
    return widgets.VBox([widgets.HBox([sliders, _buttons(photo, maps.grid, press)]), picture])


def png(fig: Figure) -> bytes:
    import matplotlib.pyplot as plt

    file = io.BytesIO()
    fig.savefig(file, format="png", dpi=110)
    plt.close(fig)
    return file.getvalue()


def _buttons(photo: np.ndarray, grid, press):
    """The photo as a grid of buttons in the patches' mean colours; ``press`` is called with its number."""
    import ipywidgets as widgets

    height, width = photo.shape[:2]
    side, found = max(8, 168 // max(grid)), []
    for place in range(grid[0] * grid[1]):
        row, column = divmod(place, grid[1])
        patch = photo[
            row * height // grid[0] : (row + 1) * height // grid[0],
            column * width // grid[1] : (column + 1) * width // grid[1],
        ]
        colour = "#{:02x}{:02x}{:02x}".format(*(int(v) for v in patch.mean((0, 1))))
        box = widgets.Layout(width=f"{side}px", height=f"{side}px", margin="0", padding="0")
        button = widgets.Button(layout=box, tooltip=f"patch {place + 1}")
        button.style.button_color = colour
        button.on_click(lambda _, place=place: press(place))
        found.append(button)
    layout = widgets.Layout(grid_template_columns=f"repeat({grid[1]}, {side}px)", grid_gap="1px")
    return widgets.GridBox(found, layout=layout)
