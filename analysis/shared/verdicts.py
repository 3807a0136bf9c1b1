"""Does a conclusion hold? A comparison of two rows is decided by the 95 % interval of their paired differences.

"above" and "below" ask for the sign of the difference; "not above" and "not below" allow half a point. A
comparison holds if the interval lies wholly on the claimed side, fails if wholly on the other, and else is open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from analysis.shared.rows import Claim
from analysis.shared.statistics import holm, paired, pooled_half_width, spread, tail

if TYPE_CHECKING:
    import pandas as pd

HOLDS, FAILS, OPEN, NOT_RUN = "holds", "does not hold", "cannot tell at this size", "not run"
MARGIN, FEWEST = 0.5, 3


def judge(relation: str, differences: list[float], half: float | None = None) -> str:
    """One comparison from its paired differences; ``half`` the width of its interval, if not their own."""
    if len(differences) < FEWEST:
        return NOT_RUN
    mean, _, own = spread(differences)
    half = own if half is None else half
    low, high = mean - half, mean + half
    if relation == "above":
        return HOLDS if low > 0 else FAILS if high < 0 else OPEN
    if relation == "below":
        return HOLDS if high < 0 else FAILS if low > 0 else OPEN
    if relation == "not above":  # by more than the margin
        return HOLDS if high < MARGIN else FAILS if low > 0 else OPEN
    if relation == "not below":
        return HOLDS if low > -MARGIN else FAILS if high < 0 else OPEN
    raise ValueError(f"unknown relation {relation!r}")


def judge_together(
    cases: list[tuple[str, list[float]]],
    level: float = 0.05,
    margin: float = MARGIN,
    looks: list[int] | None = None,
) -> list[str]:
    """All comparisons of a study, (relation, differences) each, judged at once: Holm's correction of their p values.

    Cases with too few seeds are not run, and are not among the tests that are paid for.
    looks: how often each case was judged, this time included; its p value is multiplied by that
    """
    run = [number for number, (_, differences) in enumerate(cases) if len(differences) >= FEWEST]
    found = [strongest(*cases[number], margin) for number in run]
    paid = [p * (1 if looks is None else looks[number]) for number, (p, _) in zip(run, found, strict=True)]
    verdicts = [NOT_RUN] * len(cases)
    for number, p, (_, verdict) in zip(run, holm(paid), found, strict=True):
        verdicts[number] = verdict if p < level else OPEN
    return verdicts


def strongest(relation: str, differences: list[float], margin: float = MARGIN) -> tuple[float, str]:
    """The verdict that differences speak for most, and its two-sided p value; the bounds are those of ``judge``."""
    sides = {"above": ("greater", 0.0, 0.0), "below": ("less", 0.0, 0.0),
             "not above": ("less", margin, 0.0), "not below": ("greater", -margin, 0.0)}  # fmt: skip
    if relation not in sides:
        raise ValueError(f"unknown relation {relation!r}; choose one of {', '.join(sides)}")
    side, holds_from, fails_from = sides[relation]
    other = "less" if side == "greater" else "greater"
    holds, fails = tail(differences, holds_from, side), tail(differences, fails_from, other)
    return min((2 * holds, HOLDS), (2 * fails, FAILS))


def combine(verdicts: list[str]) -> str:
    for verdict in (FAILS, NOT_RUN, OPEN):
        if verdict in verdicts:
            return verdict
    return HOLDS


def conclusions(
    claims: Sequence[Claim], found: Mapping[str, Mapping[str, dict[int, float]]], seeds: Sequence[int]
) -> pd.DataFrame:
    """Each claim, its verdicts, and the differences that give them.

    found: of each table, its rows' accuracies by seed
    verdict corrects for all comparisons of all claims (Holm); alone judges each by its own interval; pooled by that
    with the spread of all complete rows of the table taken as one
    """
    import pandas as pd

    halves = {name: pooled_half_width(rows, seeds) for name, rows in found.items()}
    cases = [
        [(relation, paired(found[claim.table][one], found[claim.table][other]))
         for one, relation, other in claim.comparisons]
        for claim in claims
    ]  # fmt: skip
    together = iter(judge_together([case for several in cases for case in several]))
    lines = []
    for claim, several in zip(claims, cases, strict=True):
        half = halves[claim.table]
        evidence = (
            f"{one} − {other}: {described(differences, half)}"
            for (one, _, other), (_, differences) in zip(claim.comparisons, several, strict=True)
        )
        lines.append(
            {
                "table": claim.table,
                "conclusion": claim.words,
                "verdict": combine([next(together) for _ in several]),
                "alone": combine([judge(*case) for case in several]),
                "pooled": combine([judge(*case, half) for case in several]),
                "evidence": "; ".join(evidence),
            }
        )
    return pd.DataFrame(lines)


def described(differences: list[float], pooled: float | None = None) -> str:
    """Mean ± own interval, the pooled one after a bar, and the number of seeds."""
    if not differences:
        return "not run"
    mean, _, own = spread(differences)
    interval = "" if own is None else f" ± {own:.2f}"
    if len(differences) >= FEWEST and pooled is not None:
        interval += f" | {pooled:.2f}"
    return f"{mean:+.2f}{interval} ({len(differences)} {'seed' if len(differences) == 1 else 'seeds'})"
