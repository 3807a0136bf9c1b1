"""``results/offtheshelf``: tables, verdicts and figures from the cells that are shipped."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.offtheshelf import cells, claims, figures, probes, tables
from analysis.offtheshelf.claims import CAPTION_MARGIN, MARGIN
from analysis.results import Report

COMMAND = "python -m analysis.offtheshelf --report"
LACKING = (
    "Nothing has been measured yet: python -m analysis.offtheshelf --cells results/offtheshelf/cells does it"
)


def write(
    out: Path | None = None, folder: Path = cells.SHIPPED_CELLS, labelled: Path = probes.SHIPPED_CELLS
) -> pd.DataFrame:
    """Every study in ``folder``, the largest first, then those of ``labelled``; returns the first one's table."""
    found = sorted(cells.studies(folder), key=lambda study: -len(study["cells"]))
    asked = cells.studies(labelled)
    inputs = [folder / study["address"] / cells.STUDY_FILE for study in found]
    inputs += [labelled / study["address"] / cells.STUDY_FILE for study in asked]
    config = {study["address"]: context(study) for study in found}
    with Report(
        "offtheshelf", "Off the shelf: reductions in a trained model", COMMAND, config, None, inputs, out
    ) as r:
        frames = [one_study(r, study, number) for number, study in enumerate(found)]
        if not found:
            r.prose(f"**{LACKING}.**")
        for study in asked:
            on_labels(r, study)
    return frames[0] if frames else pd.DataFrame()


def context(study: dict) -> dict:
    """What the record says: weights, checksum, photographs, machine."""
    names = ("model", "weights", "size", "crops", "seed", "photographs", "hardware", "date", "versions")
    return {name: study[name] for name in names} | {"dense": study["dense"], "cells": len(study["cells"])}


def one_study(r: Report, study: dict, number: int) -> pd.DataFrame:
    frame, judged = tables.table(study), claims.judge(study)
    suffix = "" if number == 0 else f"_{study['address']}"
    if number:
        r.heading(f"{study['model']} at {study['size']} pixels")
    r.prose(introduction(study, frame))
    dense = "iou" in frame
    r.figure(
        f"pareto{suffix}",
        figures.pareto(frame, dense),
        "What is left of the dense model's output, against multiply-adds and against the time measured beside the "
        "dense model in the same run. Bars are 95 % intervals from bootstrap over photographs, rings mark the "
        "front, dashed lines methods whose own parts nothing has trained; grey ones are named in the next figure.",
        alt="Points and lines of a dozen methods: similarity to the dense model against cost",
    )
    r.figure(
        f"field{suffix}",
        figures.field(frame, dense),
        "The field in one picture, in the order of what a method has above top-k at the same multiply-adds: each "
        "method a row, each keep rate a dot; bars are 95 % intervals. The dense model is at 1 everywhere.",
        alt="Dots of each method's similarity to the dense model, multiply-adds and time, a row a method",
    )
    r.table(f"table{suffix}", frame, "Every method at every keep rate.", digits=3)
    if len(judged):
        r.heading("What the papers claim, without training")
        r.prose(verdicts(judged, study))
        r.prose("\n".join(f"- {line}" for line in claims.in_words(judged)))
        r.table(f"claims{suffix}", judged, "Paired differences over photographs, and what follows.", digits=3)
    captions = claims.judge(study, claims.CAPTION_CLAIMS, CAPTION_MARGIN)
    if len(captions):
        r.heading("What the captions say, in numbers")
        r.prose(
            "A patch stands out if it is in the fifth of an image's patches where the dense model's saliency head is "
            f"highest. Margin {CAPTION_MARGIN}; all intervals hold together at 95 %."
        )
        r.prose("\n".join(f"- {line}" for line in claims.in_words(captions)))
        r.table(f"captions{suffix}", captions, "BAT's Figures 2, 4 and 5.", digits=3)
    if set(figures.FIGURE_1) <= set(frame.row):
        r.figure(
            f"bat_figure1{suffix}",
            figures.figure_1(frame),
            "BAT's Figure 1 on real weights, without training: importance, diversity, both.",
            alt="Similarity to the dense model against keep rate for three ways to reduce tokens",
        )
    r.heading("Method by method")
    r.prose("\n".join(f"- {line}" for line in tables.sentences(frame)))
    return frame


def on_labels(r: Report, study: dict) -> None:
    """The section on labelled images."""
    frame, judged = probes.table(study), probes.judge(study)
    r.heading(f"Labels: {study['data']}")
    r.prose(
        "The same question with labels: a linear probe and the vote of 20 neighbours, both fitted on the dense model's "
        f"features of {study['train_images']:,} training images of {study['data']} at {study['size']} × "
        f"{study['size']} pixels and never again, read the features of each reduced model for {study['images']:,} test "
        "images. Intervals are 95 % from bootstrap over test images; *lost* is what the dense model has more, on the "
        "same images."
    )
    r.table(f"labels_{study['data']}", frame, "Top-1 in per cent by the dense model's probes.", digits=3)
    if len(judged):
        r.prose("\n".join(f"- {line}" for line in claims.in_words(judged)))
        r.table(
            f"labels_claims_{study['data']}",
            judged,
            f"Paired differences in points; margin {probes.MARGIN:g}; all intervals hold together at 95 %.",
            digits=3,
        )


def introduction(study: dict, frame: pd.DataFrame) -> str:
    groups = sorted({entry["source"].split(", in ")[-1] for entry in study["photographs"].values()})
    return (
        f"{len(study['cells'])} cells: {frame.row.nunique()} methods and controls put into **{study['weights']}** "
        f"without any training, on {study['crops']} random crops of {study['size']} × {study['size']} pixels "
        f"({study['dense']['tokens']} tokens) from {len(study['photographs'])} photographs ({', '.join(groups)}), none "
        "of which anything was trained on. The dense model is the truth: the class feature is compared by its cosine "
        "after the mean feature is subtracted, and by whether the dense feature nearest to it among all crops is its "
        "own; image tokens and the saliency map that a trained head reads from them are compared after the tokens "
        "were brought back to their places (a dropped one reads 0). Methods that merge r tokens in each layer, or "
        "reduce once, are set to what top-k costs at the keep rate. Times are medians of three batches of "
        f"{study['cells'][0]['batch']}, the dense model and the reduced one in turn, on a machine that others used too "
        f"(load {busy(study)})."
    )


def busy(study: dict) -> str:
    loads = [cell["load"] for cell in study["cells"] if "load" in cell]
    return f"{min(loads):g} to {max(loads):g}" if loads else "not noted"


def verdicts(judged: pd.DataFrame, study: dict) -> str:
    counts = judged.verdict.value_counts()
    said = ", ".join(f"{counts[name]} {name}" for name in counts.index)
    return (
        f"{len(judged)} comparisons: {said}. A claim holds if the whole interval of the paired difference lies above "
        f"a margin of {MARGIN}, named beforehand; the intervals are as wide as {len(judged)} claims judged together "
        "ask for (Bonferroni)."
    )
