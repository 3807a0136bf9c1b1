"""Pages that the code writes: every method has one, every item of the papers a line, and links lead somewhere."""

import importlib.util
import re
from pathlib import Path

import pytest

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
    assert errata.count("\n|") > 30


def test_notebooks_stand_beside_the_pages(written):
    names = {path.name for path in (DOCS.parent / "notebooks").glob("*.ipynb")}
    assert {path.name for path in (written / "notebooks").iterdir()} == names


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_included_parts_exist(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    for source, options in re.findall(r"```\{include\} (\S+)\n(.*?)```", text, re.S):
        included = (DOCS / source).read_text(encoding="utf-8")
        for mark in re.findall(r':(?:start-after|end-before): "(.*?)"', options):
            assert included.count(mark) == 1, mark
