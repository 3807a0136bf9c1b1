"""What token-sparsified transformers cost: printed, in closed form and counted.

``compute()`` gives the table of the papers' FLOPs cells, ``compute("formulas")`` the appendix's Eqs. 7-13 as
printed and corrected, ``compute("errata")`` the errata with their numbers, ``compute("bat_table1")`` BAT's Table 1
method by method, ``compute("rivals")`` what rivals' own figures leave out; each as a pandas frame. Closed forms
need no torch; ``compute(count=True)`` builds every model that is registered and counts it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

TABLE_NAMES = ("cells", "formulas", "errata", "bat_table1", "rivals")


def compute(table: str = "cells", count: bool = False) -> pd.DataFrame:
    """One of TABLE_NAMES; the columns of the cells are ``analysis.complexity.table.FIELDS``."""
    if table == "cells":
        from analysis.complexity.table import rows

        return frame(rows(count))
    if table == "formulas":
        from analysis.complexity.appendix import rows
    elif table == "errata":
        from analysis.complexity.errata import rows
    elif table == "bat_table1":
        from analysis.complexity.bat_table1 import rows
    elif table == "rivals":
        from analysis.complexity.rival_figures import rows
    else:
        raise ValueError(f"unknown table {table!r}; choose one of {', '.join(TABLE_NAMES)}")
    return frame(rows())


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a frame in which whole numbers stay whole beside missing ones."""
    import pandas as pd

    columns = list(rows[0])
    data = {name: pd.Series([row[name] for row in rows], dtype=_dtype(rows, name)) for name in columns}
    return pd.DataFrame(data, columns=columns)


def _dtype(rows: list[dict[str, Any]], name: str) -> type | None:
    values = [row[name] for row in rows]
    return object if None in values and any(isinstance(value, (int, str)) for value in values) else None
