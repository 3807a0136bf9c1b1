"""The checkpoints that the repository ships: chosen cells of the grid, with their records.

Each is a folder that ``stvit.load_checkpoint`` and timm read, with weights in half precision. Its record is the
cell's, and has besides what the shipped weights count on the first images of the test split; ``make reproduce``
counts that again.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd

from analysis.ablations.cells import CELLS, CHECKPOINTS, SCRATCH, Cell, record_of, test
from analysis.ablations.design import CHECK_IMAGES, TABLES
from analysis.formats import dump
from analysis.results import commit, digest

SHIPPED = {
    "micro_deit": ("stvit_table1", "dense"),
    "micro_stvit_4": ("stvit_table1", "4 tokens"),
    "micro_stvit_9": ("stvit_table1", "9 tokens"),
    "micro_stvit_16": ("stvit_table1", "16 tokens"),
    "micro_stvit_36": ("stvit_table1", "36 tokens"),
    "micro_stvit_global": ("stvit_table7", "global"),
    "micro_deit_class_token": ("stvit_table4", "dense, class token"),
    "micro_dynamicvit": ("stvit_table4", "DynamicViT"),
    "micro_evit": ("stvit_table4", "EViT"),
    "micro_bat": ("stvit_table4", "BAT"),
    "micro_tome": ("stvit_table4", "ToMe"),
    "micro_swin": ("stvit_table9", "dense Swin"),
    "micro_stvit_r_swin": ("stvit_table9", "STViT-R"),
    "micro_stvit_swin": ("stvit_table9", "STViT-Swin"),
}
SEED = 0
TOLERANCE = 4  # images of 4,096 that rounding may turn on another machine, where tokens are sorted or matched


def cell_of(name: str) -> Cell:
    table, row = SHIPPED[name]
    rows = next(t for t in TABLES if t.name == table).rows
    return Cell(next(r for r in rows if r.name == row), SEED)


def ship(folder: Path = CHECKPOINTS, scratch: Path = SCRATCH, cells: Path = CELLS) -> list[str]:
    """Copy the trained models whose cells are finished; what is there already stays."""
    fresh = []
    for name in SHIPPED:
        cell = cell_of(name)
        record, trained = record_of(cell, cells), scratch / cell.address / "model"
        target = folder / name
        if not record or not trained.is_dir() or shipped_address(target) == cell.address:
            continue
        if target.exists():
            shutil.rmtree(target)
        shutil.copytree(trained, target)
        dump(record, target / "record.json")
        halve(target)
        fresh.append(name)
    return fresh


def halve(folder: Path, dtype: str = "float16") -> dict:
    """Keep a shipped model's weights in half precision, and record what they count then."""
    import torch

    from stvit.checkpoints import load_checkpoint, recast_checkpoint

    recast_checkpoint(folder, getattr(torch, dtype))
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    first = test(load_checkpoint(folder).eval(), CHECK_IMAGES)["first"]
    found = {"weights": digest(folder / "model.safetensors"), "shipped": {"dtype": dtype, "first": first}}
    dump({**record, **found}, folder / "record.json")
    return found


def retest(name: str, folder: Path = CHECKPOINTS) -> dict:
    """Count a shipped model's right answers again and record them: for code that adds in another order."""
    from stvit.checkpoints import load_checkpoint

    path = folder / name / "record.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    first = test(load_checkpoint(path.parent).eval(), CHECK_IMAGES)["first"]
    found = {
        "shipped": {"dtype": "float16", **record.get("shipped", {}), "first": first},
        "tested_at": commit(),
    }
    dump({**record, **found}, path)
    return first


def shipped_address(folder: Path) -> str | None:
    path = folder / "record.json"
    return json.loads(path.read_text(encoding="utf-8"))["address"] if path.exists() else None


def reproduce(folder: Path = CHECKPOINTS, images: int = CHECK_IMAGES) -> pd.DataFrame:
    """Recorded and recounted right answers of every shipped checkpoint on the fixed test images."""
    from stvit.checkpoints import load_checkpoint

    lines = []
    for path in sorted(folder.glob("*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        recorded = record.get("shipped", record["test"])["first"]
        again = test(load_checkpoint(path.parent).eval(), images)
        lines.append(
            {
                "checkpoint": path.parent.name,
                "top1_all": record["test"]["top1"],
                "half_width": record["test"]["half_width"],
                "images": images,
                "recorded": recorded["right"],
                "recounted": again["right"],
                "top1": round(100 * again["right"] / images, 2),
                "equal": recorded["right"] == again["right"],
                "within_rounding": abs(recorded["right"] - again["right"]) <= TOLERANCE,
                "kilobytes": round((path.parent / "model.safetensors").stat().st_size / 1000),
            }
        )
    return pd.DataFrame(lines)
