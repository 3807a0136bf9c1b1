"""Off the shelf: measures that are 1 for the dense model itself, settings of equal cost, cells that are kept."""

import json
from functools import lru_cache

import numpy as np
import pytest
import timm
import torch

import stvit
from analysis.crops import Crops
from analysis.offtheshelf import cells, claims, figures, measure, report, settings, tables
from analysis.offtheshelf.__main__ import main
from analysis.offtheshelf.measure import Outputs, compare, correlation, overlap, salient
from analysis.shared.models import Subject
from stvit.data.photographs import shipped
from stvit.models.saliency import SaliencyHead
from stvit.reduce import METHODS

SIZE, CROPS, GRID = 48, 8, (6, 6)
ALIKE = ("cosine", "retrieved", "patches", "correlation", "iou")


@lru_cache(maxsize=1)
def dense():
    torch.manual_seed(0)
    args = dict(img_size=SIZE, patch_size=8, embed_dim=48, depth=6, num_heads=3, num_classes=0)
    model = timm.create_model("vit_tiny_patch16_224", **args).eval()
    for name, value in model.named_parameters():  # class attention that prefers some tokens
        if "qkv.weight" in name:
            value.data.mul_(8)
        if "norm" in name:  # so that a norm too many, or too few, would show
            value.data.add_(0.5 * torch.randn(value.shape))
    return model


def crops():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (CROPS, SIZE, SIZE, 3), np.uint8)
    return Crops(images, np.arange(CROPS) % 4, tuple(shipped()[:2] + shipped()[-2:]))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    subject = Subject("tiny", dense(), trained=False, found="random weights")
    head = SaliencyHead((48, 8, 8, 4)).eval()
    return cells.begin(subject, head, crops(), tmp_path_factory.mktemp("cells"), 0, SIZE)


def test_the_dense_model_is_one_in_every_measure(study):
    found = compare(study.reference, study.reference, GRID)
    for name in ALIKE:
        torch.testing.assert_close(found[name], torch.ones(CROPS), atol=2e-3, rtol=0, msg=name)
    assert found["kept_salient"].min() == found["kept_elsewhere"].min() == 1
    assert found["dropped_salient"].max() == 0 and found["merged_alike"].isnan().all()


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].identity is not None])
def test_nothing_reduced_is_the_dense_model(method, study):
    model = stvit.sparsify(dense(), method=method, **METHODS[method].identity)
    found = compare(measure.outputs(model, study.images, study.head), study.reference, GRID)
    assert all(found[name].min() > 0.99 for name in ALIKE), found


def test_the_reference_is_the_models_own_output(study):
    with torch.inference_mode():
        tokens = dense().forward_features(study.images)
        torch.testing.assert_close(study.reference.features, dense()(study.images))
    torch.testing.assert_close(study.reference.patches.float(), tokens[:, 1:], atol=5e-3, rtol=5e-3)


def test_features_of_another_image_have_other_values(study):
    moved = [part.roll(1, dims=0) if isinstance(part, torch.Tensor) else part for part in study.reference]
    turned = Outputs(*moved)
    found = compare(turned, study.reference, GRID)
    assert found["retrieved"].sum() == 0 and found["cosine"].max() < 0.9
    assert found["iou"].max() < 0.9 and found["correlation"].max() < 0.95


def test_the_mean_feature_is_subtracted(study):
    features = study.reference.features + 100
    shifted = Outputs(features, features[:, 0])
    torch.testing.assert_close(
        compare(shifted, shifted, GRID)["cosine"], torch.ones(CROPS), atol=1e-3, rtol=0
    )
    opposite = Outputs(2 * features.mean(0) - features, features[:, 0])
    torch.testing.assert_close(
        compare(opposite, shifted, GRID)["cosine"], -torch.ones(CROPS), atol=1e-3, rtol=0
    )


def test_correlation_and_overlap_in_closed_form():
    rows = torch.tensor([[1.0, 2, 3, 4], [1, 1, 1, 1], [1, 2, 3, 4]])
    others = torch.tensor([[2.0, 4, 6, 8], [1, 2, 3, 4], [-1, -2, -3, -4]])
    assert correlation(rows, others).tolist() == pytest.approx([1, 0, -1], abs=1e-6)
    one, two = torch.tensor([[1, 1, 0, 0]]).bool(), torch.tensor([[0, 1, 1, 0]]).bool()
    assert overlap(one, two).tolist() == pytest.approx([1 / 3])
    assert salient(torch.arange(10.0)[None]).nonzero()[:, 1].tolist() == [8, 9]


