"""Where sparsity does not pay, in one figure: over image size, batch, width and FLOPs, and each method's overhead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import style
from analysis.throughput.breakeven import extent
from analysis.throughput.figures import colour
from analysis.throughput.specs import split
from analysis.throughput.split import KINDS

if TYPE_CHECKING:
    import pandas as pd

SWEEPS = {  # named run → the column that it goes through, and what that is
    "resolution": ("image_size", "image side (pixels)"),
    "batch": ("batch_size", "batch"),
    "width": ("width", "width (channels)"),
    "rates": ("flops_ratio", "FLOPs, of the dense model's"),
}
WIDTHS = {"tiny": 192, "small": 384, "base": 768}
KIND_COLOURS = dict(zip(KINDS, (style.BLUE, style.VERMILION, style.ORANGE, style.GREEN), strict=True))


def crossover(frames: dict[str, pd.DataFrame], overhead: pd.DataFrame | None):
    """A panel for each sweep that there is: times as fast, dashed by FLOPs alone; and the overhead in bars."""
    sweeps = [name for name in SWEEPS if name in frames]
    count = len(sweeps) + (overhead is not None)
    with style.house_style():
        fig, axes = style.figure(style.PAGE, 2.5 * ((count + 1) // 2), (count + 1) // 2, 2, squeeze=False)
        places = list(axes.flat)
        for ax, name in zip(places, sweeps, strict=False):
            speed_panel(ax, frames[name], *SWEEPS[name])
        if overhead is not None:
            overhead_panel(places[len(sweeps)], overhead)
        for ax in places[count:]:
            ax.axis("off")
        handles, labels = axes.flat[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=6.5)
    return fig


def speed_panel(ax, frame: pd.DataFrame, axis: str, label: str) -> None:
    """Lines for DeiT's methods against the dense model of the same size in the same mode."""
    base, mode = frame.against.iloc[0].split(", ", 1)
    against = frame.against.str.split(", ", n=1)
    alike = against.str[0].str.startswith(base.split("_")[0]) & (against.str[1] == mode)
    frame = frame[alike & (frame.model != against.str[0])]
    if axis == "width":
        frame = frame.assign(width=[width_of(model) for model in frame.model])
    frame = frame.assign(method=[method_of(model) for model in frame.model])
    for method, points in frame.groupby("method", sort=False):
        points = points.sort_values(axis, key=lambda column: column.map(extent))
        x = [extent(value) ** (0.5 if axis == "image_size" else 1) for value in points[axis]]
        ink = colour(points.model.iloc[0])
        ax.plot(x, points.ratio, "o-", color=ink, label=method, markersize=3)
        ax.fill_between(x, points.ratio_q1, points.ratio_q3, color=ink, alpha=0.15, linewidth=0)
        ax.plot(x, points.limit, "--", color=ink, linewidth=0.9)
    ax.axhline(1, color=style.INK, linewidth=0.8)
    if axis == "flops_ratio":
        ax.invert_xaxis()
    else:
        ax.set_xscale("log", base=2)
        values = sorted({extent(value) for value in frame[axis]})
        ticks = [value ** (0.5 if axis == "image_size" else 1) for value in values]
        ax.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks], minor=False)
    ax.set(xlabel=label, ylabel="times as fast as dense")


def overhead_panel(ax, overhead: pd.DataFrame) -> None:
    """A bar for each method, in parts."""
    names = [method_of(model) for model in overhead.model][::-1]
    left = [0.0] * len(names)
    for kind in KINDS:
        values = overhead[kind].tolist()[::-1]
        ax.barh(names, values, left=left, color=KIND_COLOURS[kind], label=kind, height=0.6)
        left = [a + b for a, b in zip(left, values, strict=True)]
    for y, (end, share) in enumerate(zip(left, overhead.overhead_share.tolist()[::-1], strict=True)):
        ax.text(end, y, f" {share:.0%} of its time", va="center", fontsize=6)
    ax.set(xlabel="overhead (milliseconds of an image)", xlim=(0, 1.45 * max(left)))
    ax.legend(fontsize=6)


def width_of(model: str) -> int:
    return next(width for size, width in WIDTHS.items() if f"_{size}_" in model)


def method_of(model: str) -> str:
    """The method in a model's name: stvit_deit_small_patch16_224:num_semantic_tokens=16 → stvit."""
    return split(model)[0].removeprefix("micro_").split("_")[0]
