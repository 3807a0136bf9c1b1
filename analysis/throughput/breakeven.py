"""From where on a method pays: the smallest batch or image size, the largest share of FLOPs, at which it is faster."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from analysis.throughput.specs import split

if TYPE_CHECKING:
    import pandas as pd

KEPT_AXIS = {"batch_size": "image_size", "image_size": "batch_size"}  # what is swept → what stays
SETTING = ("model", "mode", "task", "precision", "device", "four_maps")


def break_even(rows: list[dict]) -> pd.DataFrame:
    """A row for each model, mode and swept axis.

    pays_from: from here on the median speed-up is above 1; None: not at the largest measured value
    clearly_from: from here on its lower quartile is above 1
    """
    import pandas as pd

    found = []
    for axis, other in KEPT_AXIS.items():
        groups: dict[tuple, list[dict]] = {}
        for row in rows:
            if not row["against"].startswith(f"{row['model']},"):  # a base is not faster than itself
                groups.setdefault((*(row[name] for name in SETTING), row[other]), []).append(row)
        for (*setting, fixed), points in groups.items():
            points = sorted(points, key=lambda row: extent(row[axis]))
            if len({row[axis] for row in points}) < 2:
                continue
            found.append(
                {
                    **dict(zip(SETTING, setting, strict=True)),
                    "swept": axis,
                    other: fixed,
                    "measured": ", ".join(str(row[axis]) for row in points),
                    "pays_from": smallest([(row[axis], row["ratio"]) for row in points]),
                    "clearly_from": smallest([(row[axis], row["ratio_q1"]) for row in points]),
                }
            )
    return pd.DataFrame(found)


def break_even_by_flops(rows: list[dict]) -> pd.DataFrame:
    """A row for each model that was measured with several options: it pays with at most so much of the FLOPs.

    pays_at: the largest share of the base's FLOPs at which, and below which, the median speed-up is above 1
    clearly_at: the same of its lower quartile
    """
    import pandas as pd

    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        name, options = split(row["model"])
        if options:
            groups.setdefault((name, row["mode"], row["batch_size"], row["image_size"]), []).append(row)
    found = []
    for (name, mode, batch, size), points in groups.items():
        shares = [-row["flops_ratio"] for row in points]  # ascending: the less is left, the further it is
        if len(set(shares)) > 1:
            found.append(
                {
                    "model": name, "mode": mode, "swept": "flops_ratio", "batch_size": batch, "image_size": size,
                    "measured": ", ".join(f"{-share:.2f}" for share in sorted(shares)),
                    "pays_at": share_of(points, "ratio"), "clearly_at": share_of(points, "ratio_q1"),
                }
            )  # fmt: skip
    return pd.DataFrame(found)


def share_of(points: list[dict], ratio: str) -> float | None:
    start = smallest(sorted((-row["flops_ratio"], row[ratio]) for row in points))
    return None if start is None else -start


def smallest(points: list[tuple[Any, float]]) -> Any:
    """The first value of an ascending axis from which every ratio is above 1."""
    start = None
    for value, ratio in reversed(points):
        if not ratio > 1:
            break
        start = value
    return start


def extent(value: float | str) -> float:
    """A number as it is, an image size by its pixels."""
    return math.prod(map(int, value.split("x"))) if isinstance(value, str) else value
