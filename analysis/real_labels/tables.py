"""Tables from the records alone: mean, spread, and the difference to the base row, paired by seed and by image.

The same seed is the same order of the same images and the same initial weights where layers agree. ``half_width`` is
half the 95 % interval over seeds (Student's t): what training anew would change. ``half_images`` is that over the
test images, of the difference averaged over seeds: what another 10,000 images would change. A row that was not
trained is a row without numbers.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.real_labels.cells import CELLS, RealLabelCell, record_of, unpack
from analysis.real_labels.design import SEEDS, TABLES
from analysis.shared import tables as shared
from analysis.shared.rows import Row, Table
from analysis.shared.statistics import average, paired, rounded, spread
from analysis.shared.tables import accuracies

COLUMNS = (
    "row", "printed", "seeds", "top1", "sd", "difference", "half_width", "half_images", "gained", "lost", "mflops",
    "minutes", "images_per_second", "devices",
)  # fmt: skip


def results_of(row: Row, seeds=SEEDS, folder: Path = CELLS) -> dict[int, dict]:
    """The records of a row that exist, by seed."""
    found = {seed: record_of(RealLabelCell(row, seed), folder) for seed in seeds}
    return {seed: record for seed, record in found.items() if record}


def accuracies_of(table: Table, seeds=SEEDS, folder: Path = CELLS) -> dict[str, dict[int, float]]:
    """Top-1 of every row of a table by seed."""
    return {row.name: accuracies(results_of(row, seeds, folder)) for row in table.rows}


def tabulate(table: Table, seeds=SEEDS, folder: Path = CELLS) -> pd.DataFrame:
    base = results_of(table.rows[0], seeds, folder)
    lines = []
    for number, row in enumerate(table.rows):
        records = results_of(row, seeds, folder)
        lines.append({**of_row(row, records), **(against(records, base) if number else {})})
    return pd.DataFrame(lines, columns=list(COLUMNS))


def of_row(row: Row, records: dict[int, dict]) -> dict:
    mean, sd, _ = spread(list(accuracies(records).values()))
    several = list(records.values())
    timed = [r for r in several if seconds(r)]  # two cells were stopped on the way, and lost their time
    return {
        "row": row.name,
        "printed": " / ".join(f"{value:.1f}" for value in row.printed.values()),
        "seeds": len(records),
        "top1": rounded(mean),
        "sd": rounded(sd),
        "mflops": rounded(average([r["multiply_adds"] / 1e6 for r in several])),
        "minutes": rounded(average([seconds(r) / 60 for r in timed]), 1),
        "images_per_second": rounded(average([r["images"] / seconds(r) for r in timed]), 0),
        "devices": " and ".join(sorted({r["device"] for r in several})),
    }


def seconds(record: dict) -> float | None:
    """Of training: of the core's own time, since other work shares it, or of a GPU's clock."""
    return record["seconds"]["training_cpu" if record["device"] == "cpu" else "training"]


def against(records: dict[int, dict], base: dict[int, dict]) -> dict:
    """The paired difference to the base row, and how many images only one of the two classifies correctly."""
    difference, _, half = spread(paired(accuracies(records), accuracies(base)))
    gained, lost, half_images = by_image(records, base)
    return {
        "difference": rounded(difference),
        "half_width": rounded(half),
        "half_images": rounded(half_images),
        "gained": rounded(gained, 0),
        "lost": rounded(lost, 0),
    }


def by_image(own: dict[int, dict], base: dict[int, dict]) -> tuple[float | None, float | None, float | None]:
    """Images that only the row, and only the base, classifies correctly (mean over seeds); half their interval."""
    seeds = sorted(own.keys() & base.keys())
    if not seeds:
        return None, None, None
    gaps = np.stack([right(own[seed]).astype(int) - right(base[seed]) for seed in seeds])  # (seeds, images)
    mean = gaps.mean(axis=0)
    half = 1.96 * mean.std(ddof=1) / math.sqrt(len(mean))
    return float((gaps > 0).sum() / len(seeds)), float((gaps < 0).sum() / len(seeds)), 100 * float(half)


def right(record: dict) -> np.ndarray:
    """Which test images a record's model classifies correctly."""
    return unpack(record["test"]["each"], record["test"]["images"])


def progress(tables=TABLES, seeds=SEEDS, folder: Path = CELLS) -> pd.DataFrame:
    """Finished cells by table."""
    counts = {table.name: [len(results_of(row, seeds, folder)) for row in table.rows] for table in tables}
    return shared.progress(counts, len(seeds))
