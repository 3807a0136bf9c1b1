"""Intervals over photographs, and the verdict on a claim that follows from one.

Crops of one photograph are not independent, so photographs, not crops, are drawn with replacement. Rows that are
compared share the draws, which gives an interval of their difference.
"""

from __future__ import annotations

import numpy as np

DRAWS = 20_000


def draws(photographs: int, count: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Numbers of photographs drawn with replacement, the same for all rows: (count, photographs)."""
    return np.random.default_rng(seed).integers(0, photographs, (count, photographs))


def interval(values, drawn: np.ndarray | None = None, level: float = 0.95) -> tuple[float, float]:
    """The percentiles of the mean over photographs; ``values`` has one number a photograph, NaN where it has none."""
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    drawn = draws(len(values)) if drawn is None or drawn.shape[1] != len(values) else drawn
    low, high = np.quantile(values[drawn].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def by_photograph(values, owner: np.ndarray) -> np.ndarray:
    """Means over the crops of each photograph: (crops, …) → (photographs, …)."""
    values = np.asarray(values, dtype=float)
    return np.stack([values[owner == number].mean(axis=0) for number in range(owner.max() + 1)])


def verdict(low: float, high: float, margin: float = 0.0) -> str:
    """The verdict on a claim that a difference is positive, from its interval and a margin fixed beforehand."""
    if low > margin:
        return "holds"
    if high < -margin:
        return "reversed"
    return "no difference" if low > -margin and high < margin else "cannot tell"


def claim(difference, margin: float = 0.0, claims: int = 1, drawn: np.ndarray | None = None, **row) -> dict:
    """A row of a table of claims: the mean difference over photographs, its interval, and the verdict.

    claims: how many are judged together; all intervals hold at once in 95 of 100 tables (Bonferroni)
    """
    low, high = interval(difference, drawn, level=1 - 0.05 / claims)
    return {**row, "difference": float(np.nanmean(np.asarray(difference, dtype=float))), "low": low, "high": high,
            "margin": margin, "verdict": verdict(low, high, margin)}  # fmt: skip
