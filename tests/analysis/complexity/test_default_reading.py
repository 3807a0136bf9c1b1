"""What is fitted and what is not: one reading for all cells, counted."""

import pytest

from analysis.complexity import compute, default_reading, figures
from analysis.shared.flops.readings import readings

LINES = {row["reading"]: row for row in default_reading.rows()}


def test_fitting_is_what_brings_most_of_the_cells():
    fitted, one, quoted, once = LINES.values()
    assert (fitted["come_out"], fitted["cells"]) == (86, 91)
    assert one["come_out"] == 73 and quoted["come_out"] == 75 and once["come_out"] == 62


def test_cells_that_needed_a_choice_are_named():
    assert "STViT 13, STViT-DeiT-S STGM at 7-9" in LINES["one reading, one counter"]["not"]
    assert "STViT 1, STViT-DeiT-B M=16" in LINES["one reading, one counter"]["not"]


def test_the_rule_chooses_nothing_by_table():
    """Readings of one family differ, alike, in what the cells themselves say: sizes, tokens, layers, keep rates."""
    alike = [default_reading.alike(reading) for reading in readings().values()]
    for family in {reading.family for reading in alike}:
        mine = [r.numbers for r in alike if r.family == family]
        for choice in ("class_token", "pooling", "bn_training"):
            assert len({numbers.get(choice) for numbers in mine}) == 1
    assert {reading.rounding for reading in alike} == {"ROUND_HALF_EVEN"}


@pytest.mark.parametrize("source", ["rows", "frame"])
def test_the_figure_counts_cells_with_a_closed_form(source):
    """From a frame, whose missing closed forms are NaN and not None, as in the notebook."""
    from analysis.complexity.table import rows

    found = rows() if source == "rows" else compute("cells").to_dict("records")
    left = figures.residuals(found).axes[0]
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["STViT, 61 cells", "BAT, 30 cells"]


@pytest.mark.parametrize(("keys", "come_out"), [((True, True), 11), ((False, True), 1), ((False, False), 0)])
def test_table_2_decides_which_keys_the_first_layer_had(keys, come_out, monkeypatch):
    """Concat(P, X), against Eq. 1's X alone: why ``stgm_keys`` is "concat" by default."""
    from functools import partial

    from analysis.shared.flops import closed_semantic
    from analysis.shared.flops.readings import cells, rounded

    monkeypatch.setattr(closed_semantic, "stgm", partial(closed_semantic.stgm, concat=keys))
    table = [c for c in cells() if (c.paper, c.table) == ("STViT", "2") and c.setting != "base"]
    found = [rounded(readings()[cell[:4]].flops()[0], cell.printed) == cell.printed for cell in table]
    assert len(found) == 12 and sum(found) == come_out
