"""The dense models that the repository ships (``analysis.shared.shelf``): folders that ``stvit.dense.load`` reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from analysis.dense import detection, segmentation
from analysis.dense.cells import CELLS, CHECKPOINTS, SCRATCH, record_of, scratch_of
from analysis.dense.tables import SECTIONS
from analysis.shared.shelf import Shelf

SHIPPED = {
    "segment_stvit_r": ("segmentation", "STViT-R"),
    "detect_stvit_r": ("detection", "STViT-R"),
}
SEED = 0
CHECKED = {"segmentation": 256, "detection": 64}  # test scenes
TOLERANCE = 0.1  # points that another machine's rounding may turn


def cell_of(name: str):
    task, row = SHIPPED[name]
    section = next(section for section in SECTIONS if section.task == task)
    return next(cell for cell in section.plan(seeds=(SEED,)) if cell.row.name == row)


def score(name: str, model) -> dict:
    """The headline of a shipped model on the first test scenes."""
    task = SHIPPED[name][0]
    found = {"segmentation": segmentation.test, "detection": detection.test}[task](model, CHECKED[task])
    headline = next(section.headline for section in SECTIONS if section.task == task)
    return {"images": CHECKED[task], headline: round(found[headline], 4)}


def load(folder: Path):
    from stvit.dense import load

    return load(folder)


SHELF = Shelf(CHECKPOINTS, score, load)


def ship(folder: Path = CHECKPOINTS, scratch: Path = SCRATCH, cells: Path = CELLS) -> list[str]:
    """Ship the trained models whose cells are finished; the names of those that were not here yet."""
    shelf, chosen = replace(SHELF, folder=folder), {name: cell_of(name) for name in SHIPPED}
    return [
        name
        for name, cell in chosen.items()
        if shelf.ship(name, record_of(cell, cells), scratch_of(cell, scratch) / "model")
    ]


def available(folder: Path = CHECKPOINTS) -> list[str]:
    return replace(SHELF, folder=folder).available(SHIPPED)


def open_shipped(name: str, folder: Path = CHECKPOINTS):
    """The model in evaluation mode."""
    return replace(SHELF, folder=folder).open(name)


def reproduce(folder: Path = CHECKPOINTS) -> pd.DataFrame:
    """What each shipped model scored when it was shipped and scores now."""
    shelf = replace(SHELF, folder=folder)

    def row(name: str, record: dict, now: dict) -> dict:
        recorded = record["shipped"]
        headline = next(key for key in recorded if key != "images")
        return {
            "checkpoint": name,
            "score": headline,
            "all_images": record["test"]["images"],
            "all": round(record["test"][headline], 2),
            "images": recorded["images"],
            "recorded": round(recorded[headline], 2),
            "now": round(now[headline], 2),
            "within_rounding": abs(recorded[headline] - now[headline]) <= TOLERANCE,
            "kilobytes": shelf.kilobytes(name),
        }

    return shelf.recount(SHIPPED, row)
