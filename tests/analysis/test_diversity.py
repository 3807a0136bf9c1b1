"""The diversity score: Eq. 4 itself, and the analysis around it on micro models."""

import json

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import diversity
from analysis.shared import real_table

MICRO = dict(img_size=64, patch_size=8, embed_dim=48, depth=12, num_heads=3, num_classes=7)


def tokens(seed: int, count: int = 9, dim: int = 5) -> torch.Tensor:
    return torch.randn(2, count, dim, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_median_is_the_best_center(seed, count):
    z = tokens(seed, count)
    best = (diversity.score(z) * z.abs().sum((1, 2)))[0]
    others = [z[0, i] for i in range(count)] + [z[0].mean(0), torch.zeros(5)]
    assert all(best <= (z[0] - other).abs().sum() + 1e-5 for other in others)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_properties(seed, factor):
    z = tokens(seed)
    r = diversity.score(z)
    assert ((r >= 0) & (r <= 1)).all(), "z = 0 is a choice, so that the minimum is at most ‖Z‖"
    torch.testing.assert_close(diversity.score(z * factor), r)
    torch.testing.assert_close(diversity.score(z[:, torch.randperm(9)]), r)
    torch.testing.assert_close(diversity.score(torch.cat([z, z], 1)), r)
    assert diversity.score(z[:, :1].expand(-1, 6, -1)).max() < 1e-6


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return diversity.compute(rates=(0.7, 0.3), seeds=2, base="deit_tiny_patch16_224", **MICRO)


def test_every_method_has_its_rows(frame):
    assert list(frame.method.unique()) == list(diversity.METHODS) and len(frame) == 2 * len(diversity.METHODS)
    many = frame[frame.tokens > 1]
    assert (
        many.score.between(0, 1).all()
        and many.sd.notna().all()
        and frame[frame.tokens < 2].score.isna().all()
    )
    bat = frame[frame.method == "bat"]
    assert bat.tokens.tolist() == [25, 4] and bat.printed_top1.tolist() == [79.6, 77.8]
    assert frame[frame.method == "tome"].printed_top1.isna().all()


def test_merging_keeps_more_than_pruning(frame):
    """The paper's claim as far as operations alone carry it: BAT's tokens are more diverse than EViT's."""
    score = frame.set_index(["method", "keep_rate"]).score
    assert score["bat", 0.7] > score["evit", 0.7]


def test_the_score_is_that_of_the_tokens_behind_the_last_reduction():
    import timm

    import stvit

    dense = timm.create_model("deit_tiny_patch16_224", **MICRO).eval()
    model = stvit.sparsify(dense, method="topk", keep_rate=0.5)
    images = diversity.photos(64)
    assert images.shape == (6, 3, 64, 64)
    found = diversity.last_tokens(model, images)
    assert found.shape == (6, 8, 48)
    assert not model.reductions[10]._forward_hooks


def test_report_and_figure(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(real_table, "read", lambda: None)
    monkeypatch.setattr(diversity, "compute", lambda **choices: frame)
    monkeypatch.setattr("analysis.results.LARGEST_SVG", 10**6)  # its words can be read in a vector figure
    diversity.report(tmp_path)
    record = json.loads((tmp_path / "record.json").read_text())
    assert "analysis/paper/bat_fig6.csv" in record["inputs"]
    assert any("untrained weights" in block.get("text", "") for block in record["blocks"])
    assert "as printed" in (tmp_path / "figure4.svg").read_text()
    assert pd.read_csv(tmp_path / "scores.csv").equals(frame)


def test_with_a_real_table_no_untrained_weights_are_shown(tmp_path, monkeypatch):
    rows = [dict(row=row, method=row, keep_rate=rate, tokens=9, share=rate)
            for row in diversity.NEEDED for rate in (0.5, 0.7)]  # fmt: skip
    made_up = pd.DataFrame(rows)
    for name in ("diversity", "cosine"):
        made_up = made_up.assign(**{name: 0.6, f"{name}_low": 0.5, f"{name}_high": 0.7})
    monkeypatch.setattr(real_table, "read", lambda: made_up)
    monkeypatch.setattr(real_table, "described", lambda: "weights")
    monkeypatch.setattr(diversity, "compute", None)
    diversity.report(tmp_path)
    assert {path.name for path in tmp_path.glob("*.csv")} == {"real_scores.csv"}


def test_command_line(monkeypatch, capsys):
    monkeypatch.setattr(diversity, "compute", lambda *args: pd.DataFrame({"method": ["bat"], "score": [0.5]}))
    assert diversity.main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"method": "bat", "score": 0.5}]
