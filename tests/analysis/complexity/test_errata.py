"""The errata: each of a kind, with a reason and two numbers of this code, of which the first must be the paper's."""

import math

import pytest
import timm
import torch

import stvit  # noqa: F401  registers its models
from analysis.complexity import appendix, errata
from analysis.complexity.errata_tables import GAINS, deit_parameters, pooling_parameters
from analysis.complexity.erratum import KINDS
from analysis.shared.flops.closed_local import SWIN
from analysis.shared.flops.closed_semantic import without_units

ROWS = errata.rows()


def row_of(place: str) -> dict:
    return next(row for row in ROWS if row["place"].startswith(place))


def test_each_has_a_kind_a_reason_and_two_finite_numbers():
    assert {row["kind"] for row in ROWS} == set(KINDS)
    for row in ROWS:
        assert all(row[name] for name in ("place", "printed", "against", "quantity")) and len(row["why"]) > 30
        assert math.isfinite(row["as_printed"]) and math.isfinite(row["as_against"])
        assert row["as_printed"] != row["as_against"]


def test_no_convention_and_no_other_edition_is_called_an_error():
    """Rounding, counters, tables of another edition, layers counted from 0."""
    for place in ("Table 12 and the poster", "Table 1, base", "Table 13", "Table 2, base", "Section 5.1"):
        assert row_of(place)["kind"] == "convention"


def test_where_nothing_says_which_paper_is_wrong_no_number_is_called_correct():
    rows = [row for row in ROWS if "STViT's Table 4" in row["against"]]
    assert len(rows) == 3 and {row["kind"] for row in rows} == {"inconsistency"}
    assert "correct" not in ROWS[0]


@pytest.mark.parametrize(
    ("place", "percent"),
    [("Eq. 9", -62.36), ("Eq. 10", -2.31), ("Eq. 11", 287.88), ("Eq. 12", -75.0), ("Eq. 13", -78.03)],
)
def test_errors_of_the_appendix(place, percent):
    assert row_of(place)["difference_percent"] == pytest.approx(percent, abs=0.005)


def test_eq_9_is_at_odds_with_eq_10_which_has_two_layers_of_it():
    """52NC² = 4 layers of 12 and two of 2; 4MNC twice the 2MNC of Eq. 9."""
    N, M, C = 1, 1, 1
    eq_9 = next(e for e in appendix.EQUATIONS if e.number == "9" and e.corrected)
    assert 4 * 12 + 2 * 2 == 52 and eq_9.as_printed(N=N, M=M, C=C) == 2 + 2 + 2
    assert row_of("Eq. 9")["kind"] == "inconsistency"


def test_the_two_layer_stgm_by_hand():
    """Eq. 9 at DeiT-S, M = 16, from integers written out."""
    C, N, M = 384, 196, 16
    first = (2 * M + 2 * N) * C * C + 2 * M * N * C + 8 * M * C * C
    second = (2 * M + 2 * (N + M)) * C * C + 2 * M * (N + M) * C + 8 * M * C * C
    equation = next(e for e in appendix.EQUATIONS if e.number == "9" and e.corrected)
    assert first + second == equation.values()["corrected_flops"] == 172_523_520


def test_the_sum_of_eq_3_has_no_shape():
    row = row_of("Eqs. 2-3")
    with pytest.raises(RuntimeError):
        torch.zeros(16, 384) + torch.zeros(196, 384)
    assert row["printed"] == "S¹ + X in Eq. 3" and row["kind"] == "inconsistency"  # Ŝ² is printed: no erratum


def test_deit_has_no_sigmoid_behind_its_ffn():
    deit = timm.create_model("deit_tiny_patch16_224")
    assert not any(isinstance(m, torch.nn.Sigmoid) for m in deit.modules())
    branch = deit.blocks[0].mlp
    with torch.no_grad():
        assert (branch(torch.randn(4, 192)) < 0).any()  # which no Sigmoid would return
    assert row_of("Eq. 3")["as_printed"] == 12 * torch.sigmoid(torch.zeros(())).item()


def test_parameters_are_those_of_the_models():
    deit = timm.create_model("deit_tiny_patch16_224")
    assert deit_parameters(192) == sum(p.numel() for p in deit.parameters())
    pool = timm.create_model("stvit_deit_tiny_patch16_224", num_semantic_tokens=16).initial
    assert sum(pooling_parameters(192, 16)) == sum(p.numel() for p in pool.parameters())
    assert row_of("Section 3.1")["kind"] == "doubt"


def test_table_9_may_be_right():
    """With two recovery layers the FLOPs are those of STViT-R within 1 %; a dense layer is as good as a shift."""
    row = row_of("Section 4.4")
    assert (
        row["kind"] == "doubt" and round(row["as_printed"], 2) == 5.55 and round(row["as_against"], 2) == 5.83
    )
    two = without_units(*SWIN["small"], base=5, recoveries=2).total / 1e9
    assert two / row["as_against"] - 1 == pytest.approx(-0.0053, abs=2e-4)
    dense, later = without_units(*SWIN["small"], base=5, dense=1), without_units(*SWIN["small"], base=6)
    assert round(dense.total / 1e9, 3) == round(later.total / 1e9, 3) == 5.844


def test_throughput_gains_do_not_follow_from_their_numbers():
    assert round(row_of("Table 1, DeiT-B, M = 64")["as_against"]) == 74
    wrong = [
        fast
        for base, column in GAINS.items()
        for fast, gain in column.items()
        if abs(100 * (fast / base - 1) - gain) > 0.6
    ]
    assert len(wrong) == 5 and {5511, 4769} <= set(wrong)
