"""Cells through joblib: threads here, a dask or ray cluster with ``--backend`` and nothing else changed."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable

from analysis.cluster_sim.options import Cell, Options, Store

BACKENDS = ("threading", "loky", "sequential", "dask", "ray")


def run_cells(measure: Callable[[Cell], dict], cells: Iterable[Cell], options: Options) -> list[dict]:
    """``measure`` of every cell, in order; cells that the store already holds are read, not run."""
    cells = list(cells)
    store = Store(options.store) if options.store else None
    rows = {cell.key: store.read(cell) for cell in cells} if store else {}
    todo = [cell for cell in cells if rows.get(cell.key) is None]
    with backend(options), bar(len(cells), len(cells) - len(todo), options.progress) as progress:
        for cell, row in _finished(measure, todo, options):
            if store:
                store.write(cell, row)
            rows[cell.key] = row
            progress.update()
    return [rows[cell.key] for cell in cells]


def _finished(measure, todo: list[Cell], options: Options):
    """(cell, row) as they finish; dask and ray hand rows back by batches of a few per worker."""
    from joblib import Parallel, delayed

    jobs = options.jobs or os.cpu_count() or 1
    if options.backend in ("dask", "ray"):
        batch = max(16, 4 * jobs)
        for start in range(0, len(todo), batch):
            part = todo[start : start + batch]
            yield from zip(part, Parallel(n_jobs=-1)(delayed(measure)(cell) for cell in part), strict=True)
        return
    parallel = Parallel(n_jobs=jobs, return_as="generator", batch_size=1, pre_dispatch="4*n_jobs")
    yield from zip(todo, parallel(delayed(measure)(cell) for cell in todo), strict=True)


@contextlib.contextmanager
def backend(options: Options):
    """The joblib backend by name; dask uses the client that exists, or starts a local cluster."""
    from joblib import parallel_config

    name = options.backend
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; choose from {', '.join(BACKENDS)}")
    with contextlib.ExitStack() as stack:
        if name == "dask":
            _dask(stack, options.jobs or os.cpu_count() or 1)
        elif name == "ray":
            _ray()
        # dask and ray bring their own workers; the others are told how many
        stack.enter_context(parallel_config(backend=name))
        yield


def _dask(stack: contextlib.ExitStack, jobs: int) -> None:
    try:
        from distributed import Client, LocalCluster, get_client
    except ImportError:
        raise ValueError("backend 'dask' needs the package distributed: pip install distributed") from None
    try:
        get_client()
    except ValueError:
        address = os.environ.get("DASK_SCHEDULER_ADDRESS")
        where = address or stack.enter_context(
            LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None)
        )
        stack.enter_context(Client(where))


def _ray() -> None:
    try:
        from ray.util.joblib import register_ray
    except ImportError:
        raise ValueError("backend 'ray' needs the package ray: pip install ray") from None
    register_ray()


def bar(total: int, done: int, shown: bool):
    from tqdm import tqdm

    return tqdm(total=total, initial=done, disable=not shown, file=sys.stderr, unit="cell", leave=False)
