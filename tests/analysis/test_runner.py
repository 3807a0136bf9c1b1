"""``python -m analysis run``: does what changed, says what it does, fails loudly."""

import sys

import pytest

import analysis.__main__ as runner
from analysis.__main__ import JOBS, Job
from analysis.formats import dump


@pytest.fixture()
def house(tmp_path, monkeypatch):
    """A root with one analysis that counts how often it ran."""
    (tmp_path / "source.csv").write_text("1")
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "HOME", tmp_path)
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
    job = Counting("counting", "counts", ("source.csv",))
    runs = lambda: len((house / "log").read_text())  # noqa: E731
    assert runner.run([job]) == 0 and runs() == 1
    assert runner.run([job]) == 0 and runs() == 1
    assert "counting: unchanged" in capsys.readouterr().out
    (house / "source.csv").write_text("2")
    assert runner.run([job]) == 0 and runs() == 2
    (house / "results" / "counting" / "t.csv").unlink()
    assert runner.run([job]) == 0 and runs() == 3
    assert runner.run([job], force=True) == 0 and runs() == 4


def test_a_failure_is_named_and_the_others_run(house, capsys):
    jobs = [Failing("failing", "fails", ("source.csv",)), Counting("counting", "counts", ("source.csv",))]
    assert runner.run(jobs) == 1
    assert "Failed: failing" in capsys.readouterr().err and (house / "log").exists()


def test_a_change_reruns_the_analyses_that_use_what_changed(house):
    """Imports are followed through other modules, into functions, and no further than they go."""
    files = {
        "analysis/__init__.py": "",
        "analysis/shared/__init__.py": "",
        "analysis/shared/counting.py": "from analysis.shared import remember",
        "analysis/shared/remember.py": "",
        "analysis/shared/verdicts.py": "",
        "analysis/direct.py": "from analysis.shared.remember import remembered",
        "analysis/deep/__init__.py": "",
        "analysis/deep/__main__.py": "from analysis.deep import parts",
        "analysis/deep/parts.py": "def f():\n    import analysis.shared.counting",
        "analysis/alone.py": "import json",
        "stvit/__init__.py": "",
    }
    for name, text in files.items():
        (house / name).parent.mkdir(parents=True, exist_ok=True)
        (house / name).write_text(text)
    jobs = [Job(name, "", ("source.csv",) if name == "alone" else ()) for name in ("direct", "deep", "alone")]

    def stale_after(path: str) -> set[str]:
        before = {job.name: runner.fingerprint(job) for job in jobs}
        (house / path).write_text((house / path).read_text() + "\n# touched")
        return {job.name for job in jobs if runner.fingerprint(job) != before[job.name]}

    assert stale_after("analysis/shared/remember.py") == {"direct", "deep"}
    assert stale_after("analysis/shared/counting.py") == {"deep"}
    assert stale_after("analysis/shared/verdicts.py") == set()
    assert stale_after("analysis/shared/__init__.py") == {"direct", "deep"}
    assert stale_after("source.csv") == {"alone"}


def test_known_users_of_shared_modules():
    users = {}
    for job in JOBS:
        for path in runner.dependencies(job):
            users.setdefault(path.relative_to(runner.ROOT).as_posix(), set()).add(job.name)
    assert users["analysis/shared/cells.py"] == {"ablations", "dense", "real_labels", "video"}
    assert users["analysis/shared/token_maps.py"] == {"overview", "token_maps", "video"}
    assert {"dense", "video", "throughput", "overhead"} <= users["analysis/shared/counting.py"]
    assert "cluster_sim" not in users["stvit/layers/attention.py"]


def test_cells_in_one_file_of_lines_are_inputs():
    (job,) = (job for job in JOBS if job.name == "distilled")
    assert runner.HOME / "results/distilled/cells/folded.jsonl" in runner.dependencies(job)


def test_every_job_is_a_module_with_existing_inputs():
    for job in JOBS:
        module = runner.ROOT / "analysis" / job.name
        assert module.with_suffix(".py").exists() or (module / "__main__.py").exists(), job.name
        assert all((runner.ROOT / source).exists() for source in job.inputs), job.name


def test_listing_and_unknown_names(capsys):
    assert runner.main([]) == 0
    listed = capsys.readouterr().out
    assert all(f"python -m analysis.{job.name} " in listed for job in JOBS)
    with pytest.raises(SystemExit):
        runner.main(["run", "complexty"])
    assert "unknown analysis 'complexty'; choose from" in capsys.readouterr().err


def test_records_hold_no_nan(tmp_path):
    with pytest.raises(ValueError):
        dump({"x": float("nan")}, tmp_path / "x.json")
