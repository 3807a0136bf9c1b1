"""What the papers conclude from their tables, judged on real labels.

A comparison is decided by the differences of two rows, paired by seed (Student's t). The verdict corrects for all
comparisons of the grid (Holm); ``alone`` judges each by its own 95 % interval; ``pooled`` does too, with the spread
of all complete rows of the table pooled. A conclusion holds if all its comparisons do, and fails if one does.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.real_labels.cells import CELLS
from analysis.real_labels.design import CLAIMS, SEEDS, TABLES
from analysis.real_labels.tables import accuracies_of
from analysis.shared.verdicts import conclusions


def verdicts(claims=CLAIMS, tables=TABLES, seeds=SEEDS, folder: Path = CELLS) -> pd.DataFrame:
    """Each conclusion, its verdicts, and the differences that give them."""
    return conclusions(claims, {table.name: accuracies_of(table, seeds, folder) for table in tables}, seeds)
