"""``python -m stvit.dense.detection.evaluate``: average precision of boxes and masks as COCO computes it.

python -m stvit.dense.detection.evaluate runs/mine/model
python -m stvit.dense.detection.evaluate runs/mine/model --data path/to/coco --json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.detection import MeanAveragePrecision
from torchmetrics.detection.helpers import CocoBackend
from tqdm import tqdm

from stvit.command import run_command
from stvit.dense.command import build_parser, check_class_count, open_model
from stvit.dense.detection.source import held_out_batches
from stvit.extras import require

# Names here and in torchmetrics.
SCORES = {
    "ap": "map", "ap50": "map_50", "ap75": "map_75",
    "ap_small": "map_small", "ap_medium": "map_medium", "ap_large": "map_large",
}  # fmt: skip
KINDS = {"": "bbox", "mask_": "segm"}


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable,
    sizes: dict[str, tuple[float, float]],
    device: str | torch.device = "cpu",
) -> dict:
    """Per cent: ap, ap50, ap75, ap_small, … of boxes and mask_ap, … of masks; None where COCO has no value."""
    was_training = model.training
    model.eval()
    metric = average_precision(sizes)
    count = objects = 0
    for images, targets in batches:
        found = model([image.to(device) for image in images])
        metric.update([predicted(image) for image in found], [labelled(target) for target in targets])
        count, objects = count + len(images), objects + sum(len(t["labels"]) for t in targets)
    model.train(was_training)
    count, objects = total(count, objects, device)
    if not count:
        raise ValueError("there are no images to evaluate")
    return {**scores(metric), "images": count, "objects": objects}


def predicted(image: dict[str, Tensor]) -> dict[str, Tensor]:
    """The detections of an image, masks as pixels."""
    found = {name: image[name].detach().float().cpu() for name in ("boxes", "scores")}
    return {**found, "labels": image["labels"].cpu(), "masks": (image["masks"][:, 0] >= 0.5).cpu()}


def labelled(target: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: target[name].cpu() for name in ("boxes", "labels", "masks", "iscrowd", "area")}


def total(count: int, objects: int, device) -> tuple[int, int]:
    """Over all processes."""
    both = torch.tensor([count, objects], device=device)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(both)
    return tuple(both.tolist())


def average_precision(sizes: dict[str, tuple[float, float]]) -> MeanAveragePrecision:
    """torchmetrics' metric by pycocotools, with areas of one's own for small, medium and large."""
    require("pycocotools.mask", "average precision")
    # torchmetrics' own are rounded to single precision: 0.6 is 0.60000002 there, which an overlap of 3/5 fails
    overlaps, recalls = np.linspace(0.5, 0.95, 10).tolist(), np.linspace(0, 1, 101).tolist()
    metric = MeanAveragePrecision("xyxy", tuple(KINDS.values()), overlaps, recalls, backend="pycocotools")
    metric.warn_on_many_detections = False
    metric._coco_backend = Sized("pycocotools", sizes)
    return metric


class Sized(CocoBackend):
    """pycocotools with other areas for small, medium and large objects."""

    def __init__(self, backend: str, sizes: dict[str, tuple[float, float]]):
        super().__init__(backend)
        self.ranges = tuple(tuple(sizes[name]) for name in ("small", "medium", "large"))

    @property
    def cocoeval(self) -> type:
        return sized_evaluation(self.ranges)


@lru_cache
def sized_evaluation(ranges: tuple[tuple[float, float], ...]) -> type:
    from pycocotools.cocoeval import COCOeval

    class SizedEvaluation(COCOeval):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.params.areaRng = [[0.0, 1e10], *map(list, ranges)]

    return SizedEvaluation


def scores(metric: MeanAveragePrecision) -> dict[str, float | None]:
    found = metric.compute()
    result = {}
    for prefix, kind in KINDS.items():
        for name, theirs in SCORES.items():
            value = float(found[f"{kind}_{theirs}"])
            result[f"{prefix}{name}"] = None if value < 0 else 100 * value
    return result


def main(argv: list[str] | None = None) -> int:
    args = build_parser("stvit.dense.detection.evaluate", __doc__, "detect").parse_args(argv)
    return run_command(lambda: run(args), status=2, debug=args.debug)


def run(args: argparse.Namespace) -> None:
    """Score the detector as the command line says, and print the scores."""
    model, config, device = open_model(args, "detect")
    names, batches, sizes = held_out_batches(config, args.split)
    check_class_count(names, model, args.data)
    found = evaluate(model, tqdm(batches, leave=False), sizes, device)
    print(json.dumps(found) if args.json else describe(found))


def describe(found: dict) -> str:
    rows = [("", "boxes", "masks")]
    for name in SCORES:
        values = (found[f"{prefix}{name}"] for prefix in KINDS)
        rows.append((name, *("-" if value is None else f"{value:.2f}" for value in values)))
    table = [f"{name:<10} {box:>7} {mask:>7}" for name, box, mask in rows]
    return "\n".join([f"images     {found['images']:,} with {found['objects']:,} objects", *table])


if __name__ == "__main__":
    raise SystemExit(main())
