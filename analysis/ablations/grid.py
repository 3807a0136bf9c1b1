"""Run the cells of the grid that have no record yet: in this process, or by joblib on any backend."""

from __future__ import annotations

import os
import time
from pathlib import Path

from analysis.ablations.cells import CELLS, SCRATCH, Cell, record_of, run_cell


def run(
    cells: list[Cell],
    jobs: int = 1,
    backend: str = "loky",
    minutes: float = 0.0,
    folder: Path = CELLS,
    scratch: Path = SCRATCH,
) -> int:
    """Finish ``cells`` in their order; returns how many this call finished.

    minutes: begin no cell after so many (0: no limit)
    backend: joblib's, such as loky, or dask and ray where their clients are set up
    """
    missing = [cell for cell in cells if not record_of(cell, folder)]
    until = time.time() + 60 * minutes if minutes else float("inf")
    print(
        f"{len(cells) - len(missing)} of {len(cells)} cells are finished, {len(missing)} to run", flush=True
    )
    arguments = [(cell, until, folder, scratch) for cell in missing]
    if jobs == 1:
        outcomes = (attempt(*each) for each in arguments)
    else:
        from joblib import Parallel, delayed, parallel_config

        with parallel_config(backend=backend, n_jobs=jobs):
            pool = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch=jobs)
            outcomes = pool(delayed(attempt)(*each) for each in arguments)
    finished = 0
    for line in outcomes:
        if line:
            finished += 1
            print(f"[{finished}/{len(missing)}] {line}", flush=True)
    return finished


def attempt(cell: Cell, until: float, folder: Path, scratch: Path) -> str:
    """Run one cell, unless it is late or someone else is at it; a line about it."""
    if time.time() > until or record_of(cell, folder):
        return ""
    scratch.mkdir(parents=True, exist_ok=True)
    lock = scratch / f"{cell.address}.lock"
    if not claim(lock):
        return ""
    try:
        record = run_cell(cell, folder, scratch)
    finally:
        lock.unlink(missing_ok=True)
    seconds = record["seconds"]
    return (
        f"{cell.address} {cell.row.name}, seed {cell.seed}: {record['test']['top1']:.2f} % "
        f"in {seconds['all']:.0f} s ({seconds['training_cpu']:.0f} s of CPU to train)"
    )


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
    try:
        os.kill(int(lock.read_text()), 0)
    except (ProcessLookupError, FileNotFoundError, ValueError):
        return False
    except PermissionError:
        return True
    return True
