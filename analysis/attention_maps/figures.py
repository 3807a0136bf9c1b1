"""The drawings: functions of a photo and attention maps that return a matplotlib figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis import style
from analysis.panels import CMAP, INCHES, blank, number, overlay

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def by_layer(photos, maps, grid, label: str, first: str = "image", titles=None) -> Figure:
    """Figure 1, left: a row an image, (B, layers, N) maps in columns."""
    count, layers = len(photos), maps.shape[1]
    with style.house_style():
        side = min(style.PAGE / (layers + 1), INCHES)
        fig, axes = style.figure(
            max(side * (layers + 1), style.COLUMN), count * side + 0.42, count, layers + 1, squeeze=False
        )
        for row, (photo, weights) in enumerate(zip(photos, maps, strict=True)):
            axes[row, 0].imshow(photo)
            blank(axes[row, 0], first if row == 0 else "")
            for i in range(layers):
                name = titles[i] if titles else f"layer {i + 1}"
                overlay(axes[row, i + 1], photo, weights[i], grid, name if row == 0 else "")
        fig.suptitle(label, fontsize=8, x=0.01, ha="left")
    return fig


def whole_maps(layers, label: str, frame) -> Figure:
    """Figure 1, right: one image's maps (rows look at columns), and the top columns' share over many."""
    with style.house_style():
        count = len(layers)
        fig, axes = style.figure(style.PAGE, 2.0, 1, count + 1, width_ratios=[1] * count + [1.9])
        for i, (ax, weights) in enumerate(zip(axes, layers, strict=False)):
            values = np.asarray(weights[0].mean(0))
            ax.imshow(values, cmap=CMAP, vmin=0, vmax=np.quantile(values, 0.995))
            blank(ax, f"layer {i + 1}")
        ax = axes[-1]
        ax.bar(frame.layer, 100 * frame.top_columns, color=style.BLUE, width=0.7)
        even = 100 * frame.top_columns_even.iloc[0]
        ax.axhline(even, color=style.GREY, ls="--", lw=1)
        ax.set(xlabel="layer", xticks=list(frame.layer))
        ax.set_title("% of attention in the top 5%\nof columns (dashed: even)", fontsize=7.5)
        ax.grid(axis="x", visible=False)
        fig.suptitle(label, fontsize=8, x=0.01, ha="left")
    return fig


def semantic_maps(photos, maps, grid, windows, labels, columns: int | None = None) -> Figure:
    """Figures 3, 4b and 4d: the image, then one map for each semantic token with its window outlined.

    photos, maps (M, N) and labels: one for each block of the figure
    """
    import matplotlib.pyplot as plt

    count = maps[0].shape[0]
    columns = columns or min(count, 8)
    rows = -(-count // columns)
    with style.house_style():
        side = min(style.PAGE / (columns + rows), INCHES)
        size = max(side * (columns + rows), style.COLUMN), len(photos) * (rows * side + 0.36)
        fig = plt.figure(figsize=size, layout="constrained")
        parts = np.atleast_1d(fig.subfigures(len(photos), 1))
        for part, photo, weights, label in zip(parts, photos, maps, labels, strict=True):
            left, right = part.subfigures(1, 2, width_ratios=[rows, columns])
            ax = left.subplots()
            ax.imshow(photo)
            blank(ax)
            part.suptitle(label, fontsize=8, x=0.01, ha="left")
            axes = np.atleast_1d(right.subplots(rows, columns)).flat
            for i, ax in enumerate(axes):
                if i < count:
                    overlay(ax, photo, weights[i], grid, window=None if windows is None else windows[i])
                    number(ax, i + 1)
                else:
                    ax.axis("off")
    return fig


def second_layer(to_semantic, to_image, label: str) -> Figure:
    """Figure 4a: rows are semantic tokens, columns the semantic tokens and then the image tokens."""
    values = np.concatenate([np.asarray(to_semantic), np.asarray(to_image)], axis=1)
    count = values.shape[0]
    with style.house_style():
        fig, ax = style.figure(style.PAGE, 0.75 + style.PAGE * count / values.shape[1] * 0.86)
        image = ax.imshow(values, cmap=CMAP, vmin=0, vmax=np.quantile(values, 0.995), aspect="equal")
        ax.axvline(count - 0.5, color=style.SKY, lw=1.5)
        ax.grid(False)
        step = max(1, count // 4)
        ax.set(yticks=range(0, count, step), yticklabels=[i + 1 for i in range(0, count, step)])
        ax.set(xticks=[count / 2 - 0.5, count + to_image.shape[1] / 2 - 0.5])
        ax.set_xticklabels([f"{count} semantic", f"{to_image.shape[1]} image tokens"])
        ax.tick_params(axis="x", length=0)
        ax.set_ylabel("semantic token")
        ax.set_title(label, fontsize=8, fontweight="normal")
        fig.colorbar(image, ax=ax, shrink=0.9, pad=0.01, label="attention")
    return fig


def after_stgm(layers, votes, first: int, label: str) -> Figure:
    """Figure 4c: maps after the STGM, averaged over images, and how often each column is the largest."""
    count = layers[0].shape[-1]
    with style.house_style():
        ratios = [1] * len(layers) + [1.7]
        fig, axes = style.figure(style.PAGE, 2.35, 1, len(layers) + 1, width_ratios=ratios)
        top = max(float(weights.mean((0, 1)).max()) for weights in layers)
        for i, (ax, weights) in enumerate(zip(axes, layers, strict=False)):
            ax.imshow(np.asarray(weights.mean((0, 1))), cmap=CMAP, vmin=0, vmax=top)
            blank(ax, f"layer {first + i}: rows look at columns")
            step = max(1, count // 4)
            ticks = list(range(0, count, step))
            ax.set(xticks=ticks, xticklabels=[t + 1 for t in ticks])
            ax.set(yticks=ticks, yticklabels=[t + 1 for t in ticks])
        ax = axes[-1]
        width = 0.8 / len(votes)
        for i, (name, shares) in enumerate(votes.items()):
            at = np.arange(1, count + 1) + (i - (len(votes) - 1) / 2) * width
            ax.bar(at, 100 * np.asarray(shares), width=width, label=name, color=style.CYCLE[i])
        ax.axhline(100 / count, color=style.GREY, ls="--", lw=1)
        ax.set(xlabel="semantic token", ylabel="% of images", ylim=(0, 100))
        ax.set(xticks=[t + 1 for t in ticks])
        ax.set_title("the one looked at most", fontsize=7.5)
        ax.legend(fontsize=6.5)
        ax.grid(axis="x", visible=False)
        fig.suptitle(label, fontsize=8, x=0.01, ha="left")
    return fig


def squares(layers, first: int, label: str) -> Figure:
    """Figure 4c of one image: maps among semantic tokens, (1, heads, M, M) a layer, all on one scale."""
    with style.house_style():
        fig, axes = style.figure(style.PAGE, style.PAGE / len(layers) + 0.35, 1, len(layers))
        top = max(float(weights.mean((0, 1)).max()) for weights in layers)
        for i, (ax, weights) in enumerate(zip(np.atleast_1d(axes), layers, strict=True)):
            ax.imshow(np.asarray(weights.mean((0, 1))), cmap=CMAP, vmin=0, vmax=top)
            blank(ax, f"layer {first + i}")
        fig.suptitle(label, fontsize=8, x=0.01, ha="left")
    return fig


def overlaps(frame) -> Figure:
    """Figure 4d in numbers: how alike the maps of a model's semantic tokens are, and how local."""
    with style.house_style():
        fig, (left, right) = style.figure(style.PAGE, 2.3, 1, 2)
        names = list(dict.fromkeys(frame.model))
        for ax, column, title in (
            (left, "row_overlap", "overlap of two tokens' maps"),
            (right, "window_share", "share of a map in its own window"),
        ):
            for i, (name, rows) in enumerate(frame.groupby("model", sort=False)):
                at = np.arange(len(rows)) + (i - (len(names) - 1) / 2) * 0.8 / len(names)
                ax.bar(at, rows[column], width=0.8 / len(names), color=style.CYCLE[i], label=name)
            parts = frame[frame.model == names[0]].part
            ax.set_xticks(range(len(parts)), [p.replace(", ", "\n") for p in parts])
            ax.set_title(title, fontsize=8)
            ax.set_ylim(0, 1.3)
            ax.grid(axis="x", visible=False)
        even = frame.window_even.iloc[0]
        right.axhline(even, color=style.GREY, ls="--", lw=1)
        right.text(-0.45, even + 0.02, "even map", color=style.GREY, fontsize=6.5)
        left.legend(fontsize=6.5)
    return fig
