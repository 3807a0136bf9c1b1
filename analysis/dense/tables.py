"""Tables of the dense tasks from the records alone: scores, spread over seeds, paired difference to Swin.

Rows are paired by seed: the same seed is the same order of the same images. Intervals are Student's t over
seeds, 95 %. A row that was not trained is a row without numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.dense import detection, segmentation
from analysis.dense.cells import CELLS, SEEDS, record_of
from analysis.results import PAPER
from analysis.shared import tables as shared
from analysis.shared.statistics import average, paired, pooled_half_width, rounded, spread

Score = Callable[[dict], "float | None"]


def scored(name: str) -> Score:
    return lambda record: record["test"][name]


def recall(size: str) -> Score:
    """Of the pixels of objects of this size, the part whose class is predicted correctly, in per cent."""
    return lambda record: (
        100 * record["test"]["sizes"][size]["right"] / record["test"]["sizes"][size]["pixels"]
    )


@dataclass(frozen=True)
class Section:
    """A task's table: its headline, further columns, the cells and what the paper prints beside them."""

    task: str
    title: str
    headline: str
    columns: dict[str, Score]
    plan: Callable
    printed: dict[str, str]


SECTIONS = (
    Section(
        "detection",
        "Cascade Mask R-CNN on scenes (Tables 5 and 9)",
        "ap",
        {
            name: scored(name)
            for name in (
                "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "mask_ap", "mask_ap50", "mask_ap75",
                "mask_ap_small",
            )
        },
        detection.plan,
        {
            "Swin": "51.8", "STViT-R": "51.8", "STViT-R without units": "51.4", "STViT-R, reused tokens": "51.6",
        },
    ),
    Section(
        "segmentation",
        "UperNet on scenes (Table 12, and the rows of Table 9)",
        "miou",
        {
            "pixel_accuracy": scored("pixel_accuracy"),
            **{f"recall_{size}": recall(size) for size in ("small", "medium", "large")},
        },
        lambda **given: segmentation.plan(segmentation.STUDY, **given),
        {"Swin": "49.3", "STViT-R": "48.3"},
    ),
)  # fmt: skip


def results_of(section: Section, seeds=SEEDS, folder: Path = CELLS) -> dict[str, dict[int, dict]]:
    """The records that exist, by row and seed, in the order of the plan."""
    found: dict[str, dict[int, dict]] = {}
    for cell in section.plan(seeds=seeds):
        records = found.setdefault(cell.row.name, {})
        record = record_of(cell, folder)
        if record:
            records[cell.seed] = record
    return found


def values(records: dict[int, dict], score: Score) -> dict[int, float]:
    told = {seed: score(record) for seed, record in records.items()}
    return {seed: value for seed, value in told.items() if value is not None}


def tabulate(section: Section, seeds=SEEDS, folder: Path = CELLS) -> pd.DataFrame:
    found = results_of(section, seeds, folder)
    headline = {row: values(records, scored(section.headline)) for row, records in found.items()}
    base, cost = (next(iter(table.values())) for table in (headline, found))
    pooled = pooled_half_width(headline, seeds)
    lines = []
    for i, (row, records) in enumerate(found.items()):
        own = headline[row]
        mean, sd, _ = spread(list(own.values()))
        difference, _, half = spread(paired(own, base) if i else [])
        lines.append(
            {
                "row": row,
                "printed": section.printed.get(row),
                "seeds": len(own),
                section.headline: rounded(mean),
                "sd": rounded(sd),
                "difference": rounded(difference),
                "half_width": rounded(half),
                "pooled": rounded(pooled) if i and len(own) == len(base) == len(seeds) else None,
                **{
                    name: rounded(average(list(values(records, score).values())))
                    for name, score in section.columns.items()
                },
                **costs(records, cost),
            }
        )
    return pd.DataFrame(lines)


def costs(records: dict[int, dict], base: dict[int, dict]) -> dict:
    """Multiply-adds of the backbone, the part of the base's that they save, parameters, time to train."""

    def flops(table: dict[int, dict]) -> float | None:
        return average([record["backbone_multiply_adds"] / 1e6 for record in table.values()])

    own, whole = flops(records), flops(base)
    return {
        "backbone_mflops": rounded(own),
        "saved_pct": rounded(100 * (1 - own / whole), 1) if own and whole and own != whole else None,
        "parameters": next((record["parameters"] for record in records.values()), None),
        "cpu_seconds": rounded(average([r["seconds"]["training_cpu"] for r in records.values()]), 0),
    }


def printed(section: Section) -> pd.DataFrame:
    """The paper's own table, whole."""
    name = {"detection": "stvit_table5", "segmentation": "stvit_table12"}[section.task]
    return pd.read_csv(PAPER / f"{name}.csv").drop(columns=["paper", "table", "row", "contradiction"])


def progress(seeds=SEEDS, folder: Path = CELLS) -> pd.DataFrame:
    """Finished cells by table."""
    found = {section.task: results_of(section, seeds, folder) for section in SECTIONS}
    return shared.progress(
        {task: [len(r) for r in rows.values()] for task, rows in found.items()}, len(seeds)
    )
