"""Attacks on data: damaged files, annotations that cannot be meant, wrong arguments: one clear line each."""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from stvit.data.ade20k import AdeFolder
from stvit.data.ade20k import main as write_ade
from stvit.data.coco import CocoFolder
from stvit.data.coco import main as write_coco
from stvit.data.folders import open_folder
from stvit.data.images import ImageError, read_numbers, read_pixels
from stvit.dense.detection.evaluate import main as evaluate_detector
from stvit.dense.segmentation.evaluate import main as evaluate_segmenter

SIZE = (12, 16)  # height, width


def picture(kind: str = "png", size: int = 24) -> bytes:
    pixels = torch.randint(0, 256, (size, size, 3), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, kind)
    return file.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that says to be ``side`` pixels wide and high."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


IMAGES = {
    "empty": (b"", "the file is empty"),
    "text": (b"no image at all", "it is no image"),
    "truncated jpeg": (picture("jpeg")[:300], "cannot be decoded"),
    "truncated png": (picture()[:400], "cannot be decoded"),
    "flipped bytes": (picture()[:60] + b"\xff" * 40 + picture()[100:], "cannot be decoded"),
    "a header alone": (picture()[:16], "cannot be decoded"),
    "a large image": (bomb(10_000), "is larger than"),  # of which Pillow only warns
    "a bomb": (bomb(14_000), "is larger than"),  # 196 megapixels
    "zip": (b"PK\x03\x04" + b"\0" * 60, "it is no image"),
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("read", [read_pixels, read_numbers])
def test_images_and_masks_that_cannot_be_read(read, name, tmp_path):
    content, words = IMAGES[name]
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=f"photo.png .*{words}") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_images_that_are_not_there(tmp_path):
    with pytest.raises(ImageError, match="gone.png does not exist"):
        read_pixels(tmp_path / "gone.png")


def photographs(root: Path, **counts: int) -> Path:
    """``train_cat=2`` writes two images of cats to train."""
    for name, count in counts.items():
        split, label = name.split("_")
        (root / split / label).mkdir(parents=True)
        for i in range(count):
            (root / split / label / f"{i}.png").write_bytes(picture())
    return root


def folder_config(**changes) -> SimpleNamespace:
    return SimpleNamespace(**{"train_images": 0, "eval_images": 0, "data_seed": 0, **changes})


@pytest.mark.parametrize("name", IMAGES)
def test_a_damaged_photograph_is_named_and_not_replaced(name, tmp_path):
    root = photographs(tmp_path, train_cat=2)
    (root / "train" / "cat" / "1.png").write_bytes(IMAGES[name][0])
    data = open_folder(folder_config(), str(root), training=True)
    assert data[0][0].size == (24, 24)
    with pytest.raises(ImageError, match="train/cat/1.png"):
        data[1]


