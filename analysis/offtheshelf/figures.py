"""The Pareto figure, all methods in one picture, and BAT's Figure 1, from the table."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from analysis import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

COLOURS = {**style.METHOD, "random": style.SKY, "meanpool": style.YELLOW, "kmeans": "#8c564b",
           "diversity alone": style.PURPLE}  # fmt: skip
MORE_COLOURS = (
    "#17becf",
    "#8c9d2a",
    "#3f3f8f",
    "#e377c2",
    "#5f3c1e",
    "#66a61e",
    "#d62728",
)  # for others on a front
BASE = "topk"  # what methods are ranked against, at equal cost
BLUES = ("#c6dbef", "#9ecae1", "#4a98c9", "#1764ab", "#08306b")  # keep rates, the lowest first
FIGURE_1 = {
    "topk": "importance alone (top-k)",
    "diversity alone": "diversity alone (clusters)",
    "bat": "both (BAT)",
}


def pareto(frame: pd.DataFrame, dense: bool) -> Figure:
    """Class feature against multiply-adds and against measured time; dense output where it was measured."""
    panels = [
        ("share", "cosine", "class feature", "multiply-adds, of the dense model's", "front"),
        ("time", "cosine", "class feature, by time", "time, of the dense model's", "front_by_time"),
    ]
    if dense:
        panels.append(("share", "iou", "saliency map", "multiply-adds, of the dense model's", ""))
    frame = frame.assign(time=1 / frame.times_as_fast)
    colours = colours_of(frame)
    with style.house_style():
        fig, axes = style.figure(style.PAGE, 3.3, 1, len(panels))
        for ax, (x, y, title, label, front) in zip(axes, panels, strict=True):
            for row, rows in frame.dropna(subset=[y]).groupby("row", sort=False):
                draw_line(ax, rows.sort_values(x), x, y, colours.get(row))
            best = frame[frame[front]].sort_values(x) if front else frame[:0]
            ax.plot(best[x], best[y], color=style.INK, lw=0, marker="o", ms=6, mfc="none", mew=0.7, zorder=4)
            ax.set(xlabel=label, ylabel={"cosine": "centred cosine to dense", "iou": "IoU with dense"}[y])
            ax.set_title(title, fontsize=8)
        handles = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
        fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=7, fontsize=6.5)
    return fig


def colours_of(frame: pd.DataFrame) -> dict[str, str]:
    """A colour for each method that the papers speak of, and for those on a front and above top-k; others share one."""
    best = frame[frame.front | frame.front_by_time]
    good = ranking(frame[~(frame.keep_rate >= 1)])
    good = good[: good.index(BASE)] if BASE in good else good
    others = [row for row in best.row.unique() if row not in COLOURS and row in good]
    return {**COLOURS, **dict(zip(others, itertools.cycle(MORE_COLOURS)))}


def draw_line(ax, rows: pd.DataFrame, x: str, y: str, colour: str | None) -> None:
    """A method over its keep rates, with intervals where it has a colour of its own."""
    kind = "--" if rows.untrained_parts.any() else "-"
    if colour is None:
        ax.plot(
            rows[x], rows[y], color="#c9c9c9", lw=0.7, ms=2, marker="o", ls=kind, label="others", zorder=1
        )
        return
    errors = [rows[y] - rows[f"{y}_low"], rows[f"{y}_high"] - rows[y]]
    ax.errorbar(rows[x], rows[y], errors, color=colour, lw=1, ms=3, marker=_marker(rows.row.iloc[0]),
                elinewidth=0.5, ls=kind, label=rows.method.iloc[0])  # fmt: skip


def field(frame: pd.DataFrame, dense: bool) -> Figure:
    """Every method a row: fidelity, what it costs and what it takes, a dot for each keep rate."""
    panels = [("cosine", "centred cosine\nof the class feature"), ("share", "multiply-adds,\nof the dense model's"),
              ("time", "measured time,\nof the dense model's")]  # fmt: skip
    if dense:
        panels.insert(1, ("iou", "IoU of the\nsaliency map"))
    frame = frame[~(frame.keep_rate >= 1)].assign(time=1 / frame.times_as_fast)
    order = ranking(frame)
    places = {row: place for place, row in enumerate(reversed(order))}
    rates = sorted(frame.keep_rate.dropna().unique())
    shades = dict(zip(rates, BLUES[-len(rates) :], strict=False))
    with style.house_style():
        fig, axes = style.figure(style.PAGE, 0.19 * len(order) + 0.95, 1, len(panels), sharey=True)
        for ax, (measure, title) in zip(axes, panels, strict=True):
            for rate, part in [*frame.groupby("keep_rate"), (None, frame[frame.keep_rate.isna()])]:
                colour = shades.get(rate, style.ORANGE)
                name = "as it comes" if rate is None else f"keep rate {rate:g}"
                draw_dots(ax, part.dropna(subset=[measure]), measure, places, colour, name)
            ax.set_title(title, fontsize=7.5)
            ax.axvline(1, color=style.INK, lw=0.6, ls=":")
            ax.set_xlim(min(0, frame[measure].min()), 1.05 * max(1, frame[measure].max()))
        axes[0].set_yticks(
            list(places.values()), [frame[frame.row == row].method.iloc[0] for row in places], fontsize=7
        )
        handles = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
        fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6, fontsize=6.5)
    return fig


def draw_dots(ax, part: pd.DataFrame, measure: str, places: dict[str, int], colour: str, name: str) -> None:
    if part.empty:
        return
    at = part.row.map(places)
    if f"{measure}_low" in part:
        ax.hlines(at, part[f"{measure}_low"], part[f"{measure}_high"], color=colour, lw=1, alpha=0.5)
    ax.plot(part[measure], at, "o", color=colour, ms=4, mec="white", mew=0.4, label=name)


def ranking(frame: pd.DataFrame) -> list[str]:
    """Rows by their cosine above what top-k has at the same multiply-adds, the mean over keep rates."""
    known = frame[frame.row == BASE].sort_values("share")
    usual = np.interp(frame.share, [*known.share, 1], [*known.cosine, 1])
    return list((frame.cosine - usual).groupby(frame.row).mean().sort_values(ascending=False).index)


def figure_1(frame: pd.DataFrame) -> Figure:
    """BAT's Figure 1: what is left at each keep rate by importance, by diversity, by both."""
    with style.house_style():
        fig, axes = style.figure(style.PAGE, 2.5, 1, 2)
        for ax, (measure, name) in zip(
            axes, (("cosine", "centred cosine to dense"), ("retrieved", "crops retrieved")), strict=True
        ):
            for row, label in FIGURE_1.items():
                rows = frame[frame.row == row].sort_values("keep_rate")
                ax.plot(rows.keep_rate, rows[measure], color=COLOURS[row], marker=_marker(row), label=label)
                low, high = rows[f"{measure}_low"], rows[f"{measure}_high"]
                ax.fill_between(rows.keep_rate, low, high, color=COLOURS[row], alpha=0.12, lw=0)
            ax.set(xlabel="keep rate, three times", ylabel=name)
            ax.invert_xaxis()
        axes[0].legend(loc="lower left")
    return fig


def _marker(row: str) -> str:
    return "x" if row in ("random", "meanpool", "kmeans", "topk") else "o"
