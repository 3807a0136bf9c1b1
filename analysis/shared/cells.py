"""Trained cells: a model trained from one seed and tested, under the hash of all that decides its outcome.

A finished cell has a record at its address and is never trained again; a training that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.formats import dump
from analysis.results import environment

if TYPE_CHECKING:
    from torch import nn

    from stvit.training.config import TrainConfig


class TrainedCell:
    """What the cells of all studies share; ``content`` is all that decides the outcome."""

    seed: int

    def config(self, **changes) -> TrainConfig:
        raise NotImplementedError

    def content(self) -> dict:
        raise NotImplementedError

    @property
    def address(self) -> str:
        return hashlib.sha256(json.dumps(self.content(), sort_keys=True).encode()).hexdigest()[:12]


def read(cell: TrainedCell, folder: Path) -> dict | None:
    path = folder / f"{cell.address}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def run(
    cell: TrainedCell,
    folder: Path,
    out: Path,
    cache: Path,
    load: Callable[[Path], nn.Module],
    measure: Callable[[nn.Module], dict],
) -> dict:
    """Train (or go on training) in ``out``, test, and write the record, unless there is one.

    load: the trained model from its folder; measure: what the record says of it
    """
    import torch

    from stvit.train import train
    from stvit.training import journal

    done = read(cell, folder)
    if done:
        return done
    torch.set_num_threads(1)
    begun, cpu = time.perf_counter(), time.process_time()
    train(cell.config(out=str(out), cache=str(cache)))
    trained, trained_cpu = time.perf_counter(), time.process_time()
    model = load(out / "model").eval()
    steps = [line for line in journal.read(out / journal.LOG) if "step" in line]
    record = {
        "address": cell.address,
        **cell.content(),
        "seed": cell.seed,
        "curve": [[line["step"], round(line["loss"], 4)] for line in steps],
        **measure(model),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": {
            "training": round(trained - begun, 1), "training_cpu": round(trained_cpu - cpu, 1),
            "all": round(time.perf_counter() - begun, 1), "threads": 1,
        },
        **environment("cpu"),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    scratch_file = folder / f".{cell.address}-{os.getpid()}"
    dump(record, scratch_file)
    os.replace(scratch_file, folder / f"{cell.address}.json")
    return record
