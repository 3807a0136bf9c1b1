"""Trained cells: each is run by one process at a time, and those that are finished or late are not begun."""

import json
from dataclasses import dataclass

import pytest

from analysis.shared import cells


@dataclass(frozen=True)
class Numbered(cells.TrainedCell):
    seed: int

    def content(self) -> dict:
        return {"seed": self.seed}


@pytest.fixture
def run(tmp_path):
    """``run_missing`` with a training that only writes a record; the cells that ran are ``run.ran``."""
    ran = []

    def run_cell(cell, folder, scratch):
        ran.append(cell.seed)
        folder.mkdir(exist_ok=True)
        record = {"address": cell.address, "seed": cell.seed}
        (folder / f"{cell.address}.json").write_text(json.dumps(record))
        return record

    def call(seeds, **options):
        folders = tmp_path / "cells", tmp_path / "scratch"
        return cells.run_missing(
            map(Numbered, seeds), run_cell, lambda cell, record: "done", *folders, **options
        )

    call.ran, call.scratch = ran, tmp_path / "scratch"
    return call


def test_finished_cells_are_not_run_again(run, capsys):
    assert run(range(2)) == 2 and run(range(3)) == 1 and run.ran == [0, 1, 2]
    out = capsys.readouterr().out
    assert "2 of 3 cells are finished, 1 to run" in out and f"[1/1] {Numbered(2).address} done" in out


def test_parallel_jobs_run_each_cell_once(run):
    assert run(range(6), jobs=3, backend="threading") == 6 and sorted(run.ran) == list(range(6))


def test_no_cell_begins_after_the_time_is_up(run):
    assert run(range(3), minutes=1e-9) == 0 and run.ran == []


def test_a_cell_of_another_process_is_left_to_it(run):
    run.scratch.mkdir()
    lock = run.scratch / f"{Numbered(0).address}.lock"
    assert cells.claim(lock) and not cells.claim(lock)
    assert run(range(2)) == 1 and run.ran == [1]
    lock.write_text("999999999")  # a process that is no more
    assert run(range(2)) == 1 and run.ran == [1, 0] and not lock.exists()


@pytest.mark.parametrize("count, left", [(0, 0), (1, 1), (20, 20), (21, 11), (55, 19), (400, 20)])
def test_a_curve_keeps_its_last_step_and_few_others(count, left):
    kept = cells.thinned(list(range(count)))
    assert len(kept) == left and kept == sorted(kept) and kept[-1:] == list(range(count))[-1:]
