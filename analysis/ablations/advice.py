"""What the grid tells users: for each choice, the row that came out best and the rows that are told from it.

A difference is told where the 95 % interval of the paired difference to the best row leaves out zero, with the
spread pooled over the table (``tables.residual_spread``). The best of several rows looks better than it
is; therefore rows that are not told from it are named too.
"""

from __future__ import annotations

from typing import NamedTuple

from analysis.ablations import tables
from analysis.ablations.cells import CELLS
from analysis.ablations.design import SEEDS, TABLES

QUESTIONS = (
    ("How many semantic tokens", "stvit_table1"),
    ("Which initial centers", "stvit_table7"),
    ("Which pooling", "stvit_table15"),
    ("Where the STGM", "stvit_table13"),
    ("How many STGM layers", "stvit_table8"),
    ("Which positions for semantic tokens", "stvit_table14"),
    ("Attention or pooling alone", "controls"),
    ("Which method", "stvit_table4"),
    ("Which keep rate of BAT", "bat_keep_rates"),
    ("Where inattentive tokens go (BAT)", "bat_table4"),
    ("How to return to the full map in a Swin", "stvit_table9"),
)


class Answer(NamedTuple):
    """``open``: rows with all seeds that are not told from the best; ``missing``: rows without."""

    question: str
    best: str
    top1: float
    lower: list[tuple[str, float, float]]  # name, difference to the best, half width
    open: list[str]
    missing: list[str]


def answer(question: str, name: str, seeds=SEEDS, folder=CELLS) -> Answer | None:
    """None while fewer than two rows have all seeds."""
    table = next(table for table in TABLES if table.name == name)
    found = tables.accuracies_of(table, seeds, folder)
    whole = {row: values for row, values in found.items() if len(values) == len(seeds)}
    half = tables.pooled_half_width(found, seeds)
    if half is None:
        return None
    means = {row: sum(values.values()) / len(seeds) for row, values in whole.items()}
    best = max(means, key=means.get)
    others = {row: means[row] - means[best] for row in means if row != best}
    return Answer(
        question,
        best,
        means[best],
        [(row, gap, half) for row, gap in others.items() if gap + half < 0],
        [row for row, gap in others.items() if gap + half >= 0],
        [row for row in found if row not in whole],
    )


def sentence(found: Answer) -> str:
    """One answer in words."""
    parts = [f"**{found.question}:** *{found.best}* has the highest mean ({found.top1:.1f} %)"]
    if found.lower:
        told = ", ".join(f"*{row}* (−{-gap:.1f} ± {half:.1f})" for row, gap, half in found.lower)
        parts.append(f"lower by more than chance: {told}")
    if found.open:
        parts.append(f"not told from it: {', '.join(f'*{row}*' for row in found.open)}")
    if found.missing:
        parts.append(f"not run in full: {', '.join(f'*{row}*' for row in found.missing)}")
    return "; ".join(parts) + "."


def advice(seeds=SEEDS, folder=CELLS) -> str:
    """A list in Markdown, a line for each question that has an answer."""
    answers = [answer(*question, seeds, folder) for question in QUESTIONS]
    lines = [f"- {sentence(found)}" for found in answers if found]
    return "\n".join(lines) or "No table has two complete rows yet."
