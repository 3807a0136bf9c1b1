"""Errata of the two papers, each with its kind, a reason, and a number that is computed here and now.

error           wrong by the paper's own definitions
inconsistency   two places, of one paper or of both, that cannot both be right; which one is wrong is not said
convention      a rounding, a way to count or another edition's number: no error
doubt           we do not find the printed number, and the paper may be right by a choice it does not print
"""

from __future__ import annotations

from typing import Any, NamedTuple

KINDS = ("error", "inconsistency", "convention", "doubt")


class Erratum(NamedTuple):
    kind: str
    paper: str
    place: str
    printed: str
    against: str  # for an error what is right, else what stands against it
    why: str  # a reason that can be checked without this code
    quantity: str  # what the two numbers are
    as_printed: float
    as_against: float

    @property
    def difference_percent(self) -> float | None:
        return 100 * (self.as_printed / self.as_against - 1) if self.as_against else None


def rows() -> list[dict[str, Any]]:
    return [
        {"item": number, **erratum._asdict(), "difference_percent": erratum.difference_percent}
        for number, erratum in enumerate(errata(), 1)
    ]


def errata() -> list[Erratum]:
    from analysis.complexity import errata_formulas, errata_tables

    return [*errata_formulas.errata(), *errata_tables.errata()]
