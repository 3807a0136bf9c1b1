"""The dense models that the repository ships: chosen cells, weights in half precision, with their records.

Each is a folder that ``stvit.dense.load`` reads. Its record is the cell's, and has besides what the shipped
weights score on the first test scenes; ``make reproduce`` scores them again.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd

from analysis.dense import detection, segmentation
from analysis.dense.cells import CELLS, CHECKPOINTS, SCRATCH, record_of
from analysis.dense.tables import SECTIONS
from analysis.formats import dump
from analysis.results import digest

SHIPPED = {
    "segment_swin": ("segmentation", "Swin"),
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


def ship(folder: Path = CHECKPOINTS, scratch: Path = SCRATCH, cells: Path = CELLS) -> list[str]:
    """Copy the trained models whose cells are finished; what is there already stays."""
    from stvit.dense import load

    fresh = []
    for name in SHIPPED:
        cell, target = cell_of(name), folder / name
        record, found = record_of(cell, cells), sorted(scratch.glob(f"*-{cell.address}/model"))
        if not record or not found or address(target) == cell.address:
            continue
        if target.exists():
            shutil.rmtree(target)
        target.mkdir(parents=True)
        shutil.copy(found[0] / "config.json", target)
        halve(found[0] / "model.safetensors", target / "model.safetensors")
        record = {
            **record,
            "weights": digest(target / "model.safetensors"),
            "shipped": score(name, load(target).eval()),
        }
        dump(record, target / "record.json")
        fresh.append(name)
    return fresh


def halve(source: Path, target: Path) -> None:
    """The same tensors in half precision; statistics of BatchNorm, whose range is wider, stay as they are."""
    from safetensors.torch import load_file, save_file

    tensors = {
        name: tensor.half() if tensor.is_floating_point() and "running" not in name else tensor
        for name, tensor in load_file(source).items()
    }
    save_file(tensors, target, metadata={"format": "pt"})


def address(folder: Path) -> str | None:
    path = folder / "record.json"
    return json.loads(path.read_text(encoding="utf-8"))["address"] if path.exists() else None


def available(folder: Path = CHECKPOINTS) -> list[str]:
    return [name for name in SHIPPED if (folder / name / "model.safetensors").exists()]


def open_shipped(name: str, folder: Path = CHECKPOINTS):
    """The model in evaluation mode."""
    from stvit.dense import load

    return load(folder / name).eval()


def reproduce(folder: Path = CHECKPOINTS) -> pd.DataFrame:
    """What each shipped model scored when it was shipped and scores now."""
    lines = []
    for name in available(folder):
        record = json.loads((folder / name / "record.json").read_text(encoding="utf-8"))
        recorded, again = record["shipped"], score(name, open_shipped(name, folder))
        headline = next(key for key in recorded if key != "images")
        lines.append(
            {
                "checkpoint": name,
                "score": headline,
                "all_images": record["test"]["images"],
                "all": round(record["test"][headline], 2),
                "images": recorded["images"],
                "recorded": round(recorded[headline], 2),
                "now": round(again[headline], 2),
                "within_rounding": abs(recorded[headline] - again[headline]) <= TOLERANCE,
                "kilobytes": round((folder / name / "model.safetensors").stat().st_size / 1000),
            }
        )
    return pd.DataFrame(lines)
