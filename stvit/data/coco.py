"""COCO's JSON layout: images, boxes, masks as polygons or runs, crowds; reading, writing, and what is wrong.

    FOLDER/annotations/instances_train2017.json     FOLDER/train2017/000000000009.jpg
    FOLDER/annotations/instances_val2017.json       FOLDER/val2017/…

    python -m stvit.data.coco path/to/scenes --train 1024 --val 256      scenes in this layout

``CocoFolder`` reads either. Categories get the labels 1 to K in the order of their numbers; 0 is the
background. Where COCO's tools do something with odd annotations, so does this: see ``CocoFolder``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from stvit.command import check_numbers, run_command
from stvit.data.coco_format import read_annotations
from stvit.data.coco_masks import decode, encode
from stvit.data.images import read_pixels
from stvit.data.objects import SceneObjects
from stvit.data.scenes import CLASSES, SMALLEST, SceneConfig, sized

NAMES = {"train": "train", "validation": "val", "val": "val", "test": "test"}


class CocoFolder(torch.utils.data.Dataset):
    """One split as (image (3, H, W) uint8, target), checked when it is opened.

    target: boxes (N, 4) x₀, y₀, x₁, y₁; labels (N,); masks (N, H, W) uint8; iscrowd, area (N,); image_id

    An image without objects has a target of no rows. Training leaves out what cannot be learnt: crowds,
    boxes without area, boxes or masks of which nothing lies in the image (``trainable=True``). For
    evaluation all annotations stay, as in COCO's own: a crowd is a region to ignore, an object without
    area is one that nobody finds. What lies partly outside is cut at the border.
    """

    def __init__(self, root: str | Path, split: str, trainable: bool, count: int = 0):
        self.annotations, self.folder = find_split(Path(root), split)
        self.trainable = trainable
        content = read_annotations(self.annotations)
        categories = sorted(content["categories"], key=lambda category: category["id"])
        self.class_names = tuple(category["name"] for category in categories)
        self.labels = {category["id"]: i for i, category in enumerate(categories, 1)}
        images = sorted(content["images"], key=lambda image: image["id"])
        self.images = images[:count] if count else images
        self.objects: dict[int, list[dict]] = {image["id"]: [] for image in images}
        for annotation in content["annotations"]:
            self.objects[annotation["image_id"]].append(annotation)
        self.check_files()

    def check_files(self) -> None:
        there = {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()
        missing = [image["file_name"] for image in self.images if image["file_name"] not in there]
        missing = [
            name for name in missing if not (self.folder / name).exists()
        ]  # names with folders in them
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ValueError(f"{self.annotations} names {missing[0]}{more}, not found in {self.folder}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        entry = self.images[int(i)]
        image = read_pixels(self.folder / entry["file_name"])
        if tuple(image.shape[1:]) != (entry["height"], entry["width"]):
            raise ValueError(
                f"{entry['file_name']} is {image.shape[2]} × {image.shape[1]}, {self.annotations} says "
                f"{entry['width']} × {entry['height']}"
            )
        return image, self.target(entry)

    def target(self, entry: dict) -> dict[str, Tensor]:
        objects, size = self.objects[entry["id"]], (entry["height"], entry["width"])
        boxes = torch.tensor([o["bbox"] for o in objects], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]  # x, y, width, height → corners
        masks = [decode(o["segmentation"], size) for o in objects]
        areas = [float(o.get("area", mask.sum())) for o, mask in zip(objects, masks, strict=True)]
        target = {
            "boxes": boxes,
            "labels": torch.tensor([self.labels[o["category_id"]] for o in objects], dtype=torch.int64),
            "masks": torch.stack(masks) if masks else torch.zeros(0, *size, dtype=torch.uint8),
            "iscrowd": torch.tensor([o.get("iscrowd", 0) for o in objects], dtype=torch.int64),
            "area": torch.tensor(areas),  # of the mask where the file does not say
        }
        image_id = {"image_id": torch.tensor(entry["id"])}
        return {**(learnable(target, size) if self.trainable else target), **image_id}


def open_coco(config, place: str, split: str, count: int) -> CocoFolder:
    """``--data FOLDER`` of detection: for training what can be learnt, for evaluation everything."""
    return CocoFolder(place, split, trainable=split == "train", count=count)


def find_split(root: Path, split: str) -> tuple[Path, Path]:
    """The annotations of a split and the folder of its images, whatever year its name has."""
    found = sorted((root / "annotations").glob(f"instances_{NAMES.get(split, split)}*.json"))
    if not found:
        raise ValueError(
            f"no annotations/instances_{NAMES.get(split, split)}*.json in {root}: COCO's layout has "
            "annotations/instances_train2017.json, annotations/instances_val2017.json, train2017/ and val2017/; "
            "--data scenes needs no files"
        )
    if len(found) > 1:
        raise ValueError(f"{root} has several: {', '.join(path.name for path in found)}; keep one")
    return found[0], root / found[0].stem.removeprefix("instances_")


def learnable(target: dict[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
    """What a detector can be trained on: single objects of which box and mask are in the image."""
    height, width = size
    boxes = target["boxes"].clone()
    boxes[:, 0::2], boxes[:, 1::2] = boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)
    keep = (
        (boxes[:, 2:] > boxes[:, :2]).all(1)
        & (target["iscrowd"] == 0)
        & target["masks"].flatten(1).bool().any(1)
    )
    return {name: value[keep] for name, value in {**target, "boxes": boxes}.items()}


def write_coco(
    root: str | Path,
    split: str,
    items: Iterable[tuple[Tensor, dict[str, Tensor]]],
    class_names: tuple[str, ...],
) -> Path:
    """Images (3, H, W) uint8 and targets (boxes, labels, masks; iscrowd if any) in COCO's layout."""
    root, split = Path(root), NAMES.get(split, split)
    folder = root / split
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number, (image, target) in enumerate(items, 1):
        name = f"{number:012d}.png"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / name)
        images.append({"id": number, "file_name": name, "height": image.shape[1], "width": image.shape[2]})
        for k in range(len(target["labels"])):
            annotations.append({"id": len(annotations) + 1, "image_id": number, **annotation_of(target, k)})
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(exist_ok=True)
    categories = [{"id": i, "name": name} for i, name in enumerate(class_names, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def annotation_of(target: dict[str, Tensor], k: int) -> dict:
    x0, y0, x1, y1 = target["boxes"][k].tolist()
    return {
        "category_id": int(target["labels"][k]),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "segmentation": encode(target["masks"][k]),
        "area": int(target["masks"][k].sum()),
        "iscrowd": int(target["iscrowd"][k]) if "iscrowd" in target else 0,
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m stvit.data.coco",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="folder to write scenes to, in COCO's layout")
    parser.add_argument("--train", type=int, default=1024, help="training images (1024)")
    parser.add_argument("--val", type=int, default=256, help="images to evaluate (256)")
    parser.add_argument("--image-size", type=int, default=64, help="height and width (64)")
    parser.add_argument("--data-seed", type=int, default=0, help="which scenes (0)")
    args = parser.parse_args(argv)
    return run_command(lambda: write_scenes(args), status=2)


def write_scenes(args: argparse.Namespace) -> None:
    """Scenes as a folder in COCO's layout."""
    check_numbers(args, {"train": 1, "val": 1, "image_size": SMALLEST, "data_seed": 0})
    config = sized(SceneConfig(seed=args.data_seed), args.image_size)
    for split, count in (("train", args.train), ("validation", args.val)):
        scenes = SceneObjects(config, split, count)
        items = tqdm((scenes[i] for i in range(count)), f"{split} images", count, disable=None)
        print(write_coco(args.out, split, items, CLASSES))


if __name__ == "__main__":
    raise SystemExit(main())
