"""The Pareto figure, and one HTML page with every point's line when the pointer is on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import style
from analysis.offtheshelf.figures import COLOURS
from analysis.pareto.choice import QUALITIES, named

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PANELS = {
    "time": ("front_time", "time of a batch, of the dense model's"),
    "share": ("front_flops", "FLOPs, of the dense model's"),
}


def pareto(frame: pd.DataFrame, quality: str) -> Figure:
    """Quality against measured time and against FLOPs; points on the front have a ring."""
    frame = frame.assign(time=1 / frame.times_as_fast)
    colours = colours_of(frame)
    with style.house_style():
        fig, axes = style.figure(style.PAGE, 3.3, 1, 2, sharey=True)
        for ax, (x, (front, label)) in zip(axes, PANELS.items(), strict=True):
            for row, rows in frame.groupby("row", sort=False):
                rows = rows.sort_values(x)
                errors = [rows[quality] - rows[f"{quality}_low"], rows[f"{quality}_high"] - rows[quality]]
                ax.errorbar(rows[x], rows[quality], errors, color=colours[row], lw=1, ms=3, marker="o",
                            elinewidth=0.6, ls="--" if rows.untrained_parts.any() else "-",
                            label=rows.method.iloc[0])  # fmt: skip
            best = frame[frame[front]]
            ax.plot(best[x], best[quality], color=style.INK, lw=0, marker="o", ms=7, mfc="none", mew=0.8)
            ax.set(xlabel=label)
        axes[0].set(ylabel=QUALITIES[quality])
        handles, labels = axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=6.5)
    return fig


def colours_of(frame: pd.DataFrame) -> dict[str, str]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    rows = list(dict.fromkeys(frame.row))
    return {row: COLOURS.get(row) or to_hex(colormaps["tab20"](i % 20)) for i, row in enumerate(rows)}


def write_page(path: Path, frame: pd.DataFrame, quality: str, sentence: str, where: str) -> Path:
    """A file that needs no other: points, fronts, a legend that hides methods, and the table."""
    from jinja2 import Environment

    colours = colours_of(frame)
    points = [
        {
            "method": row.method,
            "name": named(row),
            "colour": colours[row.row],
            "quality": round(getattr(row, quality), 4),
            "low": round(getattr(row, f"{quality}_low"), 4),
            "high": round(getattr(row, f"{quality}_high"), 4),
            "time": round(1 / row.times_as_fast, 4),
            "share": round(row.share, 4),
            "tokens": int(row.tokens),
            "memory": round(row.memory_share, 3),
            "front_time": bool(row.front_time),
            "front_flops": bool(row.front_flops),
            "untrained": bool(row.untrained_parts),
        }
        for row in frame.itertuples()
    ]
    template = Path(__file__).with_name("pareto.html").read_text(encoding="utf-8")
    page = (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            points=json.dumps(points).replace("<", "\\u003c"),
            quality=QUALITIES[quality],
            sentence=sentence,
            where=where,
        )
    )
    path.write_text(page, encoding="utf-8")
    return path
