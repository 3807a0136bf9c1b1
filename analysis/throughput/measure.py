"""Models side by side at one workload: build, warm up, take turns, make rows."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from analysis.throughput import memory, specs, table
from analysis.throughput.turns import USUAL, Patience, take_turns
from analysis.throughput.unfinished import Unfinished
from analysis.throughput.variants import (
    Feed,
    Mode,
    Runner,
    Variant,
    Workload,
    check_device,
    finisher,
    make_runner,
)

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn


FAILURES = (
    ValueError,
    RuntimeError,
    AssertionError,
    ImportError,
)  # of models at sizes or in modes that they cannot do


class TimedCell(NamedTuple):
    """Models that are compared at one workload, each in all modes; the first model is the base.

    more: further variants, such as the base with all short cuts
    """

    models: tuple[str, ...]
    work: Workload
    modes: tuple[Mode, ...] = (Mode(),)
    more: tuple[Variant, ...] = ()

    def variants(self) -> list[Variant]:
        return [*(Variant(spec, mode) for mode in self.modes for spec in self.models), *self.more]

    def __str__(self) -> str:
        return f"{self.work.task}, batch {self.work.batch_size}, {table.size_text(self.work.size)}"


class Measured(NamedTuple):
    """Rows, and what could not be measured with the reason."""

    rows: list[dict]
    notes: list[str]

    @property
    def frame(self) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(self.rows)


def measure(
    cells: Sequence[TimedCell],
    patience: Patience = USUAL,
    threads: int = 2,
    forgiving: bool = False,
    kept: Unfinished | None = None,
    **choices,
) -> Measured:
    """All cells, one after the other; ``choices`` are those of ``measure_cell``.

    forgiving: a cell that cannot be measured becomes a note, unless it is the only one
    kept: where cells are kept as they are measured, and read if an earlier run was stopped
    """
    parts = []
    with torch_threads(threads):
        for cell in cells:
            earlier = kept.read(cell) if kept else None
            if earlier:
                parts.append(Measured(*earlier))
                continue
            try:
                parts.append(measure_cell(cell, patience, **choices))
                if kept:
                    kept.keep(cell, *parts[-1])
            except FAILURES as error:
                if not forgiving or len(cells) == 1:
                    raise
                parts.append(Measured([], [f"{cell.models[0]}, {cell}: not measured. {one_line(error)}"]))
    return Measured([row for part in parts for row in part.rows], [n for part in parts for n in part.notes])


def measure_cell(
    cell: TimedCell, patience: Patience = USUAL, workers: int = 1, track_memory: bool = True
) -> Measured:
    """A row for each variant that can be had; an error if the first mode's cannot.

    workers: processes that decode images, where the task is ``end to end``
    """
    import torch

    work = cell.work
    check_device(work.device)
    torch.manual_seed(0)
    flops = {spec: specs.count(spec, work.size, work.dense).total for spec in cell.models}
    here = {"threads": torch.get_num_threads(), "load": machine_load()}
    with feeding(work, workers) as feed:
        runners, notes = prepare(cell, feed.make)
        calls = [runner.call for runner in runners.values()] + ([feed.alone] if feed.alone else [])
        turns = take_turns(calls, patience, finisher(work.device), progress=progress(cell))
        peaks = [peak(runner, work) if track_memory and runner.held else {} for runner in runners.values()]
    seconds = dict(zip(runners, turns.seconds, strict=False))  # the last row, if any, is loading alone
    if feed.alone:
        here["loader_images_per_second"] = feed.images / statistics.median(turns.seconds[-1])
    first, rows = next(iter(runners)), []
    for variant, peak_of in zip(runners, peaks, strict=True):
        base = Variant(first.spec, variant.mode)
        base = base if base in seconds else first
        times = table.Times(seconds[variant], seconds[base], seconds[first])
        costs = flops[variant.spec], flops[first.spec], f"{base.spec}, {base.mode}"
        row = table.row(variant, work, feed.images, times, *costs)
        rows.append({**row, **peak_of, "calls": turns.calls, **here})
    return Measured(with_memory_ratio(rows), notes)


def prepare(cell: TimedCell, make: Callable[[nn.Module], Runner]) -> tuple[dict[Variant, Runner], list[str]]:
    """The variants' runners, and why some are not among them; compilation happens here."""
    import torch

    runners, notes = {}, []
    if any(mode.compiled for mode in cell.modes):
        torch._dynamo.reset()  # what was compiled for other cells
    for variant in cell.variants():
        try:
            runner = make(variant.build(cell.work))
            mode = variant.mode
            if mode.compiled or mode.optimized or mode.runtime or cell.work.device != "cpu":
                runner.call()  # does it compile, run, and fit into the device's memory?
            runners[variant] = runner
        except FAILURES as error:
            if not runners or variant.mode == cell.modes[0]:
                raise
            notes.append(f"{variant.spec}, {variant.mode}, {cell}: not measured. {one_line(error)}")
    return runners, notes


@contextmanager
def feeding(work: Workload, workers: int) -> Iterator[Feed]:
    """What models are fed: the same random batch all the time, or files."""
    if work.task == "end to end":
        from analysis.throughput.jpegs import feeding_from_files

        with feeding_from_files(work, workers) as feed:
            yield feed
    else:
        inputs = work.inputs()
        yield Feed(lambda model: make_runner(model, work, inputs), work.batch_size)


def one_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def peak(runner: Runner, work: Workload) -> dict[str, float]:
    """Weights (in training the optimizer's state, too), and with them what a call holds at its worst moment."""
    weights, most = memory.held_bytes(runner.held()), memory.peak_bytes(runner.call, work.device)
    return {"memory_mb": (weights + most) / 2**20, "held_mb": weights / 2**20}


def with_memory_ratio(rows: list[dict]) -> list[dict]:
    base = rows[0].get("memory_mb")
    return [{**row, "memory_ratio": row["memory_mb"] / base} if "memory_mb" in row else row for row in rows]


def progress(cell: TimedCell) -> str | None:
    return str(cell) if sys.stderr.isatty() else None


def machine_load() -> float | None:
    """Processes that wanted to run in the last minute; those of others disturb."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
