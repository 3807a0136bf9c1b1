"""COCO's masks: polygons, or runs of 0 and 1 down the columns, as lists of numbers or as strings.

``check`` says what is wrong with one before pycocotools sees it, which reads past the end of runs that are too short.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stvit.extras import require

LARGEST = 100_000  # pixels from the corner of the image; what lies farther away is a mistake


def check(segmentation: Any, size: tuple[int, int]) -> None:
    """ValueError with what is wrong with polygons or runs for an image of ``size`` (height, width)."""
    if isinstance(segmentation, dict):
        check_runs(segmentation, size)
    elif isinstance(segmentation, list):
        for polygon in segmentation:
            check_polygon(polygon)
    else:
        raise ValueError(f"it is {type(segmentation).__name__}, neither polygons nor runs")


def check_polygon(polygon: Any) -> None:
    if not isinstance(polygon, list) or not {*map(type, polygon)} <= {int, float}:
        raise ValueError("a polygon is a list of numbers x, y, x, y, …")
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError("a polygon needs three or more points x, y")
    if not all(map(math.isfinite, polygon)) or max(map(abs, polygon)) > LARGEST:
        raise ValueError(f"a polygon has a coordinate that is not finite or beyond {LARGEST:,}")


def check_runs(runs: dict, size: tuple[int, int]) -> None:
    if not isinstance(runs.get("size"), list) or "counts" not in runs:
        raise ValueError("runs are {size: [height, width], counts: …}")
    if runs["size"] != list(size):
        raise ValueError(f"runs for {runs['size']}, an image of {list(size)}")
    counts = runs["counts"]
    if isinstance(counts, str):
        counts = run_lengths(counts)
    if not isinstance(counts, list) or not {*map(type, counts)} <= {int}:
        raise ValueError("counts of runs are whole numbers or a string")
    if not counts or min(counts) < 0:
        raise ValueError(f"runs of {min(counts)} pixels" if counts else "there are no runs")
    if sum(counts) != size[0] * size[1]:
        raise ValueError(f"runs of {sum(counts)} pixels for {size[0] * size[1]}")


def run_lengths(text: str) -> list[int]:
    """The lengths that COCO's string of runs stands for.

    A number has 5 bits in each character (plus 48), the lowest first; bit 5 says that more follow, the highest bit is
    the sign. From the fourth number on they are differences to the last but one.
    """
    lengths: list[int] = []
    value, shift = 0, 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise ValueError(f"the string of runs is damaged at {letter!r}")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
            value, shift = 0, 0
    if shift:
        raise ValueError("the string of runs ends too early")
    return lengths


def decode(segmentation: list | dict, size: tuple[int, int]) -> Tensor:
    """Polygons or runs by COCO's own tools: (H, W) uint8; what lies outside the image is cut off."""
    tools = require("pycocotools.mask", "COCO's layout")
    check(segmentation, size)
    if not segmentation:
        return torch.zeros(size, dtype=torch.uint8)
    if isinstance(segmentation, list):
        runs = tools.merge(tools.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
        runs = tools.frPyObjects(segmentation, *size)
    else:
        runs = segmentation
    return torch.from_numpy(tools.decode(runs))


def encode(mask: Tensor) -> dict:
    """(H, W) of 0 and 1 → runs, as JSON can hold them."""
    tools = require("pycocotools.mask", "COCO's layout")
    runs = tools.encode(np.asfortranarray(mask.cpu().numpy().astype(np.uint8)))
    return {"size": list(map(int, runs["size"])), "counts": runs["counts"].decode("ascii")}
