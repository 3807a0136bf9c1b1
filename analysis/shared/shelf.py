"""The trained models that the repository ships: put on the shelf with their records, and scored again there.

A model is a folder with weights in 8 bits, a configuration and the record of its cell. The record has
besides a checksum of the weights and what they score on the first items of the test split, which ``make
reproduce`` computes again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from analysis.formats import dump
from analysis.results import commit, digest

if TYPE_CHECKING:
    from torch import nn

WEIGHTS, RECORD = "model.safetensors", "record.json"


def load_classifier(folder: Path) -> nn.Module:
    from stvit.checkpoints import load_checkpoint

    return load_checkpoint(folder)


@dataclass(frozen=True)
class Shelf:
    """A folder of shipped models.

    score: what the record says of a shipped model, from its name and the model
    load: the model from its folder
    """

    folder: Path
    score: Callable[[str, nn.Module], dict]
    load: Callable[[Path], nn.Module] = load_classifier

    def available(self, names: Iterable[str] | None = None) -> list[str]:
        """The models that have weights here: of ``names``, in their order, or all."""
        found = sorted(path.parent.name for path in self.folder.glob(f"*/{WEIGHTS}"))
        return found if names is None else [name for name in names if name in found]

    def open(self, name: str) -> nn.Module:
        """The model in evaluation mode."""
        return self.load(self.folder / name).eval()

    def record(self, name: str) -> dict:
        return json.loads((self.folder / name / RECORD).read_text(encoding="utf-8"))

    def kilobytes(self, name: str) -> int:
        return round((self.folder / name / WEIGHTS).stat().st_size / 1000)

    def ship(self, name: str, record: dict | None, trained: Path) -> bool:
        """Copy a trained model whose cell is finished; False where it cannot be, or is here already."""
        import torch

        from stvit.checkpoints import recast_checkpoint

        target = self.folder / name
        if not record or not trained.is_dir() or self.has(name, record["address"]):
            return False
        if target.exists():
            shutil.rmtree(target)
        shutil.copytree(
            trained, target, ignore=shutil.ignore_patterns("README.md")
        )  # the record says the same
        recast_checkpoint(target, torch.int8)
        self.note(name, record, weights=digest(target / WEIGHTS), shipped=self.score(name, self.open(name)))
        return True

    def has(self, name: str, address: str) -> bool:
        """Is this cell's model here?"""
        return (self.folder / name / RECORD).exists() and self.record(name)["address"] == address

    def rescore(self, name: str) -> dict:
        """Score a shipped model again and record that: for code that adds in another order."""
        found = self.score(name, self.open(name))
        self.note(name, self.record(name), shipped=found, tested_at=commit())
        return found

    def note(self, name: str, record: dict, **found) -> None:
        dump({**record, **found}, self.folder / name / RECORD)

    def recount(self, names: Iterable[str], row: Callable[[str, dict, dict], dict]) -> pd.DataFrame:
        """A row for each model that is here, from its name, its record and its score now."""
        found = (
            (name, self.record(name), self.score(name, self.open(name))) for name in self.available(names)
        )
        return pd.DataFrame([row(*each) for each in found])


def recounted(test: dict, recorded: dict, first: dict, unit: str, tolerance: int) -> dict:
    """Right answers of the first test items (``unit``: images, clips), recorded when shipped and counted now.

    tolerance: how many items rounding may turn on another machine
    """
    return {
        "top1_all": test["top1"],
        "half_width": test["half_width"],
        unit: first[unit],
        "recorded": recorded["right"],
        "recounted": first["right"],
        "equal": recorded["right"] == first["right"],
        "within_rounding": abs(recorded["right"] - first["right"]) <= tolerance,
    }
