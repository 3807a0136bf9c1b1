"""Pages that the code writes: every method has one, every item of the papers a line, and links lead somewhere."""

import importlib.util
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from analysis import complexity
from analysis.shared.families import FAMILIES
from stvit.reduce import METHODS

DOCS = Path(__file__).resolve().parents[2] / "docs"
SPEC = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
generate = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(generate)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    generate.write(folder)
    return folder


def test_a_page_for_every_method(written):
    pages = {path.stem for path in (written / "generated" / "methods").glob("*.md")}
    assert pages == {name for name, kind in METHODS.items() if kind.about is not None}
    text = (written / "generated" / "methods" / "bat.md").read_text(encoding="utf-8")
    assert (
        "# BAT" in text and 'stvit.sparsify(model, method="bat", keep_rate=' in text and "| licence" in text
    )


def test_arguments_of_a_docstring_become_a_list():
    lines = [
        "What it does.",
        "",
        "a, b: two",
        "    of them",
        "c: one",
        "",
        "Raises something: not an argument.",
    ]
    expected = ["What it does.", "", "- ``a, b``: two of them", "- ``c``: one", "", lines[-1]]
    assert generate.arguments_as_list(lines) == expected


def test_every_family_has_its_row(written):
    text = (written / "generated" / "families.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(FAMILIES) and sum(f" all {len(METHODS)} " in row for row in rows) >= 16
    assert next(row for row in rows if row.startswith("| SAM ")).count("none") == 1


def test_every_item_of_the_papers(written):
    text = (written / "generated" / "papers.md").read_text(encoding="utf-8")
    assert text.count("\n| Table") == 19 and text.count("\n| Equation") == 21 and "Theorem 1" in text
    errata = (written / "generated" / "errata.md").read_text(encoding="utf-8")
    numbered = len(complexity.compute("errata")) + len(
        pd.read_csv(generate.RESULTS / "cluster_sim" / "errata.csv")
    )
    assert errata.count("\n- Printed: ") == errata.count("\n- Why: ") == numbered > 30


def test_a_place_leads_to_its_file_where_the_address_is_known(monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    monkeypatch.setattr("analysis.notebooks.repository", lambda: "")
    assert generate.place("a/b.py") == '<code class="docutils literal">a/<wbr>b.py</code>'
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/stvit")
    assert 'href="https://github.com/someone/stvit/blob/main/a/b.py"' in generate.place("a/b.py")


def test_no_character_of_an_erratum_is_markdown():
    assert generate.plain("a_b * c|d\n $x$ <e>") == r"a\_b \* c\|d \$x\$ \<e\>"


def test_notebooks_stand_beside_the_pages(written):
    names = {path.name for path in (DOCS.parent / "notebooks").glob("*.ipynb")}
    assert {path.name for path in (written / "notebooks").iterdir()} == names


def test_badges_stand_where_the_address_is_known(monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    source = DOCS.parent / "notebooks" / "00_quickstart.ipynb"
    assert generate.with_badges(source, "") == source.read_text(encoding="utf-8")
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/stvit")
    notebook = json.loads(generate.with_badges(source, generate.address()))
    title, _, badges, *rest = notebook["cells"][0]["source"]
    assert title.startswith("# Quickstart") and rest
    assert (
        "(https://colab.research.google.com/github/someone/stvit/blob/main/notebooks/00_quickstart.ipynb)"
        in badges
    )
    assert "(https://mybinder.org/v2/gh/someone/stvit/main?labpath=notebooks%2F00_quickstart.ipynb)" in badges
    assert notebook["cells"][1:] == json.loads(source.read_text(encoding="utf-8"))["cells"][1:]


def test_the_address_of_pyproject_counts_where_github_says_none(monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    monkeypatch.setattr("analysis.notebooks.repository", lambda: "of/pyproject")
    assert generate.address() == "of/pyproject"
    monkeypatch.setenv("GITHUB_REPOSITORY", "of/github")
    assert generate.address() == "of/github"


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_included_parts_exist(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    for source, options in re.findall(r"```\{include\} (\S+)\n(.*?)```", text, re.S):
        included = (DOCS / source).read_text(encoding="utf-8")
        for mark in re.findall(r':(?:start-after|end-before): "(.*?)"', options):
            assert included.count(mark) == 1, mark
