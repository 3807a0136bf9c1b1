"""What the paper concludes about dense tasks, as statements that the cells can test.

A comparison is decided by the 95 % interval of its paired differences over seeds: wholly on the claimed
side, it holds; wholly on the other, it does not; else these cells cannot tell. "not below" allows half a
point. See ``analysis.shared.verdicts``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.dense.cells import CELLS, SEEDS
from analysis.dense.tables import SECTIONS, results_of, scored, values
from analysis.shared.statistics import paired
from analysis.shared.verdicts import described, judge


@dataclass(frozen=True)
class DenseClaim:
    """``one`` relation ``other`` by a score of a task's table."""

    task: str
    words: str
    one: str
    relation: str
    other: str
    score: str


NO_UNITS, REUSED = "STViT-R without units", "STViT-R, reused tokens"
CLAIMS = (
    DenseClaim("detection", "A third fewer FLOPs cost no AP (Table 5)", "STViT-R", "not below", "Swin", "ap"),
    DenseClaim("detection", "Nor AP of masks (Table 5)", "STViT-R", "not below", "Swin", "mask_ap"),
    DenseClaim(
        "detection", "Small objects are found better (Table 5)", "STViT-R", "above", "Swin", "ap_small"
    ),
    DenseClaim(
        "detection", "Dumbbell units beat one long unit (Table 9)", "STViT-R", "above", NO_UNITS, "ap"
    ),
    DenseClaim("detection", "Reusing semantic tokens costs AP (Table 9)", REUSED, "below", "STViT-R", "ap"),
    DenseClaim("segmentation", "Segmentation loses mIoU (Table 12)", "STViT-R", "below", "Swin", "miou"),
    DenseClaim("segmentation", "Not printed: units beat one long unit", "STViT-R", "above", NO_UNITS, "miou"),
    DenseClaim(
        "segmentation", "Not printed: reusing semantic tokens costs mIoU", REUSED, "below", "STViT-R", "miou"
    ),
)
LARGER_DROP = "Segmentation loses more points than detection (Appendix, Table 12)"


def verdicts(claims=CLAIMS, seeds=SEEDS, folder: Path = CELLS) -> pd.DataFrame:
    """Each conclusion, its verdict and the differences that give it."""
    found = {section.task: results_of(section, seeds, folder) for section in SECTIONS}

    def differences(task: str, one: str, other: str, score: str) -> dict[int, float]:
        rows = [values(found[task].get(row, {}), scored(score)) for row in (one, other)]
        return dict(zip(sorted(rows[0].keys() & rows[1].keys()), paired(*rows), strict=True))

    lines = []
    for claim in claims:
        own = list(differences(claim.task, claim.one, claim.other, claim.score).values())
        evidence = f"{claim.score}: {claim.one} − {claim.other}: {described(own)}"
        lines.append((claim.task, claim.words, judge(claim.relation, own), evidence))
    drops = [differences(section.task, "STViT-R", "Swin", section.headline) for section in reversed(SECTIONS)]
    own = paired(*drops)
    evidence = f"(miou: STViT-R − Swin) − (ap: STViT-R − Swin): {described(own)}"
    lines.append(("both", LARGER_DROP, judge("below", own), evidence))
    return pd.DataFrame(lines, columns=["table", "conclusion", "verdict", "evidence"])
