"""The sweep of a user's own model: what is kept, what the table says, and that the recommendation agrees with it."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image

import stvit
from analysis.pareto import choice, pictures, sweep
from analysis.pareto.__main__ import main
from analysis.pareto.tuned import TuningBudget, split

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def request_(tmp_path_factory):
    """A small ViT with a classifier, in a folder, and seven images."""
    folder = tmp_path_factory.mktemp("own")
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=96, embed_dim=48, num_heads=3, depth=4, num_classes=6
    )
    stvit.save_checkpoint(model, folder / "model")
    generator = np.random.default_rng(0)
    (folder / "images").mkdir()
    for number in range(7):
        rough = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        rough.resize((300, 280)).save(folder / "images" / f"{number}.jpg")
    return sweep.SweepRequest(
        model=str(folder / "model"), data=folder / "images", crops=14, rates=(0.5,), batch=3,
        methods=("topk", "random", "avit"), kept=folder / "kept",
    )  # fmt: skip


@pytest.fixture(scope="module")
def found(request_):
    return sweep.run(request_, bar=False)


def test_every_setting_has_quality_speed_and_memory(found):
    assert set(found.rows.row) == {"topk", "random", "avit"}
    assert (
        found.rows.agreement.between(0, 1).all() and (found.rows.agreement_low <= found.rows.agreement).all()
    )
    assert (found.rows[["times_as_fast", "images_per_second", "memory_share"]] > 0).all().all()
    assert found.where.endswith("14 crops of 7 images") and found.study["size"] == 96
    assert found.study["counter"] == "products", "no counts of another kind are read beside its own"
    halves = found.rows[found.rows.keep_rate == 0.5]
    assert (halves.share < 0.9).all(), "the FLOPs are counted"


def test_what_was_measured_is_read_and_what_was_not_is_measured(request_, found, monkeypatch):
    def refuse(*_):
        raise AssertionError("measured again")

    with monkeypatch.context() as patched:
        patched.setattr(sweep, "work", refuse)
        again = sweep.run(request_, bar=False)
    pd.testing.assert_frame_equal(again.rows, found.rows)
    fresh = sweep.run(
        replace(request_, batch=2, methods=("topk",)), bar=False
    )  # another batch is another speed
    assert fresh.rows.agreement.tolist() == found.rows[found.rows.row == "topk"].agreement.tolist()
    assert len(list(request_.kept.glob("*/speed-cpu-1-2/*.json"))) == 1


def test_minutes_end_a_sweep_and_the_same_command_goes_on(request_, found, tmp_path):
    request = replace(request_, kept=tmp_path, minutes=1e-9)
    left = []
    for _ in range(len(found.rows)):
        part = sweep.run(request, bar=False)
        left.append(len(found.rows) - len(part.rows))
        assert (part.notes[-1:] == [f"{left[-1]} of 3 settings are left: the same command goes on"]) == (
            left[-1] > 0
        )
    assert left == [2, 1, 0]


def table(**qualities):
    """Rows of (speed, share, quality)."""
    lines = [
        dict(row=name, method=name.upper(), setting="keep_rate=0.5", times_as_fast=speed, share=share, tokens=9,
             memory_share=1.0, untrained_parts=False, cosine=quality, cosine_low=quality - 0.02,
             cosine_high=quality + 0.02)
        for name, (speed, share, quality) in qualities.items()
    ]  # fmt: skip
    return choice.judged(pd.DataFrame(lines), "cosine")


def test_the_recommendation_is_the_fastest_that_loses_no_more():
    frame = table(fast=(2.0, 0.4, 0.8), good=(1.6, 0.6, 0.97), rival=(1.5, 0.6, 0.96), slow=(1.2, 0.8, 0.99),
                  random=(1.6, 0.6, 0.7), dense=(1.0, 1.0, 1.0))  # fmt: skip
    said = choice.recommendation(frame, "cosine", 0.05, "a model")
    assert (
        said.startswith("For a loss of at most 5.0%")
        and "GOOD (keep_rate=0.5), 1.60 times as fast with 60%" in said
    )
    assert (
        "nearly as fast: RIVAL" in said
        and "Random tokens with 60% of the FLOPs: 0.700 [0.680, 0.720]" in said
    )
    assert choice.chosen(frame, "cosine", 0.05).row.tolist() == ["good", "rival", "slow"], (
        "the dense model is no choice"
    )
    none = choice.recommendation(frame, "cosine", 0.001, "a model")
    assert none.startswith("No setting keeps 99.9%") and "the nearest is SLOW" in none


def test_the_fronts():
    frame = table(fast=(2.0, 0.6, 0.8), good=(1.5, 0.5, 0.9), worse=(1.2, 0.7, 0.85)).set_index("row")
    assert frame.front_time.to_dict() == {"fast": True, "good": True, "worse": False}
    assert frame.front_flops.to_dict() == {"fast": False, "good": True, "worse": False}


def test_a_quality_that_the_model_has_not(found):
    assert (
        choice.quality_of(found.rows) == "agreement" and choice.quality_of(found.rows, "cosine") == "cosine"
    )
    with pytest.raises(ValueError, match="no quality 'iou' of this model; choose one of agreement, cosine"):
        choice.quality_of(found.rows, "iou")


def test_the_page_says_what_the_table_says(tmp_path):
    frame = table(fast=(2.0, 0.4, 0.8), good=(1.6, 0.6, 0.97))
    page = pictures.write_page(
        tmp_path / "pareto.html", frame, "cosine", "a <b> sentence", "here"
    ).read_text()
    points = json.loads(page.split("const points = ")[1].split(";\n")[0])
    assert [one["method"] for one in points] == ["FAST", "GOOD"] and points[1]["quality"] == 0.97
    assert "a &lt;b&gt; sentence" in page and "http://" not in page.replace("http://www.w3.org", "")


def test_the_command(request_, found, tmp_path, capsys):
    arguments = ["--model", request_.model, "--data", str(request_.data), "--crops", "14", "--rates", "0.5", "--batch",
                 "3", "--methods", "topk", "random", "avit", "--kept", str(request_.kept), "--out", str(tmp_path / "o"),
                 "--loss", "0.99"]  # fmt: skip
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "times_as_fast" in printed and "For a loss of at most 99.0% in answers" in printed
    assert {"table.csv", "pareto.png", "pareto.html", "record.json"} <= {
        one.name for one in (tmp_path / "o").iterdir()
    }
    best = pd.read_csv(tmp_path / "o" / "table.csv").iloc[0]
    assert f"{best.method} ({best.setting})" in printed or best.share >= 0.999


def test_settings_are_trained_on_other_images_than_they_are_measured_on(request_, found, capsys):
    asked = replace(
        request_, tune=TuningBudget(crops=40, passes=3), methods=("topk", "random", "dynamicvit"), crops=8
    )
    tuned = sweep.run(asked, bar=False)
    assert not tuned.rows.untrained_parts.any(), "DynamicViT's own layers have learned"
    told = "each setting trained for 3 passes over 40 crops of 5 other images (stvit.distill)"
    assert tuned.where.endswith(f"8 crops of 2 images; {told}")
    plain = sweep.run(replace(asked, tune=None), bar=False).rows
    names = set(tuned.study["photographs"])
    assert len(names) == 2 and names < {f"{number}.jpg" for number in range(7)} | {str(n) for n in range(7)}
    assert tuned.rows.share.tolist() == plain.share.tolist(), "the same models"
    assert tuned.rows.cosine.tolist() != plain.cosine.tolist() and not capsys.readouterr().out
    assert not list(request_.kept.glob("*/*/training/topk*")), "what a training leaves is removed"


def test_a_trained_setting_is_kept_and_a_stopped_training_leaves_the_others(request_, monkeypatch):
    asked = replace(request_, tune=TuningBudget(crops=20, passes=1), methods=("topk", "random"), crops=8)
    own = sweep.Tuner.build

    def stopped(tuner, setting):
        if setting.method == "random":
            raise KeyboardInterrupt
        return own(tuner, setting)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(sweep.Tuner, "build", stopped)
        sweep.run(asked, bar=False)
    trained = []
    monkeypatch.setattr(
        sweep.Tuner, "build", lambda tuner, setting: trained.append(setting.method) or own(tuner, setting)
    )
    assert len(sweep.run(asked, bar=False).rows) == 2 and trained == ["random"]
    sweep.run(replace(asked, batch=1), bar=False)
    assert trained == ["random"], "another batch is another speed, not another training"


def test_photographs_are_learned_from_or_measured_on():
    learned, measured = split([f"{n}" for n in range(11)])
    assert measured == ["0", "5", "10"] and learned == ["1", "2", "3", "4", "6", "7", "8", "9"]
    with pytest.raises(ValueError, match="there is only one"):
        split(["one"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tune-crops", "1", "--tune", "distill"], "--tune-crops"),
        (["--loss", "2"], "--loss must be from 0 to below 1, not 2.0"),
        (["--minutes", "-1"], "--minutes must be 0 or more, not -1.0"),
        (["--minutes", "nan"], "--minutes must be 0 or more, not nan"),
        (["--data", "nowhere"], "nowhere is not a folder of images"),
        (["--methods", "nonsense"], "unknown method 'nonsense'; choose from"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_bad_requests_are_one_line(arguments, message, request_, tmp_path, capsys):
    own = [
        "--model",
        request_.model,
        "--data",
        str(request_.data),
        "--kept",
        str(tmp_path),
        "--out",
        str(tmp_path),
    ]
    with pytest.raises(SystemExit) as stopped:
        main([*own, *arguments])
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and message in said and said.count("\n") == 1
