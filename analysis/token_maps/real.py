"""BAT's Figures 2 and 5 on a real model and photographs: what becomes of each patch, without any training.

Their captions are measured over hundreds of crops by ``python -m analysis.offtheshelf``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.images import normalised
from analysis.results import RESULTS
from analysis.shared.models import Subject
from analysis.token_maps import figures, follow
from analysis.token_maps.subjects import FIGURE_2, OFF_THE_SHELF, off_the_shelf

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from analysis.results import Report

SHOWN = ("astronaut", "chelsea", "coffee", "motorcycle")
CAPTIONS = RESULTS / "offtheshelf" / "captions.csv"
ALT = "Photographs with patches left as they are, coloured by the group they merged into, or faded where dropped"
RATE = 0.6


def figure_2(dense: Subject, pictures: np.ndarray, side: float = 1.5):
    """Image, importance, diversity, both."""
    images = normalised(pictures, dense.model)
    last = [follow(off_the_shelf(name, dense).model, images)[-1] for name in FIGURE_2]
    drawn = [[(s.labels[i], s.grid, f"{s.tokens} tokens") for s in last] for i in range(len(pictures))]
    titles = ["image", "importance\n(top-k)", "diversity\n(clusters only)", "both\n(BAT)"]
    return figures.rows(
        pictures, drawn, titles, f"{dense.name}, not trained again: keep rate {RATE}", side=1.5
    )


def figure_5(dense: Subject, pictures: np.ndarray, side: float = 1.5):
    """BAT after each of its reductions."""
    stages = follow(off_the_shelf("BAT", dense).model, normalised(pictures, dense.model))
    drawn = [[(s.labels[i], s.grid, f"{s.tokens} tokens") for s in stages] for i in range(len(pictures))]
    titles = ["image", *(f"after layer {stage.layer}" for stage in stages)]
    return figures.rows(pictures, drawn, titles, f"{dense.name}, not trained again: BAT", side=side)


def every_method(dense: Subject, pictures: np.ndarray):
    """The last state of every method of the table, on one photograph each row."""
    names = [name for name in OFF_THE_SHELF if name not in ("clusters only", "DynamicViT")]
    images = normalised(pictures, dense.model)
    last = [follow(off_the_shelf(name, dense).model, images)[-1] for name in names]
    drawn = [[(s.labels[i], s.grid, f"{s.tokens} tokens") for s in last] for i in range(len(pictures))]
    return figures.rows(pictures, drawn, ["image", *names], f"{dense.name}, not trained again: every method")


def measured() -> pd.DataFrame | None:
    """The captions' numbers, where they have been measured."""
    import pandas as pd

    return pd.read_csv(CAPTIONS) if CAPTIONS.exists() else None


def write(r: Report, dense: Subject, pictures: np.ndarray) -> None:
    """The section of the report."""
    r.heading("On a real model")
    r.prose(
        f"**{dense.found}**, at {dense.size[0]} × {dense.size[1]} pixels, with reductions put in and nothing trained: "
        "kept patches look as they are, merged ones take their group's colour, dropped ones fade."
    )
    r.figure(
        "real_figure2",
        figure_2(dense, pictures),
        "BAT's Figure 2 on photographs." + said("Figure 2"),
        alt=ALT,
    )
    r.figure(
        "real_figure5",
        figure_5(dense, pictures),
        "BAT's Figure 5 on photographs." + said("Figure 5"),
        alt=ALT,
    )
    r.figure(
        "real_methods", every_method(dense, pictures), "Every method, after its last reduction.", alt=ALT
    )
    table = measured()
    if table is not None:
        r.table("real_claims", table, "The captions, measured over crops (analysis.offtheshelf).", digits=3)


def said(figure: str) -> str:
    """What the measured captions of a figure come to, in the words of its claims."""
    table = measured()
    if table is None:
        return ""
    rows = table[
        table.source.str.contains(figure) | table.source.str.contains(figure.replace("Figure ", "and "))
    ]
    parts = [
        f"{text} ({rows_.verdict.iloc[0] if rows_.verdict.nunique() == 1 else ' / '.join(rows_.verdict)}: "
        f"{rows_.value.mean():.2f} beside {rows_.beside.mean():.2f})"
        for text, rows_ in rows.groupby("claim", sort=False)
    ]
    return " Over crops: " + "; ".join(parts) + "." if parts else ""