def test_semantic_tokens_have_no_dense_output(study):
    model = stvit.sparsify(dense(), tokens=4, at=3)
    found = measure.outputs(model, study.images, study.head)
    assert found.patches is None and found.saliency is None and found.features.shape == (CROPS, 48)


@pytest.mark.parametrize("target", [0, 3, 10, 11, 55, 99, 1000])
def test_the_nearest_price_is_found_by_halving(target):
    prices = [0, 1, 4, 9, 16, 25, 36, 49, 64, 81, 100]
    found = settings.nearest(prices, target, lambda value: value)
    assert abs(found - target) == min(abs(price - target) for price in prices)


def test_rows_are_those_of_the_package_and_names_are_checked():
    assert set(METHODS) < set(settings.rows())
    assert list(settings.rows(["bat", "diversity alone"])) == ["bat", "diversity alone"]
    with pytest.raises(ValueError, match="unknown method 'bta'"):
        settings.rows(["bta"])


def test_settings_cost_what_top_k_costs(study):
    plan, notes = settings.plan(dense(), study.cost, ["topk", "tome", "kmeans", "stvit"], (0.5, 1.0))
    assert notes == []
    by_key = {one.key: one for one in plan}
    assert by_key["kmeans-0.5"].choices == by_key["topk-0.5"].choices == {"keep_rate": 0.5}
    assert by_key["tome-1"].choices == {"r": 0} and "stvit-1" not in by_key
    target = study.cost(settings.build(dense(), by_key["topk-0.5"]))
    r = by_key["tome-0.5"].choices["r"]
    gaps = [
        abs(study.cost(stvit.sparsify(dense(), method="tome", r=near)) - target) for near in (r - 1, r, r + 1)
    ]
    assert gaps[1] == min(gaps)


def test_a_method_that_the_model_cannot_take_is_a_note():
    blind = timm.create_model("vit_tiny_patch16_224", img_size=SIZE, patch_size=8, embed_dim=48, depth=6, num_heads=3,
                              num_classes=0, class_token=False, global_pool="avg").eval()  # fmt: skip
    plan, notes = settings.plan(blind, lambda model: 1, ["evit", "random"], (0.5,))
    assert [one.row for one in plan] == ["random"]
    assert len(notes) == 1 and notes[0].startswith("evit: not measured") and "class token" in notes[0]


def test_a_cell_is_kept_and_measured_again_only_if_its_code_or_choices_changed(study, monkeypatch):
    setting = settings.Setting("topk", "topk", 0.5, {"keep_rate": 0.5})
    first = cells.run(study, setting)
    assert len(first["photographs"]["cosine"]) == 4 and 0 < first["photographs"]["cosine"][0] < 1

    def refuse(*args):
        raise AssertionError("measured again")

    with monkeypatch.context() as patch:
        patch.setattr(cells.measure, "outputs", refuse)
        assert cells.run(study, setting) == first
        with pytest.raises(AssertionError, match="measured again"):
            cells.run(study, setting._replace(choices={"keep_rate": 0.4}))
        patch.setattr(cells, "code_of", lambda method: "changed")
        with pytest.raises(AssertionError, match="measured again"):
            cells.run(study, setting)
    assert not list(study.folder.glob(".*")), "no scratch files are left"


def test_multiply_adds_are_remembered(study, monkeypatch):
    model = settings.build(dense(), settings.Setting("topk", "topk", 0.3, {"keep_rate": 0.3}))
    first = study.cost(model)
    monkeypatch.setattr(cells, "multiply_adds", lambda *args: 0)
    assert study.cost(model) == first > 0
    other = cells.priced(study.folder / cells.COSTS_FILE, SIZE)  # in another process
    assert other(model) == first


def test_the_cost_of_a_method_whose_tokens_depend_on_the_image_is_that_of_the_crops(study):
    fixed = settings.build(dense(), settings.Setting("topk", "topk", 0.5, {"keep_rate": 0.5}))
    assert cells.own_cost(study, fixed) == study.cost(fixed)
    sampled = settings.build(dense(), settings.Setting("ats_sorted", "ats_sorted", None, {}))
    left = {measure.tokens_left(sampled, image) for image in study.images.split(1)}
    assert len(left) > 1 and 0.5 < cells.own_cost(study, sampled) / study.cost(dense()) < 1


def test_time_is_measured_in_turns(study):
    found = measure.times(dense(), dense(), study.images, batch=4, turns=2)
    assert found["range"][0] <= found["times_as_fast"] <= found["range"][1]
    assert found["seconds"] > 0 and found["dense_seconds"] > 0


