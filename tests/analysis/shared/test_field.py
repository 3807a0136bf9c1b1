"""The table of the field says what the classes do, and the README shows it as it is."""

import re

import pytest

from analysis.field import main
from analysis.formats import render
from analysis.results import ROOT
from analysis.shared import field
from stvit.reduce import METHODS


@pytest.fixture(scope="module")
def table():
    return field.table()


def squeezed(line: str) -> str:
    return re.sub(r"-{3,}", "---", re.sub(r" +", " ", line))


def test_the_readme_shows_the_table(table):
    lines = [squeezed(line) for line in render(table, "markdown").splitlines()]
    assert "\n".join(lines) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_method_states_its_facts(table):
    assert list(table.method) == [f"`{name}`" for name in METHODS] and not table.isna().any(axis=None)
    assert set(METHODS) - {"random"} <= set(field.LABELS), "a name for figures"


def test_where_a_method_acts_is_what_its_model_does(table):
    rows = table.set_index("method")
    assert rows.acts["`evit`"] == "between attention and MLP; 4, 7, 10"
    assert rows.acts["`evovit`"] == "in the layer; 4-12" and rows.acts["`tokenlearner`"].endswith("layer; 10")
    assert rows["own weights"]["`dynamicvit`"] == "yes" and rows["own weights"]["`bat`"] == "no"


def test_spans():
    assert field.spans([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"


def test_the_command_prints_what_it_is_asked_for(capsys):
    assert main(["--csv"]) == 0
    assert capsys.readouterr().out.count("CVPR 2023") == 1
