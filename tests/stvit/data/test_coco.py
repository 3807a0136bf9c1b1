"""COCO's layout: what is written is read again; odd annotations are treated as COCO's tools treat them."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from stvit.data.coco import CocoFolder, main, write_coco
from stvit.data.coco_format import read_annotations
from stvit.data.coco_masks import decode, encode, run_lengths
from stvit.data.objects import SceneObjects
from stvit.data.scenes import CLASSES, SceneConfig

SIZE = (12, 16)  # height, width
CATEGORIES = [{"id": 7, "name": "bus"}, {"id": 3, "name": "cat"}]  # sparse and not in order, as COCO's are


def folder(tmp_path, annotations=(), count=1, split="train", **changes):
    """A data set of black images on disk; ``changes`` replace entries of the JSON."""
    (tmp_path / f"{split}2017").mkdir(parents=True)
    (tmp_path / "annotations").mkdir(exist_ok=True)
    entries = [{"id": 10 + i, "file_name": f"{i}.png", "height": 12, "width": 16} for i in range(count)]
    for entry in entries:
        Image.fromarray(np.zeros((*SIZE, 3), dtype=np.uint8)).save(
            tmp_path / f"{split}2017" / entry["file_name"]
        )
    content = {"images": entries, "annotations": list(annotations), "categories": CATEGORIES, **changes}
    (tmp_path / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
    return tmp_path


def annotation(**changes):
    square = [[2, 3, 6, 3, 6, 8, 2, 8]]  # x from 2 to 6, y from 3 to 8
    return {
        "id": 1, "image_id": 10, "category_id": 7, "bbox": [2, 3, 4, 5], "segmentation": square,
        "area": 20.0, "iscrowd": 0, **changes,
    }  # fmt: skip


def opened(tmp_path, *annotations, trainable=True, **changes):
    return CocoFolder(folder(tmp_path, annotations, **changes), "train", trainable)


def test_what_is_written_is_read_again(tmp_path):
    scenes = SceneObjects(SceneConfig(), "train", 5)
    write_coco(tmp_path, "train", (scenes[i] for i in range(5)), CLASSES)
    read = CocoFolder(tmp_path, "train", trainable=True)
    assert read.class_names == CLASSES and len(read) == 5
    for i in range(5):
        (image, target), (again, found) = scenes[i], read[i]
        assert again.equal(image)
        assert all(found[name].equal(target[name]) for name in target)


def test_scenes_command(tmp_path, capsys):
    assert main([str(tmp_path), "--train", "3", "--val", "2", "--image-size", "48"]) == 0
    assert [len(CocoFolder(tmp_path, split, True)) for split in ("train", "validation")] == [3, 2]
    assert "instances_val.json" in capsys.readouterr().out


def test_labels_follow_the_categories_numbers(tmp_path):
    data = opened(tmp_path, annotation(), annotation(id=2, category_id=3))
    assert data.class_names == ("cat", "bus")
    assert data[0][1]["labels"].tolist() == [2, 1]
    assert data[0][1]["boxes"].tolist() == [[2, 3, 6, 8]] * 2


def test_polygons_and_runs_say_the_same():
    expected = torch.zeros(SIZE, dtype=torch.uint8)
    expected[3:8, 2:6] = 1
    runs = encode(expected)
    flat = expected.T.flatten().tolist()  # column by column
    counts, value = [], 0
    while flat:
        run = next((i for i, v in enumerate(flat) if v != value), len(flat))
        counts, flat, value = [*counts, run], flat[run:], 1 - value
    polygon = [[2, 3, 6, 3, 6, 8, 2, 8]]
    halves = [[2, 3, 4, 3, 4, 8, 2, 8], [4, 3, 6, 3, 6, 8, 4, 8]]
    for segmentation in (runs, {"size": list(SIZE), "counts": counts}, polygon, halves):
        assert decode(segmentation, SIZE).equal(expected)


def test_image_without_objects(tmp_path):
    for trainable in (True, False):
        data = opened(tmp_path / str(trainable), trainable=trainable)
        target = data[0][1]
        assert target["boxes"].shape == (0, 4) and target["masks"].shape == (0, *SIZE)
        assert target["labels"].dtype == torch.int64


ODD = {
    "crowd": dict(iscrowd=1, segmentation={"size": list(SIZE), "counts": [0, 192]}),
    "no width": dict(bbox=[2, 3, 0, 5]),
    "no height": dict(bbox=[2, 3, 4, 0], area=0),
    "outside": dict(bbox=[20, 3, 4, 5], segmentation=[[20, 3, 24, 3, 24, 8, 20, 8]]),
    "empty mask": dict(segmentation=[]),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_annotations_are_not_trained_on_but_count_in_evaluation(tmp_path, name):
    annotations = annotation(), annotation(id=2, **ODD[name])
    assert len(opened(tmp_path / "a", *annotations)[0][1]["labels"]) == 1
    kept = opened(tmp_path / "b", *annotations, trainable=False)[0][1]
    assert len(kept["labels"]) == 2 and kept["iscrowd"].tolist() == [0, int(name == "crowd")]
    assert kept["boxes"][1, 2:].sub(kept["boxes"][1, :2]).tolist() == annotations[1]["bbox"][2:]


def test_what_sticks_out_is_cut_at_the_border(tmp_path):
    beyond = annotation(bbox=[-3, 9, 8, 9], segmentation=[[-3, 9, 5, 9, 5, 18, -3, 18]])
    target = opened(tmp_path, beyond)[0][1]
    assert target["boxes"].tolist() == [[0, 9, 5, 12]]
    assert target["masks"][0].sum() == 15 and target["masks"][0, 9:, :5].all()


def test_images_that_are_not_there(tmp_path):
    lost = [{"id": i, "file_name": "lost.jpg", "height": 1, "width": 1} for i in range(3)]
    with pytest.raises(ValueError, match="lost.jpg and 2 more, not found in .*train2017"):
        opened(tmp_path, images=lost)


@pytest.mark.parametrize("seed", range(5))
def test_the_lengths_of_runs_are_those_that_coco_packs(seed):
    mask = torch.rand(37, 53, generator=torch.Generator().manual_seed(seed)) < 0.1 + 0.2 * seed
    changes = (
        torch.cat([torch.tensor([0]), mask.T.flatten().int(), torch.tensor([2])]).diff().nonzero().flatten()
    )
    lengths = run_lengths(encode(mask)["counts"])
    assert np.cumsum(lengths).tolist() == changes.tolist() and sum(lengths) == mask.numel()


def test_image_of_another_size(tmp_path):
    data = opened(tmp_path, annotation())
    Image.fromarray(np.zeros((9, 9, 3), dtype=np.uint8)).save(tmp_path / "train2017" / "0.png")
    with pytest.raises(ValueError, match=r"0.png is 9 × 9, .* says 16 × 12"):
        data[0]


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(ValueError, match=r"no annotations/instances_val\*.json in .*--data scenes"):
        CocoFolder(folder(tmp_path), "validation", trainable=False)
    with pytest.raises(ValueError, match="has several"):
        (tmp_path / "annotations" / "instances_train2014.json").write_text("{}")
        CocoFolder(tmp_path, "train", trainable=True)
    (tmp_path / "broken.json").write_text('{"images": [')
    with pytest.raises(ValueError, match="broken.json is not JSON"):
        read_annotations(tmp_path / "broken.json")


def test_without_pycocotools_the_message_says_what_to_install(tmp_path, monkeypatch):
    class Absent:
        @staticmethod
        def find_spec(name, *_):
            if name.startswith("pycocotools"):
                raise ModuleNotFoundError(f"No module named {name!r}", name="pycocotools")

    data = opened(tmp_path, annotation())
    for name in [name for name in sys.modules if name.startswith("pycocotools")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent, *sys.meta_path])
    with pytest.raises(ImportError, match=r"COCO's layout needs pycocotools.*pip install 'stvit\[dense\]'"):
        data[0]


def test_grey_images_and_a_part_of_the_images(tmp_path):
    root = folder(tmp_path, count=3)
    Image.fromarray(np.full(SIZE, 9, dtype=np.uint8)).save(root / "train2017" / "0.png")
    data = CocoFolder(root, "train", trainable=True, count=2)
    assert len(data) == 2 and data[0][0].shape == (3, *SIZE) and (data[0][0] == 9).all()
