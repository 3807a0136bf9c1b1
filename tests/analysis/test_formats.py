"""Tables in five formats, with no digit lost where it matters."""

import io
import json

import pandas as pd
import pytest

from analysis.formats import FORMATS, render

FRAME = pd.DataFrame({"name": ["a_b", "c"], "x": [1 / 3, 123456.7], "n": [1234567, 2], "none": [None, 1.5]})


def test_json_and_csv_keep_every_digit():
    rows = json.loads(render(FRAME, "json"))
    assert rows[0]["x"] == pytest.approx(1 / 3, abs=1e-15) and rows[0]["none"] is None
    back = pd.read_csv(io.StringIO(render(FRAME, "csv")))
    assert back.x.tolist() == FRAME.x.tolist()


def test_text_markdown_and_latex_are_for_eyes():
    for fmt in ("text", "markdown", "latex"):
        text = render(FRAME, fmt)
        assert "0.3333" in text and "123,457" in text and "1,234,567" in text and "nan" not in text.lower()
    assert render(FRAME, "markdown").splitlines()[1].startswith("|--")
    assert r"a\_b" in render(FRAME, "latex") and r"\begin{tabular}" in render(FRAME, "latex")


def test_unknown_format_names_the_choices():
    with pytest.raises(
        ValueError, match="unknown table format 'xml'; choose one of text, csv, json, markdown, latex"
    ):
        render(FRAME, "xml")
    assert len(FORMATS) == 5
