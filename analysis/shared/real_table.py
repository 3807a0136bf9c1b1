"""The table of a real model with every method, written by ``python -m analysis.offtheshelf``, for other reports."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from analysis.results import RESULTS

if TYPE_CHECKING:
    import pandas as pd

FOLDER = RESULTS / "offtheshelf"
LACKING = "the real model's table is not here: python -m analysis.offtheshelf --report writes it"


def read(folder=FOLDER) -> pd.DataFrame | None:
    """A row a method and keep rate, measures with ``_low`` and ``_high``; None where nothing has been written."""
    import pandas as pd

    path = folder / "table.csv"
    return pd.read_csv(path) if path.exists() else None


def described(folder=FOLDER) -> str:
    """Weights, crops and photographs of the table, in a sentence's part."""
    config = json.loads((folder / "record.json").read_text(encoding="utf-8"))["config"]
    study = max(config.values(), key=lambda one: one["cells"])
    return (
        f"{study['weights']}; {study['crops']} crops of {len(study['photographs'])} photographs at {study['size']} × "
        f"{study['size']} pixels"
    )
