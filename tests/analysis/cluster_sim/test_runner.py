"""Grids: the same rows from every backend, finished cells kept and not run again."""

import dataclasses
import json

import pytest

from analysis.cluster_sim import measure as measuring
from analysis.cluster_sim import runner
from analysis.cluster_sim.__main__ import main
from analysis.cluster_sim.experiments import grid
from analysis.cluster_sim.options import Options, SimulatedCell, Store

CELLS = [SimulatedCell(K=4, d=16, n=n, sigma=s, trials=20) for n in (16, 32, 64) for s in (0.5, 1.0)]


@pytest.fixture(scope="module")
def rows():
    return runner.run_cells(measuring.measure, CELLS, Options(backend="sequential", jobs=1))


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_backends_give_the_same_rows(rows, backend):
    assert runner.run_cells(measuring.measure, CELLS, Options(backend=backend, jobs=2)) == rows


def test_rows_are_plain_and_finite(rows):
    for row in rows:
        assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_cells_have_keys_of_their_configuration():
    base = SimulatedCell()
    keys = {base.key} | {
        dataclasses.replace(base, **{f.name: value}).key
        for f, value in zip(
            dataclasses.fields(base), (17, 257, 1025, 0.7, 1.1, 0.1, "generic", 3.0, 101, 1), strict=True
        )
    }
    assert len(keys) == 1 + len(dataclasses.fields(base)) and SimulatedCell().key == base.key


def test_a_run_that_was_cut_off_goes_on_where_it_was(tmp_path, rows):
    options, calls = Options(backend="sequential", jobs=1, store=tmp_path), []

    def counted(cell):
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(cell)
        return measuring.measure(cell)

    with pytest.raises(KeyboardInterrupt):
        runner.run_cells(counted, CELLS, options)
    kept = {path.stem for path in tmp_path.glob("*.json")}
    assert len(kept) >= 3  # what had finished is on disk, whole
    calls.clear()
    again = runner.run_cells(lambda cell: calls.append(cell) or measuring.measure(cell), CELLS, options)
    assert again == rows
    assert {cell.key for cell in calls} == {cell.key for cell in CELLS} - kept
    assert not list(tmp_path.glob("*.part"))


def test_store_leaves_no_half_written_file(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(ValueError):  # NaN is refused before the file gets its name
        store.write(CELLS[0], {"measured": float("nan")})
    assert store.read(CELLS[0]) is None


def test_full_resumes_through_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(grid, "cells", lambda options: CELLS)
    calls = []
    monkeypatch.setattr(grid, "measure", lambda cell: calls.append(cell) or measuring.measure(cell))
    words = ["--full", "--out", str(tmp_path), "--no-progress", "--json"]
    assert main(words) == 0 and len(calls) == len(CELLS)
    first = json.loads(capsys.readouterr().out)
    assert main(words) == 0 and len(calls) == len(CELLS)  # nothing ran again
    assert json.loads(capsys.readouterr().out) == first
    assert len(list((tmp_path / "cells").glob("*.json"))) == len(CELLS)


def test_unknown_backend_is_one_line():
    with pytest.raises(ValueError, match="unknown backend 'slurm'; choose from threading"):
        runner.run_cells(measuring.measure, CELLS[:1], Options(backend="slurm"))


@pytest.mark.parametrize(
    "change, condition", [({"n": 0}, "n must be positive"), ({"trials": 1}, "at least 2")]
)
def test_bad_cells_are_refused(change, condition):
    with pytest.raises(ValueError, match=condition):
        measuring.measure(dataclasses.replace(CELLS[0], **change))
