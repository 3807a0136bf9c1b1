"""The papers' conclusions, asked of distilled students: the same words as in the table of the ablations.

A conclusion is a set of comparisons of two rows. "above" is about the sign of the paired difference, "not above"
allows MARGIN points of centred cosine, which was named before any cell ran. A comparison is decided so:

1. Differences are paired by seed, which is the order of the crops and, where rows share them, the new parameters.
2. Student's t of these differences.
3. Holm's correction over all comparisons that were run, at 5 % for both sides together.

Rows of Tables 1, 7 and 8, whose conclusions five seeds could not tell, were trained from five more. Their p values
are doubled in step 3, for the second look. Since the first look had all of the 5 %, the chance of a wrong verdict is
bounded by 7.5 %. BAT's tables got no more seeds: their smallest steps lie far within their intervals.
STViT-R's table compares the correlation of saliency maps, all others the class feature.

A conclusion holds if all its comparisons do, and fails if one does. Two other ways are listed beside it. ``one
spread`` was named before any cell ran: in step 2 one spread between seeds (``sigma``) for all rows of the grid.
Three seeds a row refuted that (their spreads differ a hundredfold), so that it is too careful for rows that are
nearly equal and too bold for others; step 2 became what it is when seeds 0 to 2 were known, and before any verdict
was drawn from seeds 3 and 4, of which nine of 86 cells had been trained. ``alone`` is the pair's own interval without
correction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from analysis.distilled.design import BASE, BAT_STEPS, MARGIN, MERGERS, ROWS, SEEDS
from analysis.results import RESULTS
from analysis.shared.statistics import holm, paired, residual_spread, spread
from analysis.shared.verdicts import (
    FAILS,
    FEWEST,
    HOLDS,
    NOT_RUN,
    OPEN,
    combine,
    described,
    judge,
    judge_together,
)  # fmt: skip

LEVEL = 0.05
UNASKED = "cannot be asked of distilled students"
CEILING = "the dense model is the teacher, which no student can beat in likeness to itself"
Comparison = tuple[str, str, str]  # row, relation, other row


@dataclass(frozen=True)
class StudentClaim:
    table: str
    words: str
    comparisons: tuple[Comparison, ...] = ()
    reason: str = ""  # why it cannot be asked


def above(best: str, *others: str) -> tuple[Comparison, ...]:
    return tuple((best, "above", other) for other in others)


def steps(rate: float) -> tuple[Comparison, ...]:
    names = [*(f"{name}, {rate}" for name in BAT_STEPS), f"BAT, keep rate {rate}"]
    return tuple((later, "above", earlier) for earlier, later in pairwise(names))


CLAIMS = (
    StudentClaim("stvit_table1", "The fewest semantic tokens cost no accuracy", reason=CEILING),
    StudentClaim("stvit_table1", "More semantic tokens than the fewest beat the dense model", reason=CEILING),
    StudentClaim(
        "stvit_table1",
        "Accuracy grows with the number of semantic tokens",
        above("25 tokens", BASE) + above("36 tokens", "25 tokens"),
    ),
    StudentClaim(
        "stvit_table7",
        "Spatial and global initialization together beat either alone",
        above(BASE, "spatial", "global"),
    ),
    StudentClaim(
        "stvit_table7", "Spatial initialization alone beats global alone", above("spatial", "global")
    ),
    StudentClaim(
        "stvit_table7",
        "Centers on the keys too (learned positions) are no better",
        (("spatial, learned positions", "not above", BASE),),
    ),
    StudentClaim(
        "stvit_table15",
        "Intra and inter-window pooling beats adaptive pooling",
        above("25 tokens", "25 tokens, adaptive pooling"),
    ),
    StudentClaim(
        "stvit_table15",
        "Overlap and two scales do not help",
        tuple(
            (f"25 tokens, {name}", "not above", "25 tokens, adaptive pooling")
            for name in ("overlapping windows", "two scales")
        ),
    ),
    StudentClaim(
        "controls",
        "Not printed: the STGM's attention beats pooling alone",
        above(BASE, "average pooling alone, 16 tokens"),
    ),
    StudentClaim(
        "stvit_table13",
        "A deeper STGM is better, up to two thirds of the depth",
        above(BASE, "STGM at layer 4") + above("STGM at layer 9", BASE),
    ),
    StudentClaim(
        "stvit_table8",
        "More than two STGM layers do not help",
        tuple((f"{count} STGM layers", "not above", BASE) for count in (3, 4)),
    ),
    StudentClaim(
        "stvit_table14",
        "Positions for semantic tokens do not help",
        tuple((f"{name} positions", "not above", BASE) for name in ("learned", "conditional", "relative")),
    ),
    StudentClaim(
        "stvit_table4",
        "STViT loses less than the other methods at like FLOPs",
        above(BASE, "DynamicViT", "EViT"),
    ),
    StudentClaim(
        "stvit_table9",
        "Dumbbell units beat one long unit (printed: detection)",
        above("STViT-R", "one long unit"),
    ),
    StudentClaim(
        "stvit_table9",
        "Reusing semantic tokens costs accuracy (printed: detection)",
        above("STViT-R", "reusing semantic tokens"),
    ),
    StudentClaim(
        "stvit_table9", "STViT-R stays within half a point of the dense Swin (Table 3)", reason=CEILING
    ),
    StudentClaim("bat_table3_keep70", "Each step of BAT adds at keep rate 0.7", steps(0.7)),
    StudentClaim("bat_table3_keep50", "Each step of BAT adds at keep rate 0.5", steps(0.5)),
    StudentClaim(
        "bat_table4",
        "Density peaks merge better than pooling and sub-sampling",
        above("merger density_peaks, 0.5", *(f"merger {name}, 0.5" for name in MERGERS[:5])),
    ),
    StudentClaim(
        "bat_keep_rates",
        "BAT at keep rate 0.7 stays within half a point of the dense model",
        reason=CEILING,
    ),
    StudentClaim(
        "bat_keep_rates",
        "The fewer tokens BAT keeps, the lower its accuracy",
        above("BAT, keep rate 0.7", "BAT, keep rate 0.5") + above("BAT, keep rate 0.5", "BAT, keep rate 0.3"),
    ),
)
Found = dict[str, dict[int, float]]  # row → seed → centred cosine in points; of maps their correlation


def verdicts(found: Found, claims: tuple[StudentClaim, ...] = CLAIMS) -> pd.DataFrame:
    """Each conclusion, its verdicts, the differences that give them, and what the ablations' table says."""
    gaps = {
        comparison: paired(found.get(comparison[0], {}), found.get(comparison[2], {}))
        for claim in claims
        for comparison in claim.comparisons
    }
    cases = [(relation, gap) for (_, relation, _), gap in gaps.items()]
    looks = [2 if len(gap) > len(SEEDS) else 1 for gap in gaps.values()]
    ways = {
        "verdict": dict(zip(gaps, judge_together(cases, LEVEL, MARGIN, looks), strict=True)),
        "one spread": decide(found, claims),
        "alone": dict(zip(gaps, (judge(*case) for case in cases), strict=True)),
    }
    before = ablations()
    lines = []
    for claim in claims:
        asked = claim.comparisons
        evidence = (f"{one} − {other}: {described(gaps[one, how, other])}" for one, how, other in asked)
        lines.append(
            {
                "table": claim.table,
                "conclusion": claim.words,
                **{
                    way: combine([told[c] for c in asked]) if asked else UNASKED for way, told in ways.items()
                },
                "equal": ", ".join(f"{c[0]} and {c[2]}" for c in asked if is_equal(gaps[c])),
                "ablations": before.get((claim.table, claim.words), ""),
                "evidence": "; ".join(evidence) or claim.reason,
            }
        )
    return pd.DataFrame(lines)


