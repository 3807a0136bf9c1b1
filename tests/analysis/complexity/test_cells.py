"""The printed cells and their readings."""

from decimal import ROUND_DOWN, Decimal

import pytest

from analysis import complexity
from analysis.complexity.table import FIELDS, rows
from analysis.shared.flops.readings import PRINTED_CELLS, cells, readings, rounded

ROWS = rows()
IDS = [f"{row['paper']} {row['table']} {row['model']} {row['setting']}" for row in ROWS]


def test_cells_are_unique_and_every_reading_belongs_to_one():
    keys = [cell[:4] for cell in cells()]
    assert len(keys) == len(set(keys)) == len(ROWS)
    assert set(readings()) <= set(keys)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_a_cell_comes_out_exactly_where_its_reading_says_so(row):
    reading = readings().get((row["paper"], row["table"], row["model"], row["setting"]))
    if reading is None:
        assert row["closed_form"] is None and row["verdict"] == "not modelled"
        return
    assert row["closed_form_flops"] + (row["closed_form_reduction_flops"] or 0) == reading.cost().total
    digits = Decimal(rounded(row["closed_form_flops"], row["printed_text"], reading.rounding))
    assert (digits == Decimal(row["printed_text"])) == reading.reproduced
    assert row["verdict"].startswith("reproduced") == reading.reproduced


@pytest.mark.parametrize(("table", "count"), [("1", 15), ("8", 3), ("13", 6)])
def test_every_deit_cell_of_the_stvit_paper_agrees(table, count):
    mine = [row for row in ROWS if (row["paper"], row["table"]) == ("STViT", table)]
    assert len(mine) == count
    assert all(row["verdict"].startswith("reproduced") for row in mine)


def test_all_the_tables_are_there():
    tables = {(row["paper"], row["table"]) for row in ROWS}
    assert {("STViT", number) for number in ["1", "2", "3", "5", "6", "8", "10", "11", "12", "13"]} <= tables
    assert {("BAT", "1"), ("BAT", "3")} <= tables
    assert len(ROWS) == 103 and PRINTED_CELLS.exists()


def test_what_is_not_reproduced_is_known():
    missed = {(row["model"], row["setting"]) for row in ROWS if row["verdict"] == "not reproduced"}
    dynamic = {(f"DynamicViT-DeiT-{size}", "k=0.7") for size in "TB"}
    assert missed == {("STViT-Swin-B", "M=9, STGM moved"), ("STViT-LV-ViT-S", "M=100"), *dynamic}


def test_table_13_needs_its_own_rounding():
    """No reading with the pooling of Eqs. 4-5 gives 2.25, by rounding or by cutting off."""
    reading = readings()["STViT", "13", "STViT-DeiT-S", "STGM at 5-7"]
    learned = reading._replace(numbers={**reading.numbers, "pooling": "intra_inter"}).cost().total
    assert rounded(learned, "2.25") == rounded(learned, "2.25", ROUND_DOWN) == "2.26"
    without_s = {**reading.numbers, "pooling": "max", "later_keys_semantic": False}
    assert rounded(reading._replace(numbers=without_s).cost().total, "2.25") == "2.25"


def test_the_frame_keeps_whole_numbers_whole():
    frame = complexity.compute()
    assert list(frame.columns) == list(FIELDS) and len(frame) == len(ROWS)
    assert all(isinstance(value, int) for value in frame["closed_form_flops"] if value is not None)
    assert frame["counted"].isna().all() and frame["reason"].notna().all()


def test_unknown_tables_are_refused():
    with pytest.raises(ValueError, match="choose one of cells, formulas, errata"):
        complexity.compute("cell")
