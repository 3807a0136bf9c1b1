"""The figures of the report: residuals of the printed cells, growth with the image, where the FLOPs go."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis import style
from analysis.complexity import sweep
from analysis.complexity.whatif import Request
from analysis.shared.flops import closed_global, closed_local, closed_semantic
from analysis.shared.flops.closed_local import SWIN
from analysis.shared.flops.formulas import TERM_KINDS, Cost

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDES = range(224, 1025, 32)
MODEL = "stvit_deit_small_patch16_224"


def residuals(rows: list[dict[str, Any]]) -> Figure:
    """Left: printed against closed form. Right: residuals against what rounding or cutting off allows."""
    known = [row for row in rows if not pd.isna(row["closed_form"])]  # None, or NaN where a frame made them
    with style.house_style():
        fig, (left, right) = style.figure(style.PAGE, 5.0, 1, 2, gridspec_kw={"width_ratios": [1, 1.35]})
        _identity(left, known)
        _strip(right, known)
    return fig


def _identity(ax: Axes, rows: list[dict[str, Any]]) -> None:
    for paper, colour in (("STViT", style.METHOD["stvit"]), ("BAT", style.METHOD["bat"])):
        mine = [row for row in rows if row["paper"] == paper]
        x, y = [row["printed"] for row in mine], [row["closed_form"] for row in mine]
        ax.plot(x, y, "o", color=colour, alpha=0.6, markeredgewidth=0, label=f"{paper}, {len(mine)} cells")
    ax.axline((1, 1), (10, 10), color=style.GREY, linewidth=0.7, zorder=0)
    ax.set(xscale="log", yscale="log", xlabel="printed (GFLOPs)", ylabel="closed form (GFLOPs)")
    ax.set_title("From 0.5 to 343 GFLOPs")
    ax.legend(loc="upper left")


def _strip(ax: Axes, rows: list[dict[str, Any]], gap: float = 2.5) -> None:
    """A line for each cell: the interval that its printed digit allows (bar) and the closed form (dot)."""
    y, ticks = 0.0, {}
    for key in dict.fromkeys((row["paper"], row["table"]) for row in rows):
        mine = [row for row in rows if (row["paper"], row["table"]) == key]
        ticks[_label(*key)] = y - (len(mine) - 1) / 2
        for row in mine:
            good = row["verdict"].startswith("reproduced")
            ax.plot(allowed(row), [y, y], color="#c9c9c9", linewidth=2, solid_capstyle="butt", zorder=1)
            colour = style.METHOD["stvit"] if good else style.VERMILION
            ax.plot(row["residual_percent"], y, "o", color=colour, markersize=2.6, zorder=2)
            y -= 1
        y -= gap
    residuals = [row["residual_percent"] for row in rows]
    ax.set_yticks(list(ticks.values()), list(ticks))
    ax.set(xlim=(min(residuals) - 0.8, max(residuals) + 1.6), ylim=(y + gap, 2))
    ax.set_xlabel("closed form against printed (%)")
    ax.axvline(0, color=style.INK, linewidth=0.6, zorder=0)
    ax.grid(axis="y", visible=False)
    ax.set_title("A dot on its bar agrees at the printed digit")


def _label(paper: str, table: str) -> str:
    return f"{paper} Table {table}" if table.isdigit() else f"{paper} {table}"


def allowed(row: dict[str, Any]) -> tuple[float, float]:
    """The residuals in percent that give the printed digit: half a unit either way, or a unit upwards."""
    unit = 10.0 ** Decimal(row["printed_text"]).as_tuple().exponent
    low, high = (0, unit) if "cut off" in row["verdict"] else (-unit / 2, unit / 2)
    return 100 * low / row["printed"], 100 * high / row["printed"]


def growth() -> Figure:
    """Cost and saving of STViT-DeiT-S as the image grows; the quadratic attention products are shown separately."""
    with style.house_style():
        fig, (left, right) = style.figure(style.PAGE, 2.9, 1, 2, gridspec_kw={"width_ratios": [1.25, 1]})
        table, _ = sweep.rows(Request(MODEL, tokens=16), "image-size", SIDES)
        sides = [row["image-size"] for row in table]
        sweep.curve(left, sides, table, "dense_", "DeiT-S", style.METHOD["dense"])
        sweep.curve(left, sides, table, "", "STViT-DeiT-S, M = 16", style.METHOD["stvit"])
        left.set(
            xlabel="image side (pixels)", ylabel="GFLOPs (multiply-adds)", xlim=(224, 1024), ylim=(0, None)
        )
        left.set_title("Both stay quadratic in the tokens")
        left.legend(loc="upper left")
        _savings(right)
    return fig


def _savings(ax: Axes) -> None:
    shades = (style.BLUE, style.GREEN, style.ORANGE, style.VERMILION)
    for M, colour in zip((16, 36, 64, 100), shades, strict=True):
        table, _ = sweep.rows(Request(MODEL, tokens=M), "image-size", range(64, 1025, 16))
        x = [row["image-size"] for row in table]
        ax.plot(x, [row["saving_percent"] for row in table], color=colour, label=f"M = {M}")
    limit = saving_limit()
    ax.axhline(limit, color=style.GREY, linestyle=":", linewidth=1)
    ax.annotate(
        f"limit {limit:.0f} %: 4 of 12 blocks stay dense",
        (1015, limit),
        ha="right",
        va="bottom",
        fontsize=6.5,
    )
    ax.axhline(0, color=style.INK, linewidth=0.6)
    ax.axvline(224, color=style.GREY, linewidth=0.8, linestyle="--")
    ax.set_xticks([64, 224, 384, 512, 768, 1024])
    ax.set(
        xlabel="image side (pixels)", ylabel="FLOPs saved against DeiT-S (%)", xlim=(64, 1024), ylim=(-5, 74)
    )
    ax.set_title("It pays from small images on")
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 0.1))


def saving_limit() -> float:
    """Where the saving goes as N grows: attention products take all, and 4 of 12 layers keep theirs."""
    return 100 * (1 - 4 / 12)


def shares_of() -> dict[str, Cost]:
    """The models whose FLOPs are broken down."""
    small = SWIN["small"]
    return {
        "DeiT-S": closed_global.deit(384),
        "STViT-DeiT-S, M = 16": closed_global.stvit_deit(384, 16),
        "STViT-DeiT-S, M = 100": closed_global.stvit_deit(384, 100),
        "Swin-S": closed_local.swin(*small),
        "STViT-Swin-S, M = 9": closed_semantic.stvit_swin(*small, base=10),
        "STViT-R-Swin-S": closed_semantic.stvit_r_swin(*small),
    }


PALETTE = dict(
    zip(
        TERM_KINDS,
        (
            style.GREY,
            style.BLUE,
            style.SKY,
            style.ORANGE,
            style.PURPLE,
            style.GREEN,
            style.YELLOW,
            style.VERMILION,
            style.INK,
        ),
        strict=True,
    )
)


def shares() -> Figure:
    """Stacked bars of GFLOPs by kind of term."""
    costs = shares_of()
    with style.house_style():
        fig, ax = style.figure(style.PAGE, 2.5)
        names = list(costs)[::-1]
        start = [0.0] * len(names)
        for kind in TERM_KINDS:
            widths = [costs[name].by("kind").get(kind, 0) / 1e9 for name in names]
            if any(widths):
                ax.barh(names, widths, left=start, color=PALETTE[kind], label=kind, height=0.62)
                start = [left + width for left, width in zip(start, widths, strict=True)]
        for name, end in zip(names, start, strict=True):
            place = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 7}
            ax.annotate(f"{end:.2f}", (end, name), **place)
        ax.set(xlabel="GFLOPs (multiply-adds) at 224×224")
        ax.margins(x=0.07)
        ax.grid(axis="y", visible=False)
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return fig
