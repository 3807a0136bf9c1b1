"""BAT's Figures 2 and 5 on a real model and photographs: what becomes of each patch, without any training.

Their captions are measured over hundreds of crops by ``python -m analysis.offtheshelf``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.images import normalised
from analysis.results import RESULTS
from analysis.shared import field
from analysis.shared.models import Subject
from analysis.token_maps import figures, follow
from analysis.token_maps.subjects import FIGURE_2, off_the_shelf
from stvit.models.reduced_vit import method_choices
from stvit.reduce import METHODS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from analysis.results import Report

SHOWN = ("astronaut", "coffee", "motorcycle")
CAPTION_VERDICTS = RESULTS / "offtheshelf" / "captions.csv"
ALT = "Photographs with patches left as they are, coloured by the group they merged into, or faded where dropped"
RATE, WALL_RATE = 0.6, 0.7
ALREADY = {"psvit": WALL_RATE, "evovit": 0.5}  # keep rates that are not those of single layers


def figure_2(dense: Subject, pictures: np.ndarray, side: float = 1.5):
    """Image, importance, diversity, both."""
    images = normalised(pictures, dense.model)
    last = [follow(off_the_shelf(name, dense).model, images)[-1] for name in FIGURE_2]
    drawn = [[(s.labels[i], s.grid, f"{s.tokens} tokens") for s in last] for i in range(len(pictures))]
    titles = ["image", "importance\n(top-k)", "diversity\n(clusters only)", "both\n(BAT)"]
    return figures.rows(
        pictures, drawn, titles, f"{dense.name}, not trained again: keep rate {RATE}", side=side
    )


def figure_5(dense: Subject, pictures: np.ndarray, side: float = 1.5):
    """BAT after each of its reductions."""
    stages = follow(off_the_shelf("BAT", dense).model, normalised(pictures, dense.model))
    drawn = [[(s.labels[i], s.grid, f"{s.tokens} tokens") for s in stages] for i in range(len(pictures))]
    titles = ["image", *(f"after layer {stage.layer}" for stage in stages)]
    return figures.rows(pictures, drawn, titles, f"{dense.name}, not trained again: BAT", side=side)


def every_method(dense: Subject, picture: np.ndarray):
    """One photograph, and what every method that needs no training of its own has left of it at the end."""
    images, drawn = normalised(picture, dense.model), []
    for name in METHODS:
        model = untrained(dense, name)
        if model is None:
            continue
        stage = follow(model, images)[-1]
        if stage.tokens < stage.labels.shape[1]:  # A-ViT halts none before it is trained
            drawn.append((stage.labels[0], stage.grid, field.label(name), f"{stage.tokens} tokens"))
    return figures.wall(
        picture, drawn, f"{dense.name}, not trained again: what {len(drawn)} methods leave at the end"
    )


def untrained(dense: Subject, name: str):
    """The dense model with a method at about a third of the tokens; None if it brings weights of its own to train."""
    import torch

    import stvit

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = stvit.sparsify(dense.model, method=name, **amount(name, dense)).eval()
    known = {parameter for parameter, _ in dense.model.named_parameters()}
    return None if any(parameter not in known for parameter, _ in model.named_parameters()) else model


def amount(name: str, dense: Subject) -> dict:
    """What leaves about 0.7³ of the tokens: in three layers, in a few of them each, or at once; {} if nothing says."""
    layers = len(METHODS[name].layers(len(dense.model.blocks)))
    tokens = dense.model.patch_embed.num_patches
    known, left = method_choices(name), WALL_RATE**3
    if "r" in known:
        return {"r": round(tokens * (1 - left) / layers)}
    if "num_tokens" in known:
        return {"num_tokens": round((tokens * left) ** 0.5) ** 2}
    if "keep_rate" in known:
        return {"keep_rate": ALREADY.get(name, round(left ** (1 / layers), 3))}
    return {}


def measured() -> pd.DataFrame | None:
    """The captions' numbers, where they have been measured."""
    import pandas as pd

    return pd.read_csv(CAPTION_VERDICTS) if CAPTION_VERDICTS.exists() else None


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
        "real_methods",
        every_method(dense, pictures[0]),
        "Every method that has nothing of its own to train, after its last reduction; about a third of the tokens are "
        "left where a method lets that be chosen. Evo-ViT computes with those that are shown, and keeps the others.",
        alt=ALT,
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
