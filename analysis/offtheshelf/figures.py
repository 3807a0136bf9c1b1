"""The Pareto figure and BAT's Figure 1, from the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

COLOURS = {**style.METHOD, "random": style.SKY, "meanpool": style.YELLOW, "kmeans": "#8c564b",
           "diversity alone": style.PURPLE}  # fmt: skip
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
    with style.house_style():
        fig, axes = style.figure(style.PAGE, 3.1, 1, len(panels))
        for ax, (x, y, title, label, front) in zip(axes, panels, strict=True):
            for row, rows in frame.dropna(subset=[y]).groupby("row", sort=False):
                rows = rows.sort_values(x)
                colour = COLOURS.get(row, style.GREY)
                errors = [rows[y] - rows[f"{y}_low"], rows[f"{y}_high"] - rows[y]]
                ax.errorbar(rows[x], rows[y], errors, color=colour, lw=1, ms=3, marker=_marker(row), elinewidth=0.6,
                            ls="--" if rows.untrained_parts.any() else "-", label=rows.method.iloc[0])  # fmt: skip
            best = frame[frame[front]].sort_values(x) if front else frame[:0]
            ax.plot(best[x], best[y], color=style.INK, lw=0, marker="o", ms=7, mfc="none", mew=0.8, zorder=4)
            ax.set(xlabel=label, ylabel={"cosine": "centred cosine to dense", "iou": "IoU with dense"}[y])
            ax.set_title(title, fontsize=8)
        handles, labels = axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=6.5)
    return fig


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
