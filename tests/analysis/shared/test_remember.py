"""Counts are remembered until something that they depend on changes."""

from analysis.shared import remember
from analysis.shared.counting import Build, Count, count_build, count_once


def test_asked_once(tmp_path, monkeypatch):
    asked = []
    count = remember.remembered(lambda what: asked.append(what) or [1, {"a": 2}], tmp_path)
    assert count("x") == count("x") == [1, {"a": 2}] and asked == ["x"]
    assert count("y") and asked == ["x", "y"]
    monkeypatch.setattr(remember, "_stamp", lambda: "other sources")
    assert count("x") and asked == ["x", "y", "x"]
    assert all(path.suffix == ".json" for path in tmp_path.iterdir())


def test_a_count_comes_back_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr("analysis.shared.counting.remembered", lambda f: remember.remembered(f, tmp_path))
    build = Build("stvit_deit_tiny_patch16_224", {"num_semantic_tokens": 4})
    first, again = count_once(build), count_once(build)
    assert isinstance(again, Count) and first == again == count_build(build)


def test_a_count_depends_on_the_models_and_the_counter():
    from analysis.dependencies import needed
    from analysis.results import ROOT

    files = {str(path.relative_to(ROOT)) for path in needed(remember.COUNTER, ROOT)}
    assert {"stvit/models/vit.py", "stvit/reduce/bat.py", "analysis/shared/counting.py"} <= files
    assert "analysis/ablations/design.py" not in files
