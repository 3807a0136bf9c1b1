"""Errata of the two papers, each with its kind, a reason, and a number that is computed here and now.

error           wrong by the paper's own definitions
inconsistency   two places, of one paper or of both, that cannot both be right; which one is wrong is not said
convention      a rounding, a way to count or another edition's number: no error
doubt           we do not find the printed number, and the paper may be right by a choice it does not print
"""

from __future__ import annotations

from typing import Any

from analysis.complexity import errata_formulas, errata_tables
from analysis.complexity.erratum import Erratum


def rows() -> list[dict[str, Any]]:
    return [
        {"item": number, **erratum._asdict(), "difference_percent": erratum.difference_percent}
        for number, erratum in enumerate(errata(), 1)
    ]


def errata() -> list[Erratum]:
    return [*errata_formulas.errata(), *errata_tables.errata()]
