"""Dense tasks' cells, tables and verdicts: from records alone, by hand where a hand can do it."""

import json

import pandas as pd
import pytest
import torch
from torch import nn
from transformers.modeling_outputs import SemanticSegmenterOutput

from analysis.dense import claims, cost, detection, pictures, segmentation, shipped, step, tables
from analysis.dense.cells import ROWS, DenseCell, TaskStudy, multiply_adds, plan, run
from stvit.data.scenes import SceneConfig, draw_scenes, sized
from stvit.dense.segmentation.model import PRESETS, create_segmenter

SEGMENTATION = tables.SECTIONS[1]
TRUTH = {  # by row and seed
    "Swin": (40.0, 42.0, 41.0),
    "STViT-R": (39.0, 40.8, 39.9),
    "STViT-R without units": (38.0, 41.0, 39.5),
    "STViT-R, reused tokens": (38.9, 40.9, 40.0),
}


def record(miou: float, flops: int) -> dict:
    sizes = {
        name: {"objects": 2, "pixels": 200, "right": right}
        for name, right in (("small", 50), ("medium", 100), ("large", 150))
    }
    return {
        "test": {"miou": miou, "pixel_accuracy": 90.0, "sizes": sizes, "images": 2048},
        "backbone_multiply_adds": flops, "parameters": 7, "seconds": {"training_cpu": 60.0},
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for cell in SEGMENTATION.plan():
        content = record(
            TRUTH[cell.row.name][cell.seed], 20_000_000 if cell.row.name == "Swin" else 15_000_000
        )
        (tmp_path / f"{cell.address}.json").write_text(json.dumps(content))
    return tmp_path


def test_the_table_has_means_and_paired_differences(folder):
    frame = tables.tabulate(SEGMENTATION, folder=folder).set_index("row")
    assert frame.loc["Swin", "miou"] == 41.0 and frame.loc["Swin", "sd"] == 1.0
    r = frame.loc["STViT-R"]
    assert (r.seeds, r.difference, r.half_width) == (3, -1.1, pytest.approx(0.25, abs=0.01))
    assert (r.recall_small, r.recall_medium, r.recall_large) == (25.0, 50.0, 75.0)
    assert (r.saved_pct, r.backbone_mflops, r.printed) == (25.0, 15.0, "48.3")
    assert frame.loc["Swin", "difference"] != frame.loc["Swin", "difference"]  # the base has none


def test_verdicts_follow_from_the_intervals(folder):
    found = claims.verdicts(folder=folder).set_index("conclusion").verdict
    assert found["Segmentation loses mIoU (Table 12)"] == "holds"  # −1.0, −1.2, −1.1
    assert found["Not printed: units beat one long unit"] == "cannot tell at this size"  # 1.0, −0.2, 0.4
    assert found["Small objects are found better (Table 5)"] == "not run"


def test_seeds_that_are_missing_are_not_numbers(folder):
    for cell in SEGMENTATION.plan():
        if cell.seed:
            (folder / f"{cell.address}.json").unlink()
    frame = tables.tabulate(SEGMENTATION, folder=folder)
    assert frame.seeds.tolist() == [1, 1, 1, 1] and frame.half_width.isna().all()
    assert set(claims.verdicts(folder=folder).verdict) == {"not run"}
    assert tables.progress(folder=folder).finished.tolist() == [0, 4]


def test_cells_differ_in_what_they_should():
    cells = SEGMENTATION.plan() + detection.plan()
    assert len({cell.address for cell in cells}) == 24
    assert [cell.row for cell in detection.plan(seeds=(0,))] == list(ROWS)
    rows = {cell.row.name: cell.config().chosen() for cell in SEGMENTATION.plan(seeds=(0,))}
    for name, chosen in rows.items():
        same = {k: v for k, v in chosen.items() if k not in ("model", "model_args")}
        assert same == {k: v for k, v in rows["Swin"].items() if k not in ("model", "model_args")}, name


def test_the_heads_in_the_record_are_those_that_were_trained():
    assert PRESETS["micro"] == segmentation.HEAD_OPTIONS


def test_a_cell_is_trained_once_and_its_record_is_whole(tmp_path):
    tiny = {**segmentation.TRAINING, "train_images": 16, "eval_images": 4, "epochs": 1, "image_size": 32}
    study = TaskStudy(
        "segment", "miou", tiny, {}, lambda model, images: {"miou": 5.0, "images": images}, 3, ROWS[1:2]
    )
    cell = DenseCell(study, ROWS[1], 0)
    assert run([cell], folder=tmp_path / "cells", scratch=tmp_path / "runs") == 1
    made = json.loads((tmp_path / "cells" / f"{cell.address}.json").read_text())
    assert made["test"] == {"miou": 5.0, "images": 3} and made["row"] == "STViT-R" and made["curve"]
    assert made["seconds"]["threads"] == 1 and made["hardware"]
    assert made["backbone_multiply_adds"] < multiply_adds(ROWS[0])
    assert run([cell], folder=tmp_path / "cells", scratch=tmp_path / "runs") == 0
    assert plan(study, seeds=(0,)) == [cell]


def test_objects_are_counted_by_size():
    config = sized(SceneConfig(), 32)
    drawn = draw_scenes(config, torch.arange(12), "test")
    right = torch.ones_like(drawn.instances, dtype=torch.bool)
    found = segmentation.by_size(right, drawn.instances, config)
    seen = drawn.instances[drawn.instances > 0]
    assert (
        sum(part["pixels"] for part in found.values()) == sum(p["right"] for p in found.values()) == len(seen)
    )
    assert sum(part["objects"] for part in found.values()) == int((drawn.boxes[..., 2] > 0).sum())
    right[drawn.instances == 1] = False
    fewer = segmentation.by_size(right, drawn.instances, config)
    assert sum(part["right"] for part in fewer.values()) == int((seen != 1).sum())


def test_the_head_costs_what_its_layers_do():
    """Convolutions by hand: k²·C_in·C_out a place; BatchNorm 2; resizing 4, as the counter has them."""
    side, width, c = 512, 512, [96, 192, 384, 768]
    places = [(side // s) ** 2 for s in (4, 8, 16, 32)]
    pools = sum(p * p * (c[3] * width + 2 * width) for p in (1, 2, 3, 6))
    convolutions = [(1, c[i], places[i]) for i in range(3)] + [(9, width, places[i]) for i in range(3)]
    convolutions += [(9, c[3] + 4 * width, places[3]), (9, 4 * width, places[0])]
    exact = pools + sum(k * c_in * width * n + 2 * width * n for k, c_in, n in convolutions)
    exact += width * 150 * places[0]
    assert cost.segmenter("S") == pytest.approx(exact, rel=2e-3)  # what is left is resizing and pooling


def test_what_segmenters_tell_is_drawn():
    class Sure(nn.Module):
        def forward(self, images):
            logits = torch.zeros(len(images), 13, *images.shape[2:])
            logits[:, 3] = 1
            return SemanticSegmenterOutput(logits=logits)

    assert (pictures.segment(Sure(), pictures.scenes(2).images) == 3).all()
    fig = pictures.masks({"sure": Sure()}, count=2)
    assert len(fig.axes) == 6 and fig.axes[4].get_ylabel() == "sure"
    assert len({tuple(colour) for colour in pictures.colours()}) == 13


def test_a_finished_model_is_shipped_in_eight_bits(tmp_path, monkeypatch):
    from stvit.checkpoints import read_state_dict
    from stvit.dense.saved import save

    monkeypatch.setattr(shipped.segmentation, "test", lambda model, images: {"miou": 5.0})
    model = create_segmenter("micro_stvit_r_swin", 3, dict(drop_path_rate=0.0), **PRESETS["micro"])
    cell, (cells, scratch, shelf) = shipped.cell_of("segment_stvit_r"), (tmp_path / part for part in "abc")
    cells.mkdir()
    (cells / f"{cell.address}.json").write_text(json.dumps({"address": cell.address, "test": {"miou": 6.0}}))
    whole = save(model, scratch / f"segment-{cell.address}" / "model") / "model.safetensors"
    assert (
        shipped.ship(shelf, scratch, cells) == ["segment_stvit_r"]
        and shipped.ship(shelf, scratch, cells) == []
    )
    record = json.loads((shelf / "segment_stvit_r" / "record.json").read_text())
    assert record["shipped"] == {"images": 256, "miou": 5.0} and record["test"] == {"miou": 6.0}
    kept, small = read_state_dict(whole), read_state_dict(shelf / "segment_stvit_r")
    name, norm = "decode_head.classifier.weight", "decode_head.bottleneck.batch_norm.running_var"
    assert torch.allclose(small[name].float(), kept[name], atol=1e-4)
    assert small[norm].equal(kept[norm]) and small.keys() == kept.keys()
    assert whole.stat().st_size > 3 * (shelf / "segment_stvit_r" / "model.safetensors").stat().st_size
    assert shipped.available(shelf) == ["segment_stvit_r"]
    assert not shipped.open_shipped("segment_stvit_r", shelf).training


def test_only_models_in_evaluation_mode_are_tested():
    with pytest.raises(ValueError, match="call model.eval"):
        segmentation.test(nn.Linear(1, 1).train(), 2)


def test_what_is_shipped_has_the_address_of_a_cell():
    for name in shipped.available():
        path = shipped.CHECKPOINTS / name / "record.json"
        assert json.loads(path.read_text())["address"] == shipped.cell_of(name).address


def test_a_recorded_step_has_every_gradient():
    for path in step.STEP_RECORDS.glob("*.json"):
        made = json.loads(path.read_text())
        assert made["without_gradient"] == [] and made["loss"] == made["loss"], path.name


def test_the_printed_tables_agree_with_the_text():
    boxes, maps = (pd.read_csv(tables.PAPER / f"stvit_table{n}.csv").set_index("model") for n in (5, 12))
    assert boxes.box_ap_small["STViT-R-Swin-S"] - boxes.box_ap_small["Swin-S"] == pytest.approx(
        1.5
    )  # Section 4.3
    for frame in (boxes, maps):
        for size in "SB":
            saved = 100 * (1 - frame.gflops[f"STViT-R-Swin-{size}"] / frame.gflops[f"Swin-{size}"])
            assert abs(saved - frame.gflops_reduction_pct[f"STViT-R-Swin-{size}"]) < 0.7
