"""Labelled images by the dense model's probes: fitted once, kept image by image, compared on the same images."""

import json

import numpy as np
import pytest
import timm
import torch

from analysis.offtheshelf import cells, probes, report
from analysis.offtheshelf.settings import Setting
from analysis.shared.models import Subject

SIZE, IMAGES = 48, 12


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    torch.manual_seed(0)
    args = dict(img_size=SIZE, patch_size=8, embed_dim=48, depth=4, num_heads=3, num_classes=0)
    subject = Subject("tiny", timm.create_model("vit_tiny_patch16_224", **args).eval(), False, found="random")
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES * 4, 3, SIZE, SIZE, generator=generator)
    labels = torch.arange(IMAGES * 4) % 3
    images += 2 * labels[:, None, None, None]  # a probe can tell them apart

    def batches(model, data, split, size, count):
        part = slice(0, count) if split == "train" else slice(IMAGES, IMAGES + count)
        yield images[part], labels[part]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "batches", batches)
        return probes.begin(subject, "made_up", SIZE, IMAGES * 2, IMAGES, tmp_path_factory.mktemp("probes"))


def test_the_dense_model_keeps_what_its_probe_says_and_reads_it_again(asked):
    assert probes.read(asked, None) is None
    cell = probes.measured(asked, None)
    assert cell["right"]["linear"] == "1" * IMAGES, "trained on these very images"
    assert probes.read(asked, None) == cell


def test_a_cell_is_measured_again_if_its_choices_changed(asked):
    setting = Setting("topk", "topk", 0.5, {"keep_rate": 0.5})
    cell = probes.measured(asked, setting)
    assert probes.read(asked, setting) == cell and len(cell["right"]["knn"]) == IMAGES
    assert cell["multiply_adds"] < asked.cost(asked.dense)
    assert probes.read(asked, setting._replace(choices={"keep_rate": 0.4})) is None


def made_up(bat=0.9, evit=0.6, images=400):
    """A study in which methods err on images of their own."""
    generator = np.random.default_rng(0)
    rates = {"dense": 0.95, "bat": bat, "evit": evit, "topk": evit, "random": 0.3}
    found = [
        dict(row=row, method=row, rate=1.0 if row == "dense" else 0.5, choices={}, code="", multiply_adds=10,
             right={kind: "".join("01"[int(generator.random() < rate)] for _ in range(images))
                    for kind in ("linear", "knn")})
        for row, rate in rates.items()
    ]  # fmt: skip
    return dict(model="m", weights="w", data="made_up", size=48, train_images=9, images=images, cells=found,
                address="b" * 12)  # fmt: skip


def test_the_table_says_what_is_lost_with_intervals():
    frame = probes.table(made_up()).set_index("row")
    assert frame.index[0] == "dense" and frame.linear_lost["dense"] == 0
    assert (frame.linear_low < frame.linear).all() and (frame.linear < frame.linear_high).all()
    assert frame.linear_lost["random"] == pytest.approx(frame.linear["dense"] - frame.linear["random"])


def test_claims_can_hold_and_fail():
    rows = probes.judge(made_up()).set_index("claim").verdict
    assert rows["BAT is above EViT"] == "holds"
    assert rows[[name for name in rows.index if name.startswith("class attention")]].iloc[0] == "holds"
    assert probes.judge(made_up(bat=0.3)).set_index("claim").verdict["BAT is above EViT"] == "reversed"


def test_the_report_has_a_section_of_its_own(tmp_path):
    content = made_up()
    folder = tmp_path / "probes" / content.pop("address")
    folder.mkdir(parents=True)
    for cell in content.pop("cells"):
        cells.write(cell, folder / f"{cell['row']}.json")
    cells.write(content, folder / cells.STUDY_FILE)
    report.write(tmp_path / "out", tmp_path / "none", tmp_path / "probes")
    blocks = json.loads((tmp_path / "out" / "record.json").read_text())["blocks"]
    names = {block.get("name") for block in blocks}
    assert {"labels_made_up", "labels_claims_made_up"} <= names
