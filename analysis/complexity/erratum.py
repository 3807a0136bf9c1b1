"""One erratum of a paper, and the kinds there are (described in ``errata``)."""

from __future__ import annotations

from typing import NamedTuple

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
