"""How many printed cells are reproduced when one reading is used for all, instead of one for each column.

``readings`` chooses for each column the reading that reproduces its digits. Here one rule holds for all tables;
it is relaxed in steps, to show how much each choice matters.
"""

from __future__ import annotations

import inspect
from decimal import Decimal
from typing import Any, NamedTuple

from analysis.shared.flops.readings import FAMILIES, Reading, cells, readings, rounded


class Rule(NamedTuple):
    """One reading for all cells.

    counter: fvcore's for all, also where Table 2 quotes Swin's own
    once: keys and values of overlapping windows projected once, as this package does by default
    """

    name: str
    counter: bool = True
    once: bool = False


ALIKE = (
    "numbers rounded; class token in DeiT, EViT, BAT and DynamicViT, none in STViT; pooling by Eqs. 4-5 everywhere; "
    "BatchNorm as in inference"
)
ONE_READING = Rule("one reading, one counter")
RULES = (
    ONE_READING,
    Rule("the same, Swin's bases by Swin's own counter", counter=False),
    Rule("one reading, one counter, keys projected once", once=True),
)


def alike(reading: Reading, rule: Rule = ONE_READING) -> Reading:
    """``reading`` without what was chosen for its column."""
    family, numbers = reading.family, dict(reading.numbers)
    if family == "swin_own_counter" and rule.counter:
        family = "swin"
    known = inspect.signature(FAMILIES[family]).parameters
    if family in ("deit", "stvit_deit"):
        numbers["class_token"] = family == "deit"
    if family.startswith("stvit"):
        numbers.pop("pooling", None)
    if "bn_training" in known:
        numbers["bn_training"] = False
    if rule.once and "once" in known:
        numbers["once"] = True
    return Reading(family, numbers, ALIKE)


def comes_out(reading: Reading, printed: str) -> bool:
    return Decimal(rounded(reading.flops()[0], printed, reading.rounding)) == Decimal(printed)


def rows() -> list[dict[str, Any]]:
    """A line for each rule, after the readings that were fitted cell by cell."""
    known = [(cell, readings()[cell[:4]]) for cell in cells() if cell[:4] in readings()]
    lines = [
        ("fitted cell by cell", "as the table of readings says", [comes_out(r, c.printed) for c, r in known])
    ]
    for rule in RULES:
        lines.append((rule.name, ALIKE, [comes_out(alike(r, rule), c.printed) for c, r in known]))
    return [
        {
            "reading": name,
            "rule": text,
            "cells": len(good),
            "come_out": sum(good),
            "not": "; ".join(
                f"{c.paper} {c.table}, {c.model} {c.setting}"
                for (c, _), fine in zip(known, good, strict=True)
                if not fine
            ),
        }
        for name, text, good in lines
    ]


def in_words() -> str:
    fitted, one, quoted, once = rows()
    return (
        "These readings were fitted column by column: a class token in Table 1's DeiT-T and -B and none in its DeiT-S, "
        "BatchNorm counted as in training in Tables 2 and 3, maximum pooling in Tables 3, 5, 6 and 12, mean pooling "
        "and digits cut off in Table 13, another counter for Swin's bases. "
        f"**{one['come_out']} of {one['cells']} come out under one reading** and one counter "
        f"({quoted['come_out']} if Swin's bases are quoted, {once['come_out']} if keys are projected once, as here "
        f"by default), beside {fitted['come_out']} of {fitted['cells']}. A reading is a hypothesis about what the "
        "authors counted, which its digits make likely and do not prove."
    )
