"""Tables from the records alone: means over seeds, spread, and differences paired by seed and by crop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from analysis.bootstrap import draws, interval
from analysis.distilled.cells import CELLS, PILOT, Cell, read
from analysis.distilled.claims import Found, alike, half_width
from analysis.distilled.design import ROWS, SEEDS, TABLES, TIERS, Student, StudentTable, seeds_of
from analysis.shared import records
from analysis.shared.statistics import average, paired, rounded, spread

POINTS = 100  # centred cosines are given in hundredths
COLUMNS = (
    "row", "printed", "seeds", "cosine", "sd", "difference", "half_width", "pooled", "low", "high", "retrieved",
    "mflops", "cpu_seconds",
)  # fmt: skip
OF_MAPS = ["places", "cosine", *COLUMNS[-3:]]


def records_of(name: str, folder: Path = CELLS) -> dict[int, dict]:
    """The records of a row that exist, by seed."""
    found = {seed: read(Cell(ROWS[name], seed), folder) for seed in seeds_of(name)}
    return {seed: record for seed, record in found.items() if record}


def cosines(folder: Path = CELLS) -> Found:
    """Row → seed → mean over the held-out crops in points, of the centred cosine or of what maps are compared by."""
    found = {name: records_of(name, folder) for name in ROWS}
    return {
        name: {seed: POINTS * record[measure(ROWS[name])] for seed, record in records.items()}
        for name, records in found.items()
        if records
    }


def measure(of: Student | StudentTable) -> str:
    """By which students are compared: a name in their records."""
    return "correlation" if of.maps else "cosine"


def tabulate(table: StudentTable, folder: Path = CELLS) -> pd.DataFrame:
    """A line a row; differences are to the table's first row."""
    found = alike(cosines(folder), table.maps)
    base, *_ = table.rows
    name_of = measure(table)
    lines = []
    for name, printed in table.rows.items():
        records, own = records_of(name, folder), found.get(name, {})
        mean, sd, _ = spread(list(own.values()))
        gaps = paired(own, found.get(base, {})) if name != base else []
        difference, _, width = spread(gaps)
        complete = len(gaps) >= len(SEEDS)
        pooled = half_width(found, seeds=len(gaps)) if complete else None
        low, high = (
            between_photographs(records, records_of(base, folder), name_of) if complete else (None, None)
        )
        lines.append(
            {
                "row": name, "printed": printed, "seeds": len(own), name_of: rounded(mean), "sd": rounded(sd),
                "difference": rounded(difference), "half_width": rounded(width),
                "pooled": rounded(pooled), "low": rounded(low), "high": rounded(high),
                **({"places": part(records, "places"), "cosine": part(records, "cosine")} if table.maps else {}),
                "retrieved": rounded(average([POINTS * r["retrieved"] for r in records.values()]), 1),
                "mflops": rounded(average([r["multiply_adds"] / 1e6 for r in records.values()]), 0),
                "cpu_seconds": rounded(average([r["seconds"]["training_cpu"] for r in records.values()]), 0),
            }
        )  # fmt: skip
    if not table.maps:
        return pd.DataFrame(lines, columns=list(COLUMNS))
    return pd.DataFrame(
        lines, columns=[name_of if name == "cosine" else name for name in COLUMNS[:-3]] + OF_MAPS
    )


def part(records: dict[int, dict], name: str) -> float | None:
    return rounded(average([POINTS * record[name] for record in records.values()]))


def between_photographs(
    one: dict[int, dict], other: dict[int, dict], name: str = "cosine"
) -> tuple[float, float]:
    """95 % of bootstrap means of the difference over photographs, each the mean over its crops and the seeds."""
    common = sorted(one.keys() & other.keys())
    key = "by_photograph" if name == "cosine" else f"{name}_by_photograph"
    gaps = [np.subtract(one[s][key], other[s][key]) for s in common]
    values = POINTS * np.mean(gaps, axis=0)
    return interval(values, draws(len(values)))


def progress(folder: Path = CELLS) -> pd.DataFrame:
    """Finished cells by tier."""
    lines = []
    for number, tier in enumerate(TIERS, 1):
        counts = [len(records_of(row.name, folder)) for row in tier]
        lines.append(
            {
                "tier": number,
                "rows": len(tier),
                "cells": sum(len(seeds_of(row.name)) for row in tier),
                "finished": sum(counts),
            }
        )
    return pd.DataFrame(lines)


def shown(folder: Path = CELLS) -> list[StudentTable]:
    """The tables of which at least two rows have a record."""
    found = cosines(folder)
    return [table for table in TABLES if sum(name in found for name in table.rows) > 1]


def pilot(folder: Path = PILOT) -> pd.DataFrame:
    """The cells of the pilot, by learning rate."""
    found = records.read_all(folder).values()
    lines = [
        {
            "row": one["row"], "seed": one["seed"], "learning_rate": one["training"]["lr"] * one["training"]["epochs"],
            "cosine": POINTS * one["cosine"], "retrieved": POINTS * one["retrieved"],
            "cpu_seconds": one["seconds"]["training_cpu"],
        }
        for one in found
    ]  # fmt: skip
    return pd.DataFrame(lines).sort_values(["row", "learning_rate"]) if lines else pd.DataFrame()
