"""The run loop: results in order from every backend, and what is finished is not run again."""

import sys

import pytest

from analysis.shared.loop import BACKENDS, finish


def square(number: int) -> int:
    return number**2


def nothing(number: int) -> None:
    return None


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "dask"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_results_are_in_order(backend, jobs):
    assert finish(range(9), nothing, square, jobs, backend) == [n**2 for n in range(9)]


@pytest.mark.filterwarnings("ignore")  # dask's own, about ports
def test_a_dask_client_that_exists_is_used():
    distributed = pytest.importorskip("distributed")

    def where(number: int) -> tuple[int, bool]:
        return number, distributed.get_worker().name in (0, 1)

    with distributed.Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None):
        assert finish(range(6), nothing, where, 2, "dask") == [(number, True) for number in range(6)]


def test_what_is_finished_is_read():
    asked, seen = [], []
    results = finish(
        range(5),
        {0: "zero", 3: "three"}.get,
        lambda n: asked.append(n) or -n,
        after=lambda *pair: seen.append(pair),
    )
    assert results == ["zero", -1, -2, "three", -4]
    assert asked == [1, 2, 4] and seen == [(1, -1), (2, -2), (4, -4)]


def test_a_cell_that_is_left_for_later_has_no_result():
    seen = []
    assert finish(
        [1, 2], nothing, lambda n: None if n == 1 else n, after=lambda *pair: seen.append(pair)
    ) == [None, 2]
    assert seen == [(2, 2)]


def test_an_interrupted_run_continues_where_it_was():
    kept = {}

    def work(number: int) -> int:
        if len(kept) == 2:
            raise KeyboardInterrupt
        return kept.setdefault(number, number)

    with pytest.raises(KeyboardInterrupt):
        finish(range(4), kept.get, work)
    assert list(kept) == [0, 1]
    assert finish(range(4), kept.get, lambda number: kept.setdefault(number, -number)) == [0, 1, -2, -3]


def test_unknown_backends_are_named():
    with pytest.raises(
        ValueError, match="unknown backend 'slurm'; choose from threading, loky, sequential, dask"
    ):
        finish([1], nothing, square, backend="slurm")


def test_dask_is_asked_for_by_name_when_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match="backend 'dask' needs the package distributed"):
        finish([1], nothing, square, backend="dask")