def is_equal(differences: list[float]) -> bool:
    """Does the pair's own 95 % interval lie within the margin on both sides?"""
    if len(differences) < FEWEST:
        return False
    mean, _, half = spread(differences)
    return abs(mean) + half < MARGIN


def ablations() -> dict[tuple[str, str], str]:
    """What the grid of scenes, trained from scratch, says of each conclusion."""
    path = RESULTS / "ablations" / "conclusions.csv"
    if not path.exists():
        return {}
    return {(row.table, row.conclusion): row.verdict for row in pd.read_csv(path).itertuples()}


def decide(found: Found, claims: tuple[StudentClaim, ...] = CLAIMS) -> dict[Comparison, str]:
    """Each comparison by one spread for all rows, with Holm's correction over all that were run."""
    spreads = {maps: pooled(alike(found, maps)) for maps in (False, True)}
    wanted = dict.fromkeys(c for claim in claims for c in claim.comparisons)
    tested = {}
    for comparison in wanted:
        differences = paired(found.get(comparison[0], {}), found.get(comparison[2], {}))
        spread_of = spreads[compared_by_maps(comparison[0])]
        if len(differences) >= FEWEST and spread_of is not None:
            tested[comparison] = chances(comparison[1], differences, *spread_of)
    decided = dict.fromkeys(wanted, NOT_RUN)
    corrected = holm([2 * min(both) for both in tested.values()])
    for (comparison, (holds, fails)), p in zip(tested.items(), corrected, strict=True):
        decided[comparison] = OPEN if p > LEVEL else HOLDS if holds <= fails else FAILS
    return decided


def chances(relation: str, differences: list[float], sigma: float, freedom: int) -> tuple[float, float]:
    """One-sided p-values: against what the comparison claims being false, and against its being true."""
    from scipy.stats import t

    mean, _, _ = spread(differences)
    error = sigma * math.sqrt(2 / len(differences))
    if relation == "above":
        return float(t.sf(mean / error, freedom)), float(t.cdf(mean / error, freedom))
    if relation == "not above":
        return float(t.cdf((mean - MARGIN) / error, freedom)), float(t.sf(mean / error, freedom))
    raise ValueError(f"unknown relation {relation!r}")


def compared_by_maps(name: str) -> bool:
    return name in ROWS and ROWS[name].maps


def alike(found: Found, maps: bool = False) -> Found:
    """The rows that have one measure: of maps, or of the class feature."""
    return {name: values for name, values in found.items() if compared_by_maps(name) == maps}


def pooled(found: Found) -> tuple[float, int] | None:
    """The spread that rows and seeds leave unexplained over all complete rows, and its degrees of freedom."""
    blocks = [[values[seed] for seed in SEEDS] for values in found.values() if values.keys() >= {*SEEDS}]
    return residual_spread(blocks) if len(blocks) > 1 else None


def half_width(found: Found, comparisons: int = 1, seeds: int = len(SEEDS)) -> float | None:
    """Half the interval of a difference of two rows; ``comparisons``: that hold at once (Bonferroni)."""
    known = pooled(found)
    if known is None:
        return None
    from scipy.stats import t

    sigma, freedom = known
    return float(t.ppf(1 - LEVEL / 2 / comparisons, freedom)) * sigma * math.sqrt(2 / seeds)
