"""The explorer as widgets: any keep rate, any query, and patches hidden or merged by hand, all computed live."""

from __future__ import annotations

import numpy as np

from analysis import style
from analysis.explore import hands
from analysis.explore.state import Dense, Remainder, label, look, methods_of, reduced
from analysis.panels import outline, overlay
from analysis.shared.token_maps import token_map

LOOK, HIDE, MERGE = "look at it", "hide it", "merge it"
BOARD = 196  # pixels of the picture whose patches are buttons


class Explorer:
    """``box`` holds all widgets; ``state`` is what the method left, ``dense`` the model before it."""

    def __init__(self, model, image, size: int | None = None):
        import ipywidgets as widgets

        self.dense: Dense = look(model, image, size)
        depth = len(self.dense.model.blocks)
        self.patch, self.hidden, self.merged = self.dense.patches // 2, set(), set()
        slow = {"continuous_update": False}
        names = [(label(name), name) for name in methods_of(self.dense)]
        self.method = widgets.Dropdown(options=names, description="method")
        self.rate = widgets.FloatSlider(0.7, min=0.1, max=1.0, step=0.05, description="keep rate", **slow)
        self.layer = widgets.IntSlider(depth, min=1, max=depth, description="layer", **slow)
        heads = [("mean", -1), *((str(i + 1), i) for i in range(self.dense.attention.shape[1]))]
        self.head = widgets.Dropdown(options=heads, description="head")
        self.from_class = widgets.Checkbox(self.dense.prefix > 0, description="look from the class token")
        self.click = widgets.ToggleButtons(
            options=[LOOK, HIDE, MERGE], description="a click", style={"button_width": "90px"}
        )
        self.hide_at = widgets.IntSlider(depth // 2 + 1, min=1, max=depth, description="by hand, at", **slow)
        self.undo = widgets.Button(description="undo all")
        self.picture, self.said = widgets.Image(format="png"), widgets.HTML()
        for widget in (self.method, self.rate):
            widget.observe(self.reduce, "value")
        for widget in (self.layer, self.head, self.from_class):
            widget.observe(self.draw, "value")
        self.hide_at.observe(self.intervene, "value")
        self.undo.on_click(lambda _: self.forget())
        self.buttons = buttons(self.dense, self.press)
        controls = [
            self.method,
            self.rate,
            self.layer,
            self.head,
            self.from_class,
            self.click,
            self.hide_at,
            self.undo,
        ]
        self.box = widgets.VBox(
            [widgets.HBox([widgets.VBox(controls), self.buttons]), self.said, self.picture]
        )
        self.effect = 0.0
        self.reduce()

    def reduce(self, _=None) -> None:
        """Another method or keep rate."""
        self.rate.disabled = self.method.value == "stvit"
        self.state: Remainder = reduced(self.dense, self.method.value, self.rate.value)
        self.draw()

    def press(self, patch: int) -> None:
        """A click on a patch: look at it, or hide or merge it, or take that back."""
        self.patch = patch
        if self.click.value == LOOK:
            self.from_class.value = False
            self.draw()
            return
        chosen, other = (self.hidden, self.merged) if self.click.value == HIDE else (self.merged, self.hidden)
        other.discard(patch)
        chosen.symmetric_difference_update({patch})
        self.intervene()

    def forget(self) -> None:
        self.hidden.clear()
        self.merged.clear()
        self.intervene()

    def intervene(self, _=None) -> None:
        """Hide and merge what was chosen, and read the class feature again."""
        model, layer = self.dense.model, self.hide_at.value
        x = hands.tokens_before(model, self.dense.images, layer)
        groups = [sorted(self.merged)] if len(self.merged) > 1 else []
        changed = hands.by_hand(x, self.dense.prefix, self.hidden, groups)
        self.effect = float(hands.change(model, changed, layer, self.dense.feature)[0])
        self.draw()

    def draw(self, _=None) -> None:
        self.picture.value = png(self.figure())
        state, dense = self.state, self.dense
        self.said.value = (
            f"<b>{state.tokens[-1]}</b> of {dense.patches} tokens at the end ({state.setting}); "
            f"{state.multiply_adds / 1e9:.2f} G multiply-adds, {state.multiply_adds / dense.multiply_adds:.0%} of the "
            f"dense model's; class feature: cosine <b>{state.cosine:.3f}</b>; dropped patches have {state.lost:.1%} of "
            f"what the dense output reads. By hand, in the dense model: {len(self.hidden)} hidden, {len(self.merged)} "
            f"merged into one: 1 − cosine <b>{self.effect:.2g}</b>."
        )

    def figure(self):
        """Where the patches went, what the query looks at, and what was done by hand."""
        dense, photo, layer = self.dense, self.dense.pixels, self.layer.value
        size = photo.shape[:2]
        maps = dense.attention[layer - 1]  # (heads, prefix + N, prefix + N)
        rows = maps.mean(0) if self.head.value < 0 else maps[self.head.value]
        from_class = self.from_class.value and dense.prefix > 0
        row = rows[0 if from_class else dense.prefix + self.patch, dense.prefix :].numpy()
        now = self.state.labels[layer - 1]
        mark = np.zeros(dense.grid, dtype=bool)
        mark.flat[self.patch] = True
        with style.house_style():
            fig, axes = style.figure(7.2, 2.7, 1, 3)
            soft = self.method.value == "stvit"
            token_map(
                axes[0],
                photo,
                now,
                dense.grid,
                f"after layer {layer}: {self.state.tokens[layer - 1]} tokens",
                soft,
            )
            who = "class token" if from_class else f"patch {self.patch + 1}"
            overlay(axes[1], photo, row, dense.grid, f"{who} looks at, layer {layer}")
            own = np.arange(dense.patches)
            own[sorted(self.hidden)] = -1
            own[sorted(self.merged)] = dense.patches
            token_map(axes[2], photo, own, dense.grid, f"by hand, from layer {self.hide_at.value} on")
            if now[self.patch] >= 0:
                outline(axes[0], (now == now[self.patch]).reshape(dense.grid), size, style.YELLOW, 1.6)
            for ax in axes:
                outline(ax, mark, size, style.VERMILION, 1.6)
        return fig


def png(fig) -> bytes:
    import io

    import matplotlib.pyplot as plt

    file = io.BytesIO()
    fig.savefig(file, format="png", dpi=110)
    plt.close(fig)
    return file.getvalue()


def buttons(dense: Dense, press):
    """The photo as a grid of buttons in the patches' mean colours; ``press`` is called with a patch's number from 0."""
    import ipywidgets as widgets

    rows, columns = dense.grid
    height, width = dense.pixels.shape[:2]
    patches = dense.pixels.reshape(rows, height // rows, columns, width // columns, 3).mean(
        (1, 3)
    )  # (rows, columns, 3)
    side, found = max(8, BOARD // max(rows, columns)), []
    for patch in range(rows * columns):
        box = widgets.Layout(width=f"{side}px", height=f"{side}px", margin="0", padding="0")
        button = widgets.Button(layout=box, tooltip=f"patch {patch + 1}")
        button.style.button_color = "#{:02x}{:02x}{:02x}".format(*map(int, patches[divmod(patch, columns)]))
        button.on_click(lambda _, patch=patch: press(patch))
        found.append(button)
    layout = widgets.Layout(
        grid_template_columns=f"repeat({columns}, {side}px)", grid_gap="1px", align_self="flex-start"
    )
    return widgets.GridBox(found, layout=layout)
