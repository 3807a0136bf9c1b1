"""Means over seeds, their spread, and the 95 % intervals of paired differences (Student's t)."""

from __future__ import annotations

import math
from collections.abc import Sequence


def paired(own: dict[int, float], base: dict[int, float]) -> list[float]:
    """Differences of the seeds that both have."""
    return [own[seed] - base[seed] for seed in sorted(own.keys() & base.keys())]


def spread(values: list[float]) -> tuple[float | None, float | None, float | None]:
    """Mean, standard deviation, half the width of the mean's 95 % interval."""
    n = len(values)
    if n < 2:
        return (values[0] if values else None), None, None
    from scipy.stats import t

    mean = sum(values) / n
    sd = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    return mean, sd, float(t.ppf(0.975, n - 1)) * sd / math.sqrt(n)


def residual_spread(blocks: list[list[float]]) -> tuple[float, int]:
    """σ and its degrees of freedom, of what rows and seeds leave unexplained: a row's values in order of seeds.

    A value is row + seed + noise, noise of one σ in all rows: residuals have (R − 1)(S − 1) degrees of freedom.
    """
    R, S = len(blocks), len(blocks[0])
    rows = [math.fsum(values) / S for values in blocks]
    columns = [math.fsum(values) / R for values in zip(*blocks, strict=True)]
    grand = math.fsum(rows) / R
    residuals = (blocks[r][s] - rows[r] - columns[s] + grand for r in range(R) for s in range(S))
    freedom = (R - 1) * (S - 1)
    return math.sqrt(math.fsum(value**2 for value in residuals) / freedom), freedom


def pooled_half_width(found: dict[str, dict[int, float]], seeds: Sequence[int]) -> float | None:
    """Half the 95 % interval of a difference of two complete rows, with the spread pooled over their table."""
    blocks = [[values[seed] for seed in seeds] for values in found.values() if len(values) == len(seeds)]
    if len(blocks) < 2 or len(seeds) < 2:
        return None
    from scipy.stats import t

    sigma, freedom = residual_spread(blocks)
    return float(t.ppf(0.975, freedom)) * sigma * math.sqrt(2 / len(seeds))


def tail(values: list[float], bound: float = 0.0, side: str = "greater") -> float:
    """Student's one-sided p value that the mean is on the other side of ``bound``; of equal values 0, ½ or 1."""
    from scipy.stats import ttest_1samp

    gap = (math.fsum(values) / len(values) - bound) * (1 if side == "greater" else -1)
    if len(set(values)) == 1:
        return 0.5 if gap == 0 else float(gap < 0)
    return float(ttest_1samp(values, bound, alternative=side).pvalue)


def holm(found: list[float]) -> list[float]:
    """Holm's correction: p values that hold for all tests together, in the order given."""
    order = sorted(range(len(found)), key=found.__getitem__)
    corrected, least = [0.0] * len(found), 0.0
    for rank, number in enumerate(order):
        least = max(least, min(1.0, (len(found) - rank) * found[number]))
        corrected[number] = least
    return corrected


def average(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)
