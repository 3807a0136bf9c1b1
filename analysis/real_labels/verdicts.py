"""What the papers conclude from their tables, judged on real labels.

A comparison is told from the differences of two rows, paired by seed (Student's t). The verdict corrects for all
comparisons of the grid (Holm); ``alone`` judges each by its own 95 % interval; ``pooled`` does too, with the spread
of all complete rows of the table taken as one. A conclusion holds if all its comparisons do, and fails if one does.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.real_labels.cells import CELLS
from analysis.real_labels.design import CLAIMS, SEEDS, TABLES
from analysis.real_labels.tables import accuracies_of
from analysis.shared.statistics import paired, pooled_half_width
from analysis.shared.verdicts import combine, described, judge, judge_together


def verdicts(claims=CLAIMS, tables=TABLES, seeds=SEEDS, folder: Path = CELLS) -> pd.DataFrame:
    """Each conclusion, its verdicts, and the differences behind them."""
    found = {table.name: accuracies_of(table, seeds, folder) for table in tables}
    halves = {name: pooled_half_width(rows, seeds) for name, rows in found.items()}
    cases = [
        [(relation, paired(found[claim.table][one], found[claim.table][other]))
         for one, relation, other in claim.comparisons]
        for claim in claims
    ]  # fmt: skip
    together = iter(judge_together([case for several in cases for case in several]))
    lines = []
    for claim, several in zip(claims, cases, strict=True):
        half = halves[claim.table]
        lines.append(
            {
                "table": claim.table,
                "conclusion": claim.words,
                "verdict": combine([next(together) for _ in several]),
                "alone": combine([judge(*case) for case in several]),
                "pooled": combine([judge(*case, half) for case in several]),
                "evidence": "; ".join(
                    f"{one} − {other}: {described(differences, half)}"
                    for (one, _, other), (_, differences) in zip(claim.comparisons, several, strict=True)
                ),
            }
        )
    return pd.DataFrame(lines)
