"""The classifiers that the repository ships (``analysis.shared.shelf``), which ``stvit.load_checkpoint`` reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from analysis.ablations.cells import CELLS, CHECKPOINTS, SCRATCH, AblationCell, record_of, test
from analysis.ablations.design import CHECK_IMAGES, TABLES
from analysis.shared.shelf import Shelf, recounted

SHIPPED = {
    "micro_stvit_4": ("stvit_table1", "4 tokens"),
    "micro_stvit_16": ("stvit_table1", "16 tokens"),
    "micro_stvit_global": ("stvit_table7", "global"),
    "micro_deit_class_token": ("stvit_table4", "dense, class token"),
    "micro_swin": ("stvit_table9", "dense Swin"),
    "micro_stvit_r_swin": ("stvit_table9", "STViT-R"),
    "micro_stvit_swin": ("stvit_table9", "STViT-Swin"),
}
SEED = 0
TOLERANCE = 4  # images of 4,096 that rounding may turn on another machine, where tokens are sorted or matched


def cell_of(name: str) -> AblationCell:
    table, row = SHIPPED[name]
    rows = next(t for t in TABLES if t.name == table).rows
    return AblationCell(next(r for r in rows if r.name == row), SEED)


def score(name: str, model) -> dict:
    """Right answers on the first test images."""
    return {"dtype": "int8", "first": test(model, CHECK_IMAGES)["first"]}


SHELF = Shelf(CHECKPOINTS, score)


def ship(folder: Path = CHECKPOINTS, scratch: Path = SCRATCH, cells: Path = CELLS) -> list[str]:
    """Ship the trained models whose cells are finished; the names of those that were not here yet."""
    shelf, chosen = replace(SHELF, folder=folder), {name: cell_of(name) for name in SHIPPED}
    return [
        name
        for name, cell in chosen.items()
        if shelf.ship(name, record_of(cell, cells), scratch / cell.address / "model")
    ]


def reproduce(folder: Path = CHECKPOINTS) -> pd.DataFrame:
    """Recorded and recounted right answers of every shipped checkpoint on the fixed test images."""
    shelf = replace(SHELF, folder=folder)

    def row(name: str, record: dict, now: dict) -> dict:
        test, first = record["test"], now["first"]
        recorded = record.get("shipped", test)["first"]
        found = recounted(test, recorded, first, "images", TOLERANCE)
        top1 = round(100 * first["right"] / first["images"], 2)
        return {"checkpoint": name, **found, "top1": top1, "kilobytes": shelf.kilobytes(name)}

    columns = ["checkpoint", "top1_all", "half_width", "images", "recorded", "recounted", "top1", "equal",
               "within_rounding", "kilobytes"]  # fmt: skip
    return shelf.recount(shelf.available(), row).reindex(columns=columns)
