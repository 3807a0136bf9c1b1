"""Every seed of every row, the row's mean and its 95 % interval (Student's t): what a table's numbers are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from analysis import style
from analysis.shared.statistics import spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CAPTION = "A dot is a seed, a bar the mean of a row, a line its 95 % interval over seeds (Student's t)."
LINE, HEADING = 0.16, 0.42  # inches of a row, and of a panel's title and axis


def plot_seeds(
    panels: Mapping[str, Mapping[str, Mapping[int, float]]], xlabel: str, columns: int = 2
) -> Figure | None:
    """A panel for each table, by title: row → seed → value. None while no row has a value."""
    panels = {title: rows for title, rows in panels.items() if any(rows.values())}
    if not panels:
        return None
    lines = -(-len(panels) // columns)
    most = [
        max(len(rows) for rows in list(panels.values())[i * columns : (i + 1) * columns])
        for i in range(lines)
    ]
    heights = [HEADING + LINE * count for count in most]
    with style.house_style():
        fig, axes = style.figure(
            style.PAGE, sum(heights), lines, columns, squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        for ax, (title, rows) in zip(axes.flat, panels.items(), strict=False):
            panel(ax, title, rows)
        for ax in axes.flat[len(panels) :]:
            ax.set_axis_off()
        fig.supxlabel(xlabel, fontsize=8)
    return fig


def panel(ax, title: str, rows: Mapping[str, Mapping[int, float]]) -> None:
    import seaborn as sns

    names = [name for name, values in rows.items() for _ in values]
    values = [value for found in rows.values() for value in found.values()]
    both = dict(x=values, y=names, order=list(rows), orient="h", ax=ax)
    sns.stripplot(**both, color=style.ORANGE, size=3, alpha=0.8, jitter=False, zorder=3)
    sns.pointplot(
        **both, color=style.BLUE, linestyle="none", marker="|", markersize=7, errorbar=interval,
        err_kws={"linewidth": 1},
    )  # fmt: skip
    ax.set_title(title, fontsize=6.5)
    ax.set_ylabel("")
    ax.tick_params(axis="y", labelsize=6)


def interval(values: np.ndarray) -> tuple[float, float]:
    """The ends of the mean's 95 % interval; without a second seed there is none."""
    mean, _, half = spread([float(value) for value in values])
    return (np.nan, np.nan) if half is None else (mean - half, mean + half)
