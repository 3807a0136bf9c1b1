"""Speed-ups beside what the FLOPs alone would give, model by model and along a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import style
from analysis.throughput.breakeven import KEPT_AXIS, extent
from analysis.throughput.roofline import PARTS

if TYPE_CHECKING:
    import pandas as pd

AXIS = {"batch_size": "batch", "image_size": "image side (pixels; of the same area)"}


def colour(model: str) -> str:
    """That of the model's method, the longest name first: stvit_r before stvit."""
    name = model.removeprefix("micro_")
    found = [method for method in sorted(style.METHOD, key=len, reverse=True) if name.startswith(method)]
    return style.METHOD[found[0]] if found else style.METHOD["dense"]


def swept(frame: pd.DataFrame) -> str | None:
    """The axis along which a run goes through three values or more."""
    return next((axis for axis in KEPT_AXIS if frame[axis].nunique() > 2), None)


def speed_ups(frames: dict[str, pd.DataFrame]):
    """A line for each model, mode and workload: dot and quartiles measured, a bar for the limit."""
    rows = [(suite, row) for suite, frame in frames.items() for row in frame.to_dict("records")]
    rows = [(s, row) for s, row in rows if not row["against"].startswith(f"{row['model']},")][::-1]
    with style.house_style():
        fig, ax = style.figure(style.PAGE, 0.6 + 0.17 * max(len(rows), 4))
        for y, (_, row) in enumerate(rows):
            ink = colour(row["model"])
            ax.plot([row["ratio_q1"], row["ratio_q3"]], [y, y], color=ink, linewidth=2, alpha=0.5)
            ax.plot(row["ratio"], y, "o", color=ink, markersize=4)
            ax.plot(row["limit"], y, "|", color=style.PREDICTED, markersize=10, markeredgewidth=1.5)
        ax.axvline(1, color=style.GREY, linewidth=0.8)
        ax.set_yticks(range(len(rows)), [f"{suite}: {label(row)}" for suite, row in rows], fontsize=6)
        ax.set_xlabel("times as fast as the dense model in the same mode  (|: by FLOPs alone)")
        ax.set(xlim=(0, None), ylim=(-0.7, len(rows) - 0.3))
    return fig


def label(row: dict) -> str:
    """The model, and of its setting what is not usual."""
    usual = ("eager", "224x224", "float32", "inference")
    words = [row["model"], f"batch {row['batch_size']}"]
    words += [row[name] for name in ("mode", "image_size", "precision", "task") if row[name] not in usual]
    return ", ".join(words)


def sweep(frame: pd.DataFrame):
    """A panel for each base: speed-ups along the swept axis, dashed what the FLOPs would give."""
    axis = swept(frame)
    bases = list(dict.fromkeys(frame.against))
    with style.house_style():
        fig, axes = style.figure(style.PAGE, 2.8, columns=len(bases), squeeze=False)
        for ax, base in zip(axes[0], bases, strict=True):
            part = frame[(frame.against == base) & (frame.model != base.split(", ")[0])]
            for model, points in part.groupby("model", sort=False):
                points = points.sort_values(axis, key=lambda column: column.map(extent))
                x = [extent(v) ** (0.5 if axis == "image_size" else 1) for v in points[axis]]
                ink = colour(model)
                ax.plot(x, points.ratio, "o-", color=ink, label=model, markersize=3)
                ax.fill_between(x, points.ratio_q1, points.ratio_q3, color=ink, alpha=0.15, linewidth=0)
                ax.plot(x, points.limit, "--", color=ink, linewidth=0.9)
            ax.axhline(1, color=style.GREY, linewidth=0.8)
            ax.set_xscale("log", base=2)
            ax.set_xticks(x, [f"{value:.0f}" for value in x], minor=False)
            ax.set(xlabel=AXIS[axis], ylabel=f"times as fast as {base.split('_patch')[0]}")
            ax.legend(fontsize=5)
    return fig


def parts(frame: pd.DataFrame):
    """A panel for each model: a bar for each part's time, a mark at its roofline."""
    frame = frame[frame.part != "all"]
    names = list(dict.fromkeys(frame.part))
    names.sort(key=PARTS.index, reverse=True)
    models = list(dict.fromkeys(frame.model))
    with style.house_style():
        height = 0.7 + 0.2 * len(names)
        fig, axes = style.figure(
            style.PAGE, height, columns=len(models), squeeze=False, sharex=True, sharey=True
        )
        for ax, model in zip(axes[0], models, strict=True):
            rows = frame[frame.model == model]
            y = [names.index(part) for part in rows.part]
            ax.barh(y, rows.milliseconds, height=0.6, color=colour(model))
            ax.plot(
                rows.roofline_milliseconds, y, "|", color=style.PREDICTED, markersize=9, markeredgewidth=2
            )
            ax.set_yticks(range(len(names)), names)
            ax.set_title(model.split("_patch")[0], fontsize=7)
            ax.set_xlabel("milliseconds")
    return fig
