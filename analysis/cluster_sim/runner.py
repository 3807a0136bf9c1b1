"""The cells of a grid through the run loop of ``analysis.shared.loop``: threads here, other backends by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from analysis.cluster_sim.options import Options, SimulatedCell, Store
from analysis.shared.loop import finish


def run_cells(
    measure: Callable[[SimulatedCell], dict], cells: Iterable[SimulatedCell], options: Options
) -> list[dict]:
    """``measure`` of every cell, in order; cells that the store already holds are read, not run."""
    store = Store(options.store) if options.store else None
    read = store.read if store else lambda cell: None
    work = partial(measured, measure, store) if store else measure
    return finish(cells, read, work, options.jobs, options.backend, options.progress)


def measured(measure: Callable[[SimulatedCell], dict], store: Store, cell: SimulatedCell) -> dict:
    row = measure(cell)
    store.write(cell, row)
    return row
