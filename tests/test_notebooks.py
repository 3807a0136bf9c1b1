"""Notebooks run from top to bottom in a fresh kernel, and are committed as they ran."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

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
