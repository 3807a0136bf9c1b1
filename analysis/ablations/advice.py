"""What the grid tells users: for each choice, the rows that are worse than another one by more than chance.

All pairs of a table's rows are compared at once, by Tukey's range with the spread pooled over the table
(``statistics.residual_spread``), which corrects for picking the best of several rows. A ranking within that range is
chance and gives no advice.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from analysis.ablations import tables
from analysis.ablations.cells import CELLS
from analysis.ablations.design import SEEDS, TABLES
from analysis.shared import statistics

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
    """``worse``: rows that another row beats by more than the range; ``alike``: those that none beats."""

    question: str
    alike: list[str]
    worse: list[tuple[str, float]]  # name, difference to the highest mean
    reach: float  # Tukey's range
    missing: list[str]  # rows without all seeds


def answer(question: str, name: str, seeds=SEEDS, folder=CELLS) -> Answer | None:
    """None while fewer than two rows have all seeds."""
    table = next(table for table in TABLES if table.name == name)
    found = tables.accuracies_of(table, seeds, folder)
    whole = {row: values for row, values in found.items() if len(values) == len(seeds)}
    reach = tukey_range(whole, seeds)
    if reach is None:
        return None
    means = {row: sum(values.values()) / len(seeds) for row, values in whole.items()}
    best = max(means.values())
    worse = [(row, mean - best) for row, mean in means.items() if best - mean > reach]
    alike = [row for row, mean in means.items() if best - mean <= reach]
    return Answer(question, alike, worse, reach, [row for row in found if row not in whole])


def tukey_range(whole: dict[str, dict[int, float]], seeds=SEEDS) -> float | None:
    """How much two of these rows' means must differ, at 95 % for all pairs together."""
    if len(whole) < 2 or len(seeds) < 2:
        return None
    from scipy.stats import studentized_range

    sigma, freedom = statistics.residual_spread(
        [[values[seed] for seed in seeds] for values in whole.values()]
    )
    return float(studentized_range.ppf(0.95, len(whole), freedom)) * sigma / math.sqrt(len(seeds))


def sentence(found: Answer) -> str:
    """One answer in words."""
    told = ", ".join(f"*{row}* ({gap:+.1f})".replace("-", "−") for row, gap in found.worse)
    parts = [
        f"**{found.question}:** worse by more than chance (±{found.reach:.1f}) than the best row: {told}"
    ]
    parts.append(f"not told apart: {', '.join(f'*{row}*' for row in found.alike)}")
    if found.missing:
        parts.append(f"not run in full: {', '.join(f'*{row}*' for row in found.missing)}")
    return "; ".join(parts) + "."


def advice(seeds=SEEDS, folder=CELLS) -> str:
    """A Markdown list: a line for each question whose rows differ significantly, then the open questions."""
    answers = [found for question in QUESTIONS if (found := answer(*question, seeds, folder))]
    lines = [f"- {sentence(found)}" for found in answers if found.worse]
    silent = [found.question for found in answers if not found.worse]
    if silent:
        lines.append(f"- **No advice**, since no row is told from another: {'; '.join(silent)}.")
    return "\n".join(lines) or "No table has two complete rows yet."
