"""The run loop of every grid: what is finished is read, the rest runs, in parallel and with a progress bar.

A run may be stopped at any time: the next one begins with the cells that have no result yet.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from analysis.commands import at_least

BACKENDS = ("threading", "loky", "sequential", "dask")


def finish(
    cells: Iterable[Any],
    read: Callable[[Any], Any],
    work: Callable[[Any], Any],
    jobs: int = 1,
    backend: str = "loky",
    bar: bool = True,
    after: Callable[[Any, Any], None] | None = None,
) -> list[Any]:
    """The results of all cells, in their order.

    read: the result that a cell has, or None
    work: computes the result and keeps it; None where it is left for another time
    jobs: workers; 0 is one for each core
    bar: show progress on standard error
    after: called with each cell that was worked on, and its result
    """
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; choose from {', '.join(BACKENDS)}")
    cells = list(cells)
    results = [read(cell) for cell in cells]
    missing = [(place, cell) for place, cell in enumerate(cells) if results[place] is None]
    with progress(len(cells), len(cells) - len(missing), bar) as shown:
        for place, result in outcomes(work, missing, jobs or os.cpu_count() or 1, backend):
            results[place] = result
            if result is not None:
                shown.update()
                if after:
                    after(cells[place], result)
    return results


def outcomes(work: Callable, places: list[tuple[int, Any]], jobs: int, backend: str) -> Iterator:
    """(place, result) as they finish; one job runs in this process."""
    if backend == "sequential" or (jobs == 1 and backend != "dask"):
        yield from ((place, work(cell)) for place, cell in places)
        return
    from joblib import Parallel, delayed, parallel_config

    with contextlib.ExitStack() as stack:
        if backend == "dask":
            connect(stack, jobs)
        stack.enter_context(parallel_config(backend=backend, n_jobs=-1 if backend == "dask" else jobs))
        pool = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="2 * n_jobs")
        yield from pool(delayed(placed)(work, place, cell) for place, cell in places)


def placed(work: Callable, place: int, cell: Any) -> tuple[int, Any]:
    return place, work(cell)


def connect(stack: contextlib.ExitStack, jobs: int) -> None:
    """The dask client that exists, else one of DASK_SCHEDULER_ADDRESS, else a cluster on this machine."""
    try:
        from distributed import Client, LocalCluster, get_client
    except ImportError:
        raise ValueError("backend 'dask' needs the package distributed: pip install distributed") from None
    try:
        get_client()
    except ValueError:
        address = os.environ.get("DASK_SCHEDULER_ADDRESS")
        local = partial(LocalCluster, n_workers=jobs, threads_per_worker=1, dashboard_address=None)
        stack.enter_context(Client(address or stack.enter_context(local())))


def progress(total: int, done: int, shown: bool):
    from tqdm import tqdm

    return tqdm(total=total, initial=done, disable=not shown, file=sys.stderr, unit="cell", leave=False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How a training grid is run: what ``cells.run_missing`` takes as ``jobs``, ``backend`` and ``minutes``."""
    parser.add_argument("--jobs", type=at_least(1), default=1, help="processes, of one thread each (1)")
    parser.add_argument(
        "--backend", default="loky", metavar="NAME", help=f"joblib's: {', '.join(BACKENDS)} (loky)"
    )
    parser.add_argument("--minutes", type=float, default=0, help="begin no cell after so many (0: all)")


def arguments_of(args: argparse.Namespace) -> dict[str, Any]:
    """The options of ``add_arguments`` as keywords of ``cells.run_missing``."""
    return {"jobs": args.jobs, "backend": args.backend, "minutes": args.minutes}
