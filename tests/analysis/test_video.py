"""Table 6, the records of video models, and semantic tokens over frames."""

import json

import pandas as pd
import pytest
import timm
import torch
from PIL import Image

import stvit
from analysis.shared.counting import count
from analysis.shared.flops.closed_local import SWIN, swin
from analysis.shared.flops.closed_semantic import stvit_video_swin
from analysis.video import cells, report, tables, tokens

SMALL = dict(embed_dim=8, depths=(1, 1, 4, 1), num_heads=(1, 1, 2, 2), base_depth=1)


def test_table_6_at_the_printed_digit():
    frame = tables.printed()
    assert frame.at_the_printed_digit.tolist() == [True] * 4
    assert [f"{value:.1f}" for value in frame.gflops] == ["88.1", "64.4", "166.1", "120.5"]
    assert frame.saved_percent.round().tolist() == [0, 27, 0, 27]


@pytest.mark.parametrize(("frames", "pooling"), [(8, "max"), (16, "intra_inter")])
def test_shorter_clips_count_what_the_closed_form_says(frames, pooling):
    with torch.device("meta"):
        model = timm.create_model("stvit_video_swin_tiny", pooling=pooling, project_keys="per_window").eval()
        dense = timm.create_model("video_swin_tiny").eval()
    steps, shape = frames // 2, (1, 3, frames, 224, 224)
    expected = stvit_video_swin(*SWIN["tiny"], 2, frames=steps, pooling=pooling).total
    assert count(model, shape).total == expected
    if pooling == "max":
        options = dict(frames=steps, span=min(8, steps), taps=32, classes=400)
        assert count(dense, shape).total == swin(*SWIN["tiny"], **options).total


def written(folder, model: str, seed: int, top1: float) -> None:
    """A record as a finished cell has it."""
    cell = cells.VideoCell(model, seed)
    right = [[round(8.192 * top1), 0, 0, 0, 0]] + [[0] * 5] * 4
    record = {
        "address": cell.address,
        "test": {"top1": top1, "clips": 4096, "confusion": right},
        "multiply_adds": 40_000_000 if model == cells.DENSE else 30_000_000,
        "seconds": {"training_cpu": 50.0},
    }
    (folder / f"{cell.address}.json").write_text(json.dumps(record), encoding="utf-8")


def test_models_are_compared_seed_by_seed(tmp_path):
    for seed, (dense, sparse) in enumerate([(80.0, 79.0), (70.0, 69.5), (90.0, 88.5)]):
        written(tmp_path, cells.DENSE, seed, dense)
        written(tmp_path, cells.SEMANTIC, seed, sparse)
    first, second, third = tables.trained(tmp_path).itertuples()
    assert third.seeds == 0
    assert (first.seeds, first.top1, second.top1) == (3, 80.0, 79.0) and first.sd == pytest.approx(10)
    assert second.difference == pytest.approx(-1) and second.saved_percent == pytest.approx(25)
    assert second.half_width == pytest.approx(4.3027 * 0.5 / 3**0.5, rel=1e-4)  # Student's t of two degrees
    assert "After one pass STViT, with 25 % fewer" in report.outcomes(tables.trained(tmp_path))
    assert "stands 1.00 points below" in report.outcomes(tables.trained(tmp_path))
    motions = tables.by_motion(tmp_path)
    assert motions.top1[0] == 100 and motions.clips[1] == 0 and pd.isna(motions.top1[1])


def test_nothing_is_said_without_records(tmp_path):
    frame = tables.trained(tmp_path)
    assert frame.seeds.tolist() == [0] * len(cells.MODELS) and frame.top1.isna().all()
    assert report.outcomes(frame) == "Too few cells are finished for a comparison."


def test_a_cells_address_is_that_of_what_decides_it():
    cell = cells.VideoCell(cells.SEMANTIC, 0)
    assert (
        cell.address != cells.VideoCell(cells.SEMANTIC, 1).address != cells.VideoCell(cells.DENSE, 1).address
    )
    content = cell.content()
    assert content["training"]["data"] == "clips" and content["scenes"]["max_objects"] == 5
    assert cell.config(out="elsewhere", cache="there").chosen() == cell.config().chosen()


def test_a_cell_is_trained_once_and_its_model_shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "TRAINING", {**cells.TRAINING, "train_images": 32, "eval_images": 16})
    monkeypatch.setattr(cells, "TEST_CLIPS", 64)
    monkeypatch.setattr(cells, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(cells.test, "__defaults__", (64,))
    folders = tmp_path / "cells", tmp_path / "scratch", tmp_path / "shelf"
    cell = cells.VideoCell(cells.SEMANTIC, cells.SHIPPED_SEED, cells.EPOCHS[-1])
    record = cells.run_cell(cell, *folders)
    assert record["test"]["clips"] == 64 and sum(map(sum, record["test"]["confusion"])) == 64
    assert cells.run_cell(cell, *folders) == json.loads(json.dumps(record))
    model = stvit.load_checkpoint(tmp_path / "shelf" / cells.SEMANTIC).eval()
    assert abs(cells.test(model, 64)["right"] - record["test"]["right"]) <= 2, "in 8 bits a weight"


@pytest.fixture(scope="module")
def followed():
    torch.manual_seed(0)
    model = timm.create_model("micro_stvit_video_swin", **SMALL).eval()
    return tokens.follow(model, report.test_clips([3]).images[0])


def test_each_frame_has_its_own_tokens(followed):
    assert list(followed.shares) == ["layers.2.blocks.1", "layers.2.blocks.2"] and followed.grid == (4, 4)
    for layer, shares in followed.shares.items():
        assert shares.shape == (4, 4, 16)  # time steps, semantic tokens, patches
        torch.testing.assert_close(shares.sum(2), torch.ones(4, 4))
        assert followed.labels(layer).shape == (4, 16)
    assert [followed.frame_of(step) for step in range(4)] == [1, 3, 5, 7]


def test_a_strip_and_a_moving_picture(followed, tmp_path):
    figure = tokens.strip([followed], ["left, told up"], "a model")
    assert len(figure.axes) == 8 and figure.axes[0].get_ylabel() == "left, told up"
    with Image.open(tokens.animate(followed, tmp_path / "tokens.gif")) as picture:
        assert picture.n_frames == 8 and picture.size == (8 * 65, 8 * 32)


def test_a_model_without_semantic_tokens_is_refused():
    model = timm.create_model(
        "micro_video_swin", embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2)
    ).eval()
    with pytest.raises(RuntimeError, match="VideoSwin has no attention layer or token assignment"):
        tokens.follow(model, report.test_clips([0]).images[0])


def test_the_report_says_what_the_tables_hold():
    assert "4 of 4 FLOPs cells" in report.introduction(tables.printed())
    lengths = report.by_length()
    assert len(lengths) == 6 and (lengths.saved_percent > 20).all()
    assert lengths.stvit_gflops.iloc[2] == tables.printed().gflops[1]  # 32 frames


def test_what_further_passes_mean():
    assert "closes with further passes" in report.meaning([-20.0, -1.0])
    assert "motion alone tells the class" in report.meaning([-20.0, -12.0])
