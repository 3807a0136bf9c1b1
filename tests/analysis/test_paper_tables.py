"""The printed comparison tables: complete, consistent in themselves, contradictions flagged."""

import pandas as pd
import pytest

from analysis.results import PAPER

ROWS = {
    "stvit_table4": 16,
    "stvit_table10": 4,
    "stvit_table11": 4,
    "bat_table1": 23,
    "bat_table2": 22,
    "bat_table3": 9,
    "bat_table4": 8,
    "bat_fig6": 18,
}


@pytest.mark.parametrize("name", ROWS)
def test_transcribed_whole(name):
    frame = pd.read_csv(PAPER / f"{name}.csv")
    assert len(frame) == ROWS[name] and frame.columns[0] == "paper" and frame.columns[-1] == "contradiction"
    if "row" in frame:
        assert frame.row.tolist() == list(range(1, len(frame) + 1))
    assert frame.top1.between(60, 90).all()


def test_reductions_of_bats_first_table_follow_from_its_flops():
    frame = pd.read_csv(PAPER / "bat_table1.csv")
    base = frame.groupby("backbone").gflops.transform("first")
    assert (100 * (1 - frame.gflops / base) - frame.gflops_reduction_pct).abs().max() < 0.06


def test_methods_that_the_two_papers_print_differently_are_flagged():
    ours, theirs = pd.read_csv(PAPER / "stvit_table4.csv"), pd.read_csv(PAPER / "bat_table1.csv")
    both = ours.merge(theirs, on=["backbone", "method"], suffixes=("", "_bat"))
    differ = both[(both.gflops != both.gflops_bat) | (both.top1 != both.top1_bat)]
    assert set(differ.method) >= {"PS-ViT", "Evo-ViT", "DynamicViT", "IA-RED2"}
    same_setting = differ[
        (differ.backbone == "DeiT-B") & (differ.method != "EViT")
    ]  # EViT: another keep rate
    assert same_setting.contradiction.notna().all() and same_setting.contradiction_bat.notna().all()