FOLDERS = {
    "one class more in validation": (
        dict(train_cat=1, validation_cat=1, validation_dog=1),
        r"train has 1 \(cat\), .*validation 2 \(cat, dog\); only in .*validation: dog",
    ),
    "one class less in validation": (
        dict(train_cat=1, train_dog=1, validation_cat=1),
        r"train has 2 \(cat, dog\), .*validation 1 \(cat\); only in .*train: dog",
    ),
    "other classes": (
        dict(train_cat=1, validation_dog=1), "only in .*train: cat; only in .*validation: dog"
    ),
    "no images to train on": (dict(train_cat=0, validation_cat=1), "no images in .*train: a folder of images"),
    "no images to evaluate on": (dict(train_cat=1, validation_cat=0), "no images in .*validation: a folder"),
    "no validation": (dict(train_cat=1), "no images in .*validation"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_whose_splits_do_not_fit(name, tmp_path):
    counts, words = FOLDERS[name]
    root = str(photographs(tmp_path, **counts))
    with pytest.raises(ValueError, match=words) as error:
        open_folder(folder_config(), root, training=True)
        open_folder(folder_config(), root, training=False)
    assert "\n" not in str(error.value)


def test_images_outside_the_folders_of_classes(tmp_path):
    root = photographs(tmp_path, train_cat=1)
    (root / "train" / "loose.png").write_bytes(picture())
    with pytest.raises(ValueError, match="loose.png is in no class's folder"):
        open_folder(folder_config(), str(root), training=True)


def test_the_same_class_has_the_same_number_in_both_splits(tmp_path):
    """The folder of a class may be empty in validation; the other classes keep their numbers."""
    root = photographs(tmp_path, train_ant=1, train_bee=1, validation_ant=0, validation_bee=1)
    held_out = open_folder(folder_config(), str(root), training=False)
    assert [label for _, label in held_out] == [1]


def coco(root: Path, annotations: list, **changes) -> Path:
    (root / "train2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    Image.new("RGB", SIZE[::-1]).save(root / "train2017" / "0.png")
    content = {
        "images": [{"id": 10, "file_name": "0.png", "height": 12, "width": 16}],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "bus"}],
        **changes,
    }
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    return root


def annotation(**changes) -> dict:
    square = [[2, 3, 6, 3, 6, 8, 2, 8]]
    return {
        "id": 1, "image_id": 10, "category_id": 7, "bbox": [2, 3, 4, 5], "segmentation": square, "area": 20.0,
        **changes,
    }  # fmt: skip


def runs(counts) -> dict:
    return {"segmentation": {"size": list(SIZE), "counts": counts}}


NAN, INF = float("nan"), float("inf")
ANNOTATIONS = {
    "NaN in a box": (dict(bbox=[2, 3, NAN, 5]), "annotation 1 has the box .*NaN.*not four finite numbers"),
    "an infinite box": (dict(bbox=[2, 3, INF, 5]), "annotation 1 has the box"),
    "no box": (dict(bbox=None), "annotation 1 has the box null"),
    "words in a box": (dict(bbox=["2", 3, 4, 5]), "annotation 1 has the box"),
    "truth in a box": (dict(bbox=[True, 3, 4, 5]), "annotation 1 has the box"),
    "a box of two": (dict(bbox=[1, 2]), r"annotation 1 has the box \[1, 2\]"),
    "a box that is a number": (dict(bbox=4), "annotation 1 has the box 4"),
    "a box far away": (dict(bbox=[1e30, 0, 1, 1]), "reaches beyond 1,000,000 pixels"),
    "image id of text": (dict(image_id="10"), "annotation 1 has image_id '10', which is not among"),
    "image id a list": (dict(image_id=[10]), "annotation 1 has image_id"),
    "image id unknown": (dict(image_id=99), "image_id 99, which is not among the file's images"),
    "category unknown": (dict(category_id=1), "category_id 1, which is not among the file's categories"),
    "category a fraction": (dict(category_id=7.0), "annotation 1 has category_id 7.0"),
    "id of text": (dict(id="a"), "the entry 'a' of annotations has an id that is not a whole number"),
    "id beyond 64 bits": (dict(id=2**70), "an id that is not a whole number"),
    "area null": (dict(area=None), "annotation 1 has the area null"),
    "area NaN": (dict(area=NAN), "annotation 1 has the area NaN"),
    "area negative": (dict(area=-1), "annotation 1 has the area -1"),
    "crowd of two": (dict(iscrowd=2), "annotation 1 has iscrowd 2, not 0 or 1"),
    "crowd of text": (dict(iscrowd="no"), "annotation 1 has iscrowd 'no'"),
    "NaN in a polygon": (dict(segmentation=[[2, 3, 6, 3, NAN, 8]]), "annotation 1 .*not finite or beyond"),
    "a polygon far away": (dict(segmentation=[[2, 3, 6, 3, 1e12, 8]]), "annotation 1 .*beyond 100,000"),
    "two points": (dict(segmentation=[[1, 2, 3, 4]]), "annotation 1 .*three or more points"),
    "half a point": (dict(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "annotation 1 .*three or more points"),
    "words in a polygon": (dict(segmentation=[["a"] * 6]), "annotation 1 .*a list of numbers"),
    "a polygon not in a list": (dict(segmentation=[1, 2, 3, 4, 5, 6]), "annotation 1 .*a list of numbers"),
    "segmentation null": (dict(segmentation=None), "annotation 1 .*NoneType, neither polygons nor runs"),
    "segmentation a text": (dict(segmentation="polygon"), "annotation 1 .*str, neither polygons nor runs"),
    "runs negative": (runs([-5, 197]), "annotation 1 .*runs of -5 pixels"),
    "runs too short": (runs([5]), "runs of 5 pixels for 192"),
    "runs too long": (runs([192, 192]), "runs of 384 pixels for 192"),
    "runs of fractions": (runs([1.5, 190.5]), "whole numbers or a string"),
    "no runs": (runs([]), "there are no runs"),
    "a string of no runs": (runs(""), "annotation 1 .*there are no runs"),
    "a string of runs too short": (runs("0"), "runs of 0 pixels for 192"),
    "a string of runs that breaks off": (runs("o"), "ends too early"),
    "a damaged string of runs": (runs("zz~\x01"), "the string of runs is damaged"),
    "an endless number in a string": (runs("o" * 50), "the string of runs is damaged"),
    "runs for another size": (
        dict(segmentation={"size": [5, 5], "counts": [25]}), r"runs for \[5, 5\], an image of \[12, 16\]"
    ),
    "runs without a size": (dict(segmentation={"counts": [192]}), "runs are {size"),
}  # fmt: skip


@pytest.mark.parametrize("name", ANNOTATIONS)
@pytest.mark.parametrize("trainable", [True, False])
def test_annotations_that_cannot_be_meant(name, trainable, tmp_path):
    changes, words = ANNOTATIONS[name]
    with pytest.raises(ValueError, match=words) as error:
        CocoFolder(coco(tmp_path, [annotation(**changes)]), "train", trainable)
    assert "instances_train2017.json" in str(error.value) and "\n" not in str(error.value)


IMAGE = {"id": 10, "file_name": "0.png", "height": 12, "width": 16}
CAT = {"id": 3, "name": "cat"}
FILES = {
    "two images of one id": (dict(images=[IMAGE, IMAGE]), "two entries of images have the id 10"),
    "two categories of one id": (dict(categories=[CAT, CAT]), "two entries of categories have the id 3"),
    "two annotations of one id": (dict(annotations=[annotation()] * 2), "two entries of annotations have the id 1"),
    "an image id of text": (dict(images=[{**IMAGE, "id": "10"}]), "entry '10' of images has an id that is not a"),
    "an image id null": (dict(images=[{**IMAGE, "id": None}]), "an id that is not a whole number"),
    "a height of text": (dict(images=[{**IMAGE, "height": "12"}]), "has the height '12'"),
    "a width of 0": (dict(images=[{**IMAGE, "width": 0}]), "has the width 0"),
    "a file name that leads out": (dict(images=[{**IMAGE, "file_name": "../x.png"}]), "leads out of the folder"),
    "an absolute file name": (dict(images=[{**IMAGE, "file_name": "/etc/x.png"}]), "leads out of the folder"),
    "a file name null": (dict(images=[{**IMAGE, "file_name": None}]), "has the file_name null"),
    "a category without a text": (dict(categories=[{"id": 3, "name": 5}]), "has the name 5, not a text"),
    "a number among the images": (dict(images=[3]), "3 among the images is not an object"),
    "a number among the annotations": (dict(annotations=[3]), "3 among the annotations is not an object"),
    "null among the categories": (dict(categories=[None]), "null among the categories is not an object"),
    "an annotation without a box": (dict(annotations=[{"id": 1}]), "an entry of annotations has no image_id"),
    "no categories": (dict(categories=None), "no list of categories"),
    "images in an object": (dict(images={"a": 1}), "no list of images"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_of_annotations_that_cannot_be_meant(name, tmp_path):
    changes, words = FILES[name]
    with pytest.raises(ValueError, match=words) as error:
        CocoFolder(coco(tmp_path, **{"annotations": [annotation()], **changes}), "train", trainable=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[1, 2", "[1]", "3", "null", "[" * 100_000, '{"images": 1}', "\x00"])
def test_files_of_annotations_that_are_none(text, tmp_path):
    root = coco(tmp_path, [])
    (root / "annotations" / "instances_train2017.json").write_text(text)
    with pytest.raises(ValueError, match="instances_train2017.json (is not JSON|has no list of images)"):
        CocoFolder(root, "train", trainable=True)


def test_the_area_that_a_file_leaves_out_is_that_of_the_mask(tmp_path):
    bare = annotation()
    del bare["area"]
    assert CocoFolder(coco(tmp_path, [bare]), "train", trainable=True)[0][1]["area"].tolist() == [20.0]


def ade(root: Path, image: bytes, mask: bytes, classes: str = "") -> Path:
    for split in ("training", "validation"):
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        (root / "images" / split / "0.jpg").write_bytes(image)
        (root / "annotations" / split / "0.png").write_bytes(mask)
    if classes:
        (root / "objectInfo150.txt").write_bytes(classes.encode("latin-1"))
    return root


def encoded(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png")
    return file.getvalue()


GREY = encoded(np.full((24, 24), 2, dtype=np.uint8))
MAPS = {
    **{f"image: {name}": (content, GREY, f"0.jpg .*{words}") for name, (content, words) in IMAGES.items()},
    **{f"mask: {name}": (picture("jpeg"), content, f"0.png .*{words}") for name, (content, words) in IMAGES.items()},
    "a mask in colour": (picture(), picture(), "0.png is RGB: a map of classes has one number of 8 bits a pixel"),
    "a mask of 16 bits": (picture(), encoded(np.full((24, 24), 300, dtype=np.uint16)), "0.png is I;16"),
    "a class too many": (picture(), encoded(np.full((24, 24), 151, dtype=np.uint8)), "the number 151"),
    "a mask of another size": (picture(), encoded(np.zeros((9, 9), dtype=np.uint8)), "is 9 × 9"),
}  # fmt: skip


@pytest.mark.parametrize("name", MAPS)
def test_photographs_and_maps_that_do_not_fit(name, tmp_path):
    image, mask, words = MAPS[name]
    with pytest.raises(ValueError, match=words) as error:
        AdeFolder(ade(tmp_path, image, mask), "train")[0]
    assert "\n" not in str(error.value)


def test_class_names_that_are_no_text(tmp_path):
    with pytest.raises(ValueError, match="objectInfo150.txt is not a text in UTF-8"):
        AdeFolder(ade(tmp_path, picture(), GREY, "Idx\tName\n1\tcaf\xe9\n"), "train")


COMMANDS = {
    "coco: no images": (write_coco, "{}/x --train -1", "--train is -1; it must be 1 or more"),
    "coco: none to evaluate": (write_coco, "{}/x --val 0", "--val is 0; it must be 1 or more"),
    "coco: size 0": (write_coco, "{}/x --train 1 --image-size 0", "--image-size is 0; it must be 8 or more"),
    "coco: size -8": (write_coco, "{}/x --train 1 --image-size -8", "--image-size is -8"),
    "coco: seed": (write_coco, "{}/x --train 1 --data-seed -1", "--data-seed is -1"),
    "coco: below a file": (write_coco, "{}/file/x --train 1 --val 1 --image-size 16", "Not a directory"),
    "coco: a device": (write_coco, "/dev/full --train 1 --val 1 --image-size 16", "/dev/full"),
    "ade: no images": (write_ade, "{}/x --train -1", "--train is -1; it must be 1 or more"),
    "ade: size 0": (write_ade, "{}/x --train 1 --size 0", "--size is 0; it must be 8 or more"),
    "ade: size -8": (write_ade, "{}/x --train 1 --size -8", "--size is -8"),
    "ade: below a file": (write_ade, "{}/file/x --train 1 --size 16", "Not a directory"),
    "ade: a device": (write_ade, "/dev/full --train 1 --size 16", "/dev/full"),
    "segment: no folder": (evaluate_segmenter, "{}/missing", "there is no folder .*missing"),
    "segment: a file": (evaluate_segmenter, "{}/file", "there is no folder"),
    "segment: an empty folder": (evaluate_segmenter, "{}", "no config.json in"),
    "segment: images": (evaluate_segmenter, "{} --images -1", "--images is -1"),
    "segment: size": (evaluate_segmenter, "{} --image-size 0", "--image-size is 0"),
    "segment: device": (evaluate_segmenter, "{} --device nope", "--device nope cannot be used here"),
    "detect: no folder": (evaluate_detector, "{}/missing", "there is no folder .*missing"),
    "detect: an empty folder": (evaluate_detector, "{}", "no config.json in"),
    "detect: device": (evaluate_detector, "{} --device cuda:77", "--device cuda:77 cannot be used here"),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_answer_in_one_line(name, tmp_path, capsys):
    main, words, expected = COMMANDS[name]
    (tmp_path / "file").write_text("")
    assert main(words.format(tmp_path, tmp_path).split()) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert re.search(expected, said[0])


@pytest.mark.parametrize("main", [write_coco, write_ade, evaluate_segmenter, evaluate_detector])
def test_commands_without_a_folder(main, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2 and "required" in capsys.readouterr().err