def made_up(better=0.9, worse=0.7):
    """A study of two methods over 12 photographs, EViT with the worse values."""
    noise = np.random.default_rng(0).normal(0, 0.01, 12)
    rows = {"bat": better, "evit": worse, "topk": worse, "diversity alone": worse, "random": worse - 0.2}
    made = [
        dict(row=row, method="bat", rate=rate, choices={"keep_rate": rate}, untrained_parts=row == "evit",
             tokens=9, batch=20, load=1.5,
             multiply_adds=int(1e9 * (0.1 + rate)), time=dict(times_as_fast=1.1 / (0.1 + rate)),
             photographs={name: (value * rate**0.1 + noise).tolist() for name in tables.MEASURES})
        for row, value in rows.items() for rate in (0.5, 0.7)
    ]  # fmt: skip
    photographs = {f"p{i}": dict(source="made up", licence="", digest="") for i in range(12)}
    dense = dict(multiply_adds=1_100_000_000, tokens=36)
    return dict(model="m", weights="w", size=48, crops=12, seed=0, photographs=photographs, hardware="h", date="d",
                versions={}, dense=dense, address="a" * 12, cells=made)  # fmt: skip


def test_the_table_has_intervals_and_the_front():
    frame = tables.table(made_up())
    assert (
        len(frame) == 10
        and (frame.cosine_low <= frame.cosine).all()
        and (frame.cosine <= frame.cosine_high).all()
    )
    assert set(frame[frame.front].row) == {"bat"}
    assert frame.share.max() == pytest.approx(0.8 / 1.1)
    assert any("BAT" in line and "On the front at" in line for line in tables.sentences(frame))
    assert any("EViT" in line and "untrained" in line and "Never" in line for line in tables.sentences(frame))


def test_the_front_is_what_no_other_beats():
    generator = np.random.default_rng(0)
    cost, gain = generator.integers(0, 6, (2, 40))
    points = list(zip(cost.tolist(), gain.tolist(), strict=True))
    expected = [not any(c <= cost_i and g >= gain_i and (c, g) != (cost_i, gain_i) for c, g in points)
                for cost_i, gain_i in points]  # fmt: skip
    assert tables.on_front(cost, gain) == expected


def test_claims_are_paired_and_can_fail():
    holds = claims.judge(made_up())
    assert set(holds[holds.claim.str.startswith("BAT is above")].verdict) == {"holds"}
    assert set(holds[holds.claim.str.startswith("a fused token")].verdict) == {"no difference"}
    reversed_ = claims.judge(made_up(better=0.6))
    assert set(reversed_[reversed_.claim.str.startswith("BAT is above")].verdict) == {"reversed"}
    assert len(claims.in_words(holds)) == holds.groupby(["claim", "measure"]).ngroups


def test_the_report_is_derived_from_cells_alone(tmp_path):
    content = made_up()
    folder = tmp_path / "cells" / content["address"]
    folder.mkdir(parents=True)
    for cell in content.pop("cells"):
        cells.write(cell, folder / f"{cell['row']}-{cell['rate']}.json")
    cells.write(content, folder / cells.STUDY_FILE)
    cells.write({"a model": 7}, folder / cells.COSTS_FILE)
    frame = report.write(tmp_path / "out", tmp_path / "cells", tmp_path / "none")
    assert len(frame) == 10
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record["config"]["a" * 12]["weights"] == "w" and record["config"]["a" * 12]["photographs"]
    assert {"pareto.png", "field.png", "table.csv", "claims.csv", "bat_figure1.png"} <= {
        p.name for p in (tmp_path / "out").iterdir()
    }


def test_the_best_for_its_cost_comes_first():
    content = made_up()
    content["cells"] += [{**cell, "row": "tome", "rate": None} for cell in content["cells"][:1]]
    frame = tables.table(content)
    assert figures.ranking(frame)[-1] == "random" and {*figures.ranking(frame)[:2]} == {"bat", "tome"}
    fig = figures.field(frame, dense=True)
    assert fig.axes[0].get_yticklabels()[0].get_text() == "random"
    assert {text.get_text() for text in fig.legends[0].texts} == {
        "keep rate 0.5",
        "keep rate 0.7",
        "as it comes",
    }


def test_without_cells_the_report_says_what_to_run(tmp_path):
    assert report.write(tmp_path / "out", tmp_path / "empty", tmp_path / "none").empty
    blocks = json.loads((tmp_path / "out" / "record.json").read_text())["blocks"]
    assert len(blocks) == 1 and "python -m analysis.offtheshelf --cells" in blocks[0]["text"]


def test_a_missing_model_is_one_line(capsys, monkeypatch):
    with pytest.raises(SystemExit):
        main(["--model", "no_such_model"])
    said = capsys.readouterr().err
    assert "unknown model 'no_such_model'" in said and said.count("\n") == 1
