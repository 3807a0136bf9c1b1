"""The JSON of COCO's layout, read and checked: what cannot be meant is one error with its file, entry and remedy."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from stvit.data import coco_masks

NEEDED = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("id", "image_id", "category_id", "bbox", "segmentation"),
    "categories": ("id", "name"),
}
FARTHEST = 1e6  # pixels: a box beyond is a mistake
TALLEST = 100_000  # pixels of an image's side


def read_annotations(path: Path) -> dict[str, list[dict]]:
    """Images, annotations and categories of a file, all of which fit together."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    for name in NEEDED:
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise ValueError(f"{path} has no list of {name}; COCO's has {', '.join(NEEDED)}")
        check_entries(content[name], name, path)
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    for annotation in content["annotations"]:
        wrong = next(annotation_faults(annotation, sizes, categories), None)
        if wrong:
            raise ValueError(
                f"{path}: annotation {annotation['id']} {wrong}; correct or remove the annotation"
            )
    return content


def check_entries(entries: list, name: str, path: Path) -> None:
    """ValueError unless all are objects with the fields of their kind, and numbers of their own."""
    ids = set()
    for entry in entries:
        if not isinstance(entry, dict):
            raise ValueError(f"{path}: {shown(entry)} among the {name} is not an object; remove it")
        absent = [field for field in NEEDED[name] if field not in entry]
        if absent:
            raise ValueError(f"{path}: an entry of {name} has no {absent[0]}: {shown(entry)}")
        wrong = next(entry_faults(entry, name), None)
        if wrong:
            raise ValueError(f"{path}: the entry {shown(entry['id'])} of {name} {wrong}")
        if entry["id"] in ids:
            raise ValueError(
                f"{path}: two entries of {name} have the id {entry['id']}; each needs one of its own"
            )
        ids.add(entry["id"])


def entry_faults(entry: dict, name: str) -> Iterator[str]:
    """What is wrong with an image, a category or an annotation by itself."""
    if type(entry["id"]) is not int or abs(entry["id"]) >= 2**63:
        yield "has an id that is not a whole number"
    if name == "images":
        for side in ("height", "width"):
            if type(entry[side]) is not int or not 1 <= entry[side] <= TALLEST:
                yield f"has the {side} {shown(entry[side])}, not a whole number from 1 to {TALLEST:,}"
        file = entry["file_name"]
        if not isinstance(file, str) or not file:
            yield f"has the file_name {shown(file)}, not a name"
        elif PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
            yield f"has the file_name {shown(file)}, which leads out of the folder of images"
    if name == "categories" and not isinstance(entry["name"], str):
        yield f"has the name {shown(entry['name'])}, not a text"


def annotation_faults(annotation: dict, sizes: dict[int, tuple[int, int]], categories: set) -> Iterator[str]:
    """What is wrong with an annotation, ``sizes`` being the images' heights and widths by number."""
    for name, known in (("image_id", sizes), ("category_id", categories)):
        value = annotation[name]
        if type(value) is not int or value not in known:
            others = "images" if name == "image_id" else "categories"
            yield f"has {name} {shown(value)}, which is not among the file's {others}"
            return
    box = annotation["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        yield f"has the box {shown(box)}, not four finite numbers x, y, width, height"
    elif max(map(abs, box)) > FARTHEST:
        yield f"has the box {shown(box)}, which reaches beyond {FARTHEST:,.0f} pixels"
    if annotation.get("iscrowd", 0) not in (0, 1):
        yield f"has iscrowd {shown(annotation['iscrowd'])}, not 0 or 1"
    area = annotation.get("area", 0)
    if not is_number(area) or area < 0:
        yield f"has the area {shown(area)}, not a finite number of pixels"
    try:
        coco_masks.check(annotation["segmentation"], sizes[annotation["image_id"]])
    except ValueError as error:
        yield f"has a segmentation that cannot be read: {error}"


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def shown(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
