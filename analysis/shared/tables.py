"""What tables of several grids share: their choice by name, their captions, accuracy by seed, and progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from analysis.shared.rows import Table

if TYPE_CHECKING:
    import pandas as pd

PROGRESS = "Finished cells of the grid. What is not finished was not run."


def chosen(tables: Iterable[Table], names: Iterable[str] | None) -> list[Table]:
    """The tables with these names; all of them if none is given."""
    known = {table.name: table for table in tables}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"unknown table {unknown[0]!r}; choose from {', '.join(known)}")
    return [known[name] for name in names or known]


def captioned(
    tables: Iterable[Table], tabulate: Callable[[Table], pd.DataFrame], columns: str
) -> dict[str, tuple[pd.DataFrame, str]]:
    """Each table and its caption: the title, what the ``columns`` are, and the note."""
    return {
        table.name: (tabulate(table), f"{table.title}. {columns} {table.note}".strip()) for table in tables
    }


def accuracies(records: Mapping[int, dict]) -> dict[int, float]:
    """Top-1 in per cent by seed."""
    return {seed: 100 * r["test"]["right"] / r["test"]["images"] for seed, r in records.items()}


def progress(counts: Mapping[str, list[int]], seeds: int) -> pd.DataFrame:
    """Finished cells by table, from the number of finished seeds in each row."""
    import pandas as pd

    return pd.DataFrame(
        {
            "table": name, "rows": len(rows), "cells": len(rows) * seeds,
            "finished": sum(rows), "fewest_seeds_in_a_row": min(rows),
        }
        for name, rows in counts.items()
    )  # fmt: skip
