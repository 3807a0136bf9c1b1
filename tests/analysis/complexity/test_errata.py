"""The errata: at least the eleven known ones, each with a number that this code computes."""

import math

import pytest
import timm

import stvit  # noqa: F401  registers its models
from analysis.complexity import appendix, errata
from analysis.complexity.errata import deit_parameters, pooling_parameters

ROWS = errata.rows()


def test_at_least_eleven_each_with_two_finite_numbers():
    assert len(ROWS) >= 11
    for row in ROWS:
        assert all(
            isinstance(row[name], str) and row[name] for name in ("place", "printed", "correct", "quantity")
        )
        assert math.isfinite(row["as_printed"]) and math.isfinite(row["as_correct"])
        assert row["difference_percent"] != 0


@pytest.mark.parametrize(
    ("place", "percent"),
    [("Eq. 9", -62.36), ("Eq. 10", -2.31), ("Eq. 11", 287.88), ("Eq. 12", -75.0), ("Eq. 13", -78.03)],
)
def test_errors_of_the_appendix(place, percent):
    row = next(row for row in ROWS if row["place"] == place)
    assert row["difference_percent"] == pytest.approx(percent, abs=0.005)


def test_the_two_layer_stgm_by_hand():
    """Eq. 9 at DeiT-S, M = 16, from integers written out."""
    C, N, M = 384, 196, 16
    first = (2 * M + 2 * N) * C * C + 2 * M * N * C + 8 * M * C * C
    second = (2 * M + 2 * (N + M)) * C * C + 2 * M * (N + M) * C + 8 * M * C * C
    equation = next(e for e in appendix.EQUATIONS if e.number == "9" and e.corrected)
    assert first + second == equation.values()["corrected_flops"] == 172_523_520


def test_parameters_are_those_of_the_models():
    deit = timm.create_model("deit_tiny_patch16_224")
    assert deit_parameters(192) == sum(p.numel() for p in deit.parameters())
    pool = timm.create_model("stvit_deit_tiny_patch16_224", num_semantic_tokens=16).initial
    assert sum(pooling_parameters(192, 16)) == sum(p.numel() for p in pool.parameters())


def test_table_9_and_the_throughput():
    table_9 = next(row for row in ROWS if "Table 9" in row["place"])
    assert round(table_9["as_printed"], 2) == 5.55 and round(table_9["as_correct"], 2) == 5.83
    gain = next(row for row in ROWS if row["place"] == "Table 1, DeiT-B, M = 64")
    assert round(gain["as_correct"]) == 74
