"""Does a conclusion hold? A comparison of two rows is decided by the 95 % interval of their paired differences.

"above" and "below" ask for the sign of the difference; "not above" and "not below" allow half a point. A
comparison holds if the interval lies wholly on the claimed side, fails if wholly on the other, else is open.
"""

from __future__ import annotations

from analysis.shared.statistics import spread

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


def combine(verdicts: list[str]) -> str:
    for verdict in (FAILS, NOT_RUN, OPEN):
        if verdict in verdicts:
            return verdict
    return HOLDS


def described(differences: list[float], pooled: float | None = None) -> str:
    """Mean ± own interval, the pooled one behind a bar, and the number of seeds."""
    if not differences:
        return "not run"
    mean, _, own = spread(differences)
    interval = "" if own is None else f" ± {own:.2f}"
    if len(differences) >= FEWEST and pooled is not None:
        interval += f" | {pooled:.2f}"
    return f"{mean:+.2f}{interval} ({len(differences)} {'seed' if len(differences) == 1 else 'seeds'})"
