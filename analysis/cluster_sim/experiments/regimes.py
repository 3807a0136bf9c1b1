"""5. Where each bound is tight, loose, false or vacuous, on the plane of n and v/ln n; F6's freezing."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.cluster_sim.measure import interval, measure
from analysis.cluster_sim.options import Options, variance_cells
from analysis.cluster_sim.runner import run_cells

TITLE = "A map of regimes"
CAPTION = (
    "Each bound on 1 − cos over n and v/ln n (K = 8, d = 128, θ₀ = 45°, σ set by v): tight (median "
    "within a factor 10), loose, vacuous (bound ≥ 1), or false (broken more often than 5K/n², at 99 %). "
    "Last panel: Kish's effective sample size as an exponent of n; dots measured, line F6."
)
ALT = "Three coloured maps of the printed, typical and corrected bounds, and the effective sample size."
K, D, THETA = 8, 128, math.pi / 4
RATIOS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5)
WORDS = ("tight", "loose", "vacuous", "false")
BOUNDS = ("printed", "typical", "corrected")


def compute(options: Options) -> pd.DataFrame:
    sizes = options.pick((64, 1024), (16, 64, 256, 1024, 4096, 16384), [4**k for k in range(2, 10)])
    work = options.pick(1e6, 1e7, 1e9)
    cells = variance_cells(options, sizes, RATIOS, K, D, THETA, work, (60, 2000))
    frame = pd.DataFrame(run_cells(measure, cells, options))
    for name in BOUNDS:
        frame[f"{name}_word"] = [word(row, name) for row in frame.to_dict("records")]
    frame["exponent"] = np.log(frame.n_eff) / np.log(frame.n)
    frame["exponent_predicted"] = [exponent(a) for a in frame.v_over_ln_n]
    return frame


def word(row: dict, name: str) -> str:
    low, _ = interval(row[f"{name}_broken"], row["trials"], 0.99)
    if low > row["allowed"]:
        return "false"
    if row[name] >= 1:
        return "vacuous"
    return "tight" if row["median"] >= row[name] / 10 else "loose"


def exponent(a: float) -> float:
    """F6: ln n_eff / ln n at v = a ln n: 1 − a, then (√2 − √a)², then 0."""
    if a <= 0.5:
        return 1 - a
    return (math.sqrt(2) - math.sqrt(a)) ** 2 if a < 2 else 0.0


def condense(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a v/ln n, over the sizes: how the verdicts spread, and the effective sample size."""
    rows = []
    for a, part in frame.groupby(frame.v_over_ln_n.round(6)):
        row = {"v / ln n": a, "n": f"{part.n.min()}-{part.n.max()}", "trials": int(part.trials.sum())}
        for name in BOUNDS:
            counts = part[f"{name}_word"].value_counts()
            row[f"{name}: verdicts"] = ", ".join(f"{counts[w]} {w}" for w in WORDS if w in counts)
        last = part.loc[part.n.idxmax()]
        row |= {"median 1 − cos at the largest n": last["median"], "its largest weight": last.top_weight}
        row |= {"ln n_eff/ln n there": last.exponent, "by F6": last.exponent_predicted}
        rows.append(row)
    return pd.DataFrame(rows)


def plot(frame: pd.DataFrame):
    from matplotlib.patches import Patch

    from analysis import style

    colors = dict(zip(WORDS, (style.GREEN, style.SKY, "#d9d9d9", style.VERMILION), strict=True))
    with style.house_style():
        fig, axes = style.figure(style.PAGE, 4.6, rows=2, columns=2)
        for ax, name in zip(axes.flat, BOUNDS, strict=False):
            _map(ax, frame, name, colors)
        handles = [Patch(color=colors[w], label=w) for w in WORDS]
        fig.legend(handles=handles, loc="outside upper center", ncols=4)
        _effective(axes[1, 1], frame, style)
    return fig


def _map(ax, frame, name, colors) -> None:
    from matplotlib.colors import ListedColormap

    rounded = frame.assign(a=frame.v_over_ln_n.round(6))
    table = rounded.pivot(index="n", columns="a", values=f"{name}_word")
    table.columns = [f"{a:.2g}" for a in table.columns]
    codes = table.map(WORDS.index).to_numpy()
    ax.pcolormesh(codes, cmap=ListedColormap([colors[w] for w in WORDS]), vmin=-0.5, vmax=3.5, ec="w")
    ax.set_xticks(np.arange(codes.shape[1]) + 0.5, table.columns)
    ax.set_yticks(np.arange(codes.shape[0]) + 0.5, [f"{n}" for n in table.index])
    ax.axvline(sum(float(c) <= 0.5 for c in table.columns), color="k", linewidth=0.9, linestyle="--")
    ax.grid(False)
    title = {"printed": "printed, C = 1", "typical": "typical noise", "corrected": "corrected"}[name]
    ax.set(xlabel="v / ln n (dashed: ½)", ylabel="n", title=title)


def _effective(ax, frame, style) -> None:
    a = np.linspace(0.01, 2.6, 300)
    ax.plot(a, [exponent(value) for value in a], color=style.INK, label="F6")
    for (n, part), color in zip(frame.groupby("n"), style.CYCLE, strict=False):
        ax.plot(part.v_over_ln_n, part.exponent, ".", color=color, label=f"n = {n}")
    ax.set(xlabel="v / ln n", ylabel="ln n_eff / ln n", title="effective tokens")
    ax.legend(ncols=2)


def words(frame: pd.DataFrame) -> str:
    counts = {name: frame[f"{name}_word"].value_counts().to_dict() for name in BOUNDS}
    false = frame[frame.printed_word == "false"]
    inside = frame[frame.v_over_ln_n <= 0.5]
    said = "; ".join(
        f"{name}: " + ", ".join(f"{counts[name].get(w, 0)} {w}" for w in WORDS) for name in BOUNDS
    )
    text = f"On {len(frame)} points of the plane the bounds are, {said}. "
    if len(false):
        text += (
            f"The printed bound with C = 1 is false from v = {false.v_over_ln_n.min():.2g} ln n on, as "
            f"early as n = {int(false.n.min())}. "
        )
    off = (frame.exponent - frame.exponent_predicted).abs()
    largest = frame.n == frame.n.max()
    return text + (
        f"Within v ≤ ½ ln n the corrected bound is false {int((inside.corrected_word == 'false').sum())} "
        f"times of {len(inside)}, the typical-noise bound {int((inside.typical_word == 'false').sum())} "
        f"times. F6 predicts the exponent of the effective sample size to within {off.max():.2f} "
        f"everywhere and {off[largest].max():.2f} at the largest n: it is a leading-order statement."
    )
