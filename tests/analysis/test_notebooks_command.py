"""Notebooks are run in place and kept without what changes from run to run."""

import base64
import io

import nbformat
import numpy as np
import pytest
from PIL import Image

from analysis import notebooks


def test_a_notebook_is_run_and_kept(tmp_path):
    cell = nbformat.v4.new_code_cell("print(6 * 7)")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# One"), cell])
    path = tmp_path / "one.ipynb"
    nbformat.write(notebook, path)
    notebooks.run(path)
    found = nbformat.read(path, as_version=4)
    assert found.cells[1].outputs[0].text == "42\n" and found.cells[1].execution_count == 1
    assert "execution" not in found.cells[1].metadata
    before = path.read_bytes()
    notebooks.run(path)
    assert path.read_bytes() == before


def test_pictures_are_made_smaller():
    ramp = np.linspace(0, 255, 300 * 300 * 3).reshape(300, 300, 3).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(ramp).save(file, "png", dpi=(100, 100))
    output = {"data": {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": "<Figure>"}}
    notebooks.shrink(output)
    small = Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"])))
    assert small.mode == "P" and small.size == (300, 300)


def test_an_unknown_name(capsys):
    with pytest.raises(SystemExit):
        notebooks.main(["99_nothing"])
    assert "no notebook '99_nothing'; choose from 00_quickstart" in capsys.readouterr().err
