"""Tables from the records alone: mean, spread, and the paired difference to the base row.

Two rows are paired by seed: the same seed is the same order of the same images and the same initial
weights where layers agree. Intervals are Student's t over seeds, 95 %: of each pair of rows alone, and
with the spread pooled over a table. What has too few seeds for an interval shows none; what was not trained
is a row without numbers.
"""

from __future__ import annotations

import pandas as pd

from analysis.ablations.cells import CELLS, AblationCell, record_of
from analysis.ablations.design import SEEDS, TABLES, Row, Table
from analysis.shared import tables as shared
from analysis.shared.statistics import average, paired, pooled_half_width, rounded, spread
from analysis.shared.tables import accuracies

COLUMNS = (
    "row", "printed", "seeds", "top1", "sd", "difference", "half_width", "pooled", "small", "mflops", "cpu_seconds",
)  # fmt: skip


def results_of(row: Row, seeds=SEEDS, folder=CELLS) -> dict[int, dict]:
    """The records of a row that exist, by seed."""
    found = {seed: record_of(AblationCell(row, seed), folder) for seed in seeds}
    return {seed: record for seed, record in found.items() if record}


def tabulate(table: Table, seeds=SEEDS, folder=CELLS) -> pd.DataFrame:
    found = accuracies_of(table, seeds, folder)
    base, pooled = found[table.rows[0].name], pooled_half_width(found, seeds)
    lines = []
    for i, row in enumerate(table.rows):
        records = results_of(row, seeds, folder)
        own = found[row.name]
        mean, sd, _ = spread(list(own.values()))
        difference, _, half = spread(paired(own, base) if i else [])
        lines.append(
            {
                "row": row.name,
                "printed": " / ".join(f"{value:.1f}" for value in row.printed.values()),
                "seeds": len(own),
                "top1": rounded(mean),
                "sd": rounded(sd),
                "difference": rounded(difference),
                "half_width": rounded(half),
                "pooled": rounded(pooled) if i and len(own) == len(base) == len(seeds) else None,
                "small": rounded(average([small_top1(record) for record in records.values()])),
                "mflops": rounded(average([r["multiply_adds"] / 1e6 for r in records.values()])),
                "cpu_seconds": rounded(average([r["seconds"]["training_cpu"] for r in records.values()]), 0),
            }
        )
    return pd.DataFrame(lines, columns=list(COLUMNS))


def accuracies_of(table: Table, seeds=SEEDS, folder=CELLS) -> dict[str, dict[int, float]]:
    """Top-1 of every row of a table by seed."""
    return {row.name: accuracies(results_of(row, seeds, folder)) for row in table.rows}


def small_top1(record: dict) -> float:
    return 100 * record["test"]["small"]["right"] / record["test"]["small"]["images"]


def assignment_table(tables=TABLES, seeds=SEEDS, folder=CELLS) -> pd.DataFrame:
    """How well semantic tokens follow objects: every row that has any, its layers and equal windows."""
    lines, seen = [], set()
    for table in tables:
        for row in table.rows:
            records = results_of(row, seeds, folder)
            parts = [record["assignment"] for record in records.values() if record.get("assignment")]
            key = str((row.model, sorted(row.args.items(), key=str)))
            if not parts or key in seen:
                continue
            seen.add(key)
            for where in parts[0]:
                values = {
                    name: rounded(100 * average([part[where][name] for part in parts]), 1)
                    for name in parts[0][where]
                }
                lines.append(
                    {"table": table.name, "row": row.name, "assignment": where, "seeds": len(parts), **values}
                )
    return pd.DataFrame(
        lines, columns=["table", "row", "assignment", "seeds", "purity", "recall", "recall_small"]
    )


def progress(tables=TABLES, seeds=SEEDS, folder=CELLS) -> pd.DataFrame:
    """Finished cells by table."""
    counts = {table.name: [len(results_of(row, seeds, folder)) for row in table.rows] for table in tables}
    return shared.progress(counts, len(seeds))
