"""``python -m analysis run``: does what changed, says what it does, fails loudly."""

import sys

import pytest

import analysis.__main__ as runner
from analysis.__main__ import JOBS, Job
from analysis.formats import dump


@pytest.fixture()
def house(tmp_path, monkeypatch):
    """A root with one analysis that counts how often it ran."""
    (tmp_path / "source.py").write_text("1")
    for name in runner.FLOOR:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("floor")
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(runner, "STATE", tmp_path / ".cache" / "reproduce.json")
    monkeypatch.setattr("analysis.page.write", lambda: tmp_path / "results" / "index.html")
    return tmp_path


class Counting(Job):
    @property
    def command(self):
        code = """if True:
            import json, pathlib
            folder, log = pathlib.Path("results", "counting"), pathlib.Path("log")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "t.csv").write_text("a")
            (folder / "record.json").write_text(json.dumps({"blocks": [{"files": {"t.csv": ""}}]}))
            log.write_text(log.read_text() + "x" if log.exists() else "x")
        """
        return [sys.executable, "-c", code]


class Failing(Job):
    @property
    def command(self):
        return [sys.executable, "-c", "raise SystemExit('no')"]


def test_a_second_run_only_redoes_what_changed(house, capsys):
    job = Counting("counting", "counts", ("source.py",))
    runs = lambda: len((house / "log").read_text())  # noqa: E731
    assert runner.run([job]) == 0 and runs() == 1
    assert runner.run([job]) == 0 and runs() == 1
    assert "counting: unchanged" in capsys.readouterr().out
    (house / "source.py").write_text("2")
    assert runner.run([job]) == 0 and runs() == 2
    (house / "results" / "counting" / "t.csv").unlink()
    assert runner.run([job]) == 0 and runs() == 3
    assert runner.run([job], force=True) == 0 and runs() == 4


def test_a_failure_is_named_and_the_others_run(house, capsys):
    jobs = [Failing("failing", "fails", ("source.py",)), Counting("counting", "counts", ("source.py",))]
    assert runner.run(jobs) == 1
    assert "Failed: failing" in capsys.readouterr().err and (house / "log").exists()


def test_every_job_is_a_module_with_existing_sources():
    for job in JOBS:
        module = runner.ROOT / "analysis" / job.name
        assert module.with_suffix(".py").exists() or (module / "__main__.py").exists(), job.name
        assert all((runner.ROOT / source).exists() for source in job.sources), job.name


def test_listing_and_unknown_names(capsys):
    assert runner.main([]) == 0
    assert all(f"python -m analysis.{job.name}" in capsys.readouterr().out for job in JOBS[:1])
    with pytest.raises(SystemExit):
        runner.main(["run", "complexty"])
    assert "unknown analysis 'complexty'; choose from" in capsys.readouterr().err


def test_records_hold_no_nan(tmp_path):
    with pytest.raises(ValueError):
        dump({"x": float("nan")}, tmp_path / "x.json")
