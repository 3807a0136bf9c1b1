"""What a table of the field says about a method: facts in a few words, stated once, in the method's class."""

from __future__ import annotations

from typing import NamedTuple


class About(NamedTuple):
    """Where a method acts is not stated here: its host layer and ``layers`` say it."""

    paper: str  # name, first author, where and when it appeared
    looks_at: str  # what it decides by
    keeps: str  # what is left of the tokens
    origin: str  # the public program whose outputs ours equal, or what it was written from
    licence: str  # of that program
