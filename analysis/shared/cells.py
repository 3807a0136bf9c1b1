"""Trained cells: a model trained from one seed and tested, under the hash of all that decides its outcome.

A finished cell has a record at its address and is never trained again; a training that was stopped is continued.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.results import environment
from analysis.shared import records
from analysis.shared.loop import finish

if TYPE_CHECKING:
    from torch import Tensor, nn

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
    return records.read(folder, cell.address)


def run(
    cell: TrainedCell,
    folder: Path,
    out: Path,
    cache: Path,
    load: Callable[[Path], nn.Module],
    measure: Callable[[nn.Module], dict],
    device: str = "cpu",
) -> dict:
    """Train in ``out``, or continue there, test, and write the record, unless there is one.

    load: the trained model from its folder; measure: what the record says of it
    device: "cpu", or "auto" for a GPU where there is one; the record names what it was
    """
    import torch

    from stvit.train import train
    from stvit.training import journal

    done = read(cell, folder)
    if done:
        return done
    torch.set_num_threads(1)
    spent = train(cell.config(out=str(out), cache=str(cache), device=device))  # before a stop, too
    trained = time.perf_counter()
    model = load(out / "model").eval()
    steps = [line for line in journal.read(out / journal.LOG) if "step" in line]
    record = {
        "address": cell.address,
        **cell.content(),
        "seed": cell.seed,
        "curve": [[line["step"], round(line["loss"], 4)] for line in thinned(steps)],
        **measure(model),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": {
            "training": round(spent["seconds"], 1), "training_cpu": round(spent["cpu_seconds"], 1),
            "all": round(spent["seconds"] + time.perf_counter() - trained, 1), "threads": 1,
        },
        **environment("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"),
    }  # fmt: skip
    records.write(folder, record)
    return record


def thinned(steps: list, most: int = 20) -> list:
    """Every so many of them, the last among them, that no more than ``most`` are left."""
    every = -(-len(steps) // most) or 1
    return steps[::-1][::every][::-1]


def predictions(model: nn.Module, data: Any) -> Tensor:
    """The classes that ``model`` predicts for drawn images or clips: (N,)."""
    import torch

    from stvit.data.drawn import drawn_batches

    with torch.inference_mode():
        return torch.cat([model(x).argmax(1) for x, _ in drawn_batches(data)])


def tally(right: Tensor, unit: str, first: int) -> dict:
    """Counts and top-1 of the right answers (N,), and how many of the ``first`` ones; ``unit``: images, clips."""
    from stvit.evaluate import half_width

    count, correct = len(right), int(right.sum())
    top1 = 100 * correct / count
    return {
        unit: count,
        "right": correct,
        "top1": round(top1, 4),
        "half_width": round(half_width(top1, count), 4),
        "first": {unit: min(first, count), "right": int(right[:first].sum())},
    }


def run_missing(
    cells: Iterable[TrainedCell],
    run_cell: Callable[[TrainedCell, Path, Path], dict],
    describe: Callable[[TrainedCell, dict], str],
    folder: Path,
    scratch: Path,
    jobs: int = 1,
    backend: str = "loky",
    minutes: float = 0.0,
) -> int:
    """Train the cells that have no record in ``folder``, a line for each; how many this call finished.

    run_cell: trains and tests a cell, and writes its record
    minutes: begin no cell after so many (0: no limit)
    """
    from tqdm import tqdm

    cells, finished = list(cells), 0
    missing = sum(read(cell, folder) is None for cell in cells)
    print(f"{len(cells) - missing} of {len(cells)} cells are finished, {missing} to run", flush=True)

    def report(cell: TrainedCell, record: dict) -> None:
        nonlocal finished
        finished += 1
        tqdm.write(f"[{finished}/{missing}] {cell.address} {describe(cell, record)}", file=sys.stdout)
        sys.stdout.flush()

    until = time.time() + 60 * minutes if minutes else float("inf")
    work = partial(attempt, run_cell=run_cell, folder=folder, scratch=scratch, until=until)
    finish(cells, partial(read, folder=folder), work, jobs, backend, after=report)
    return finished


def described(cell: TrainedCell, record: dict) -> str:
    """The line about a classifier's cell."""
    seconds = record["seconds"]
    return (
        f"{cell.row.name}, seed {cell.seed}: {record['test']['top1']:.2f} % "
        f"in {seconds['all']:.0f} s ({seconds['training_cpu']:.0f} s of CPU to train)"
    )


def attempt(cell: TrainedCell, run_cell: Callable, folder: Path, scratch: Path, until: float) -> dict | None:
    """The record of a cell that this call ran; None if it is late, or another process has run it or is at it."""
    if time.time() > until or read(cell, folder):
        return None
    scratch.mkdir(parents=True, exist_ok=True)
    lock = scratch / f"{cell.address}.lock"
    if not claim(lock):
        return None
    try:
        return run_cell(cell, folder, scratch)
    finally:
        lock.unlink(missing_ok=True)


def claim(lock: Path) -> bool:
    """Take the lock unless a living process of this machine has it."""
    for _ in range(2):
        try:
            with lock.open("x") as file:
                file.write(str(os.getpid()))
            return True
        except FileExistsError:
            if alive(lock):
                return False
            lock.unlink(missing_ok=True)
    return False


def alive(lock: Path) -> bool:
    import psutil

    with contextlib.suppress(FileNotFoundError, ValueError):
        return psutil.pid_exists(int(lock.read_text()))
    return False
