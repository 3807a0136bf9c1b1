"""Average precision of boxes and masks as COCO computes it, through torchmetrics and pycocotools."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.detection import MeanAveragePrecision
from torchmetrics.detection.helpers import CocoBackend

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
        metric.update([told(image) for image in found], [true(target) for target in targets])
        count, objects = count + len(images), objects + sum(len(t["labels"]) for t in targets)
    model.train(was_training)
    count, objects = total(count, objects, device)
    if not count:
        raise ValueError("there are no images to evaluate")
    return {**scores(metric), "images": count, "objects": objects}


def told(image: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the model says about an image, masks as pixels."""
    found = {name: image[name].detach().float().cpu() for name in ("boxes", "scores")}
    return {**found, "labels": image["labels"].cpu(), "masks": (image["masks"][:, 0] >= 0.5).cpu()}


def true(target: dict[str, Tensor]) -> dict[str, Tensor]:
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
