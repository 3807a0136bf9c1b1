"""The students that the package ships: adapters trained on all crops, each as a small file beside public weights.

The files are ``stvit/distilled/NAME.safetensors``; how each was made and what it scores is
``results/distilled/shipped/NAME.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from analysis.distilled.cells import Cell, World, measured, multiply_adds, student_of
from analysis.distilled.design import BASE, MODEL, ROWS, SIZE
from analysis.formats import dump
from analysis.results import RESULTS, ROOT, environment

FILES, RECORDS = ROOT / "stvit" / "distilled", RESULTS / "distilled" / "shipped"
BUDGET = dict(train_images=2500, epochs=2, lr=5e-4)
CHECK_CROPS = 40  # of PyPI's photographs, on which a fresh clone can compute the cosine again
COLUMNS = (
    "name", "row", "rank", "kilobytes", "mflops", "cosine", "retrieved", "correlation", "crops", "passes",
)  # fmt: skip


class Shipment(NamedTuple):
    """A row of the grid, and the rank of its adapters."""

    row: str
    rank: int


SHIPPED = {
    "stvit_dinov2_small_16": Shipment(BASE, 16),
    "stvit_dinov2_small_16_global": Shipment("global", 2),  # for STViT's Figure 4d
    "stvit_dinov2_small_36": Shipment("36 tokens", 2),
    "stvit_r_dinov2_small_16": Shipment("one long unit", 4),  # the best of Table 9's rows
    "bat_dinov2_small_47": Shipment("BAT", 2),
    "evit_dinov2_small_47": Shipment("EViT", 2),
}


def ship(name: str, world: World, scratch: Path | None = None) -> Path:
    """Train, measure and write one file and its record; a stopped run in ``scratch`` is continued."""
    import copy

    import stvit
    from stvit.checkpoints.difference import add_difference, save_difference

    row, rank = ROWS[SHIPPED[name].row], SHIPPED[name].rank
    cell = Cell(row, 0, {**BUDGET, "adapters": rank})
    student = student_of(cell, world, scratch)
    about = {
        "base": MODEL, "image_size": SIZE, "sparsify": {"method": row.method, **row.choices}, "device": "cpu",
        "budget": cell.options,
    }  # fmt: skip
    path = save_difference(student, world.teacher, FILES / f"{name}.safetensors", rank, about)
    again = add_difference(
        stvit.sparsify(copy.deepcopy(world.teacher), method=row.method, **row.choices), path
    )
    # of the file as it is read back, in full precision
    found = measured(again, world, student.unchanged_layers, maps=row.maps)
    scores = {key: value for key, value in found.items() if not key.endswith("by_photograph")}
    about |= {**scores, "check": check(again, world.teacher)}
    save_difference(student, world.teacher, path, rank, about)
    record = {**about, "row": row.name, "rank": rank, "bytes": path.stat().st_size}
    dump(
        {**record, "multiply_adds": multiply_adds(student), **environment(), **found},
        RECORDS / f"{name}.json",
    )
    return path


def missing() -> list[str]:
    """What has no file yet."""
    return [name for name in SHIPPED if not (FILES / f"{name}.safetensors").exists()]


def table(folder: Path = RECORDS) -> pd.DataFrame:
    """A line a student, from its record."""
    lines = []
    for name, (row, rank) in SHIPPED.items():
        path = folder / f"{name}.json"
        if path.exists():
            record = json.loads(path.read_text(encoding="utf-8"))
            likeness = {
                key: 100 * record[key] for key in ("cosine", "retrieved", "correlation") if key in record
            }
            lines.append(
                {
                    "name": name, "row": row, "rank": rank, "kilobytes": round(record["bytes"] / 1000),
                    "mflops": round(record["multiply_adds"] / 1e6), "crops": record["budget"]["train_images"],
                    "passes": record["budget"]["epochs"],
                    **{key: round(value, 3) for key, value in likeness.items()},
                }
            )  # fmt: skip
    return pd.DataFrame(lines, columns=list(COLUMNS))


def check(student, teacher) -> dict:
    """The centred cosine on crops that need nothing but PyPI's packages; the center is these crops' own mean."""
    import torch

    from stvit.data.crops import cut
    from stvit.data.photographs import shipped
    from stvit.training.distill import cosine
    from stvit.training.taught import feature_of, normalise

    crops = cut([one.path for one in shipped()], CHECK_CROPS, SIZE, seed=7, mirrored=False)
    cfg = teacher.pretrained_cfg
    images = normalise(crops, cfg["mean"], cfg["std"])
    with torch.inference_mode():
        found, dense = (feature_of(one.eval(), one.forward_features(images)) for one in (student, teacher))
    return {"crops": CHECK_CROPS, "cosine": round(float(cosine(found, dense, dense.mean(dim=0)).mean()), 5)}
