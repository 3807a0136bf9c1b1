"""What the papers conclude from their tables, as statements that the grid can test.

A conclusion is a set of comparisons between rows. "above" and "below" are about the sign of the paired
difference, "equal" about its size: no more than a margin of 0.5 points. A comparison is decided by its
95 % interval over seeds: wholly on the claimed side, it holds; wholly on the other, it does not;
else this grid cannot tell. A conclusion holds if all its comparisons do, and fails if one does.

There are three verdicts. The first takes the interval from the pair's own differences: three seeds give it two
degrees of freedom. The second, ``pooled``, takes the spread from all complete rows of the table, which is
sharper and assumes that they have one in common. The third, ``corrected``, is the first where all comparisons of the
grid are judged together (Holm): what is left if the many that were looked at are paid for.
"""

from __future__ import annotations

import pandas as pd

from analysis.ablations.cells import CELLS
from analysis.ablations.design import SEEDS, TABLES
from analysis.ablations.tables import accuracies_of
from analysis.shared.rows import INITIALIZATION_CLAIMS, KEEP_RATE_CLAIMS, Claim, above, every_step_adds
from analysis.shared.verdicts import conclusions

CLAIMS = (
    Claim(
        "stvit_table1", "The fewest semantic tokens cost no accuracy", (("4 tokens", "not below", "dense"),)
    ),
    Claim(
        "stvit_table1",
        "More semantic tokens than the fewest beat the dense model",
        above("16 tokens", "dense") + above("36 tokens", "dense"),
    ),
    Claim(
        "stvit_table1",
        "Accuracy grows with the number of semantic tokens",
        above("9 tokens", "4 tokens") + above("16 tokens", "9 tokens") + above("36 tokens", "16 tokens"),
    ),
    *INITIALIZATION_CLAIMS,
    Claim(
        "stvit_table15",
        "Intra and inter-window pooling beats adaptive pooling",
        above("intra and inter-window", "adaptive"),
    ),
    Claim(
        "stvit_table15",
        "Overlap and two scales do not help",
        (("overlapping windows", "not above", "adaptive"), ("two scales", "not above", "adaptive")),
    ),
    Claim(
        "controls",
        "Not printed: the STGM's attention beats pooling alone",
        above("STViT, 4 tokens", "average pooling alone, 4 tokens"),
    ),
    Claim(
        "stvit_table13",
        "A deeper STGM is better, up to two thirds of the depth",
        above("layers 3-4", "layers 2-3") + above("layers 5-6", "layers 3-4"),
    ),
    Claim(
        "stvit_table8",
        "More than two STGM layers do not help",
        (("3 layers", "not above", "2 layers"), ("4 layers", "not above", "2 layers")),
    ),
    Claim(
        "stvit_table14",
        "Positions for semantic tokens do not help",
        tuple((name, "not above", "none") for name in ("learned", "conditional", "relative")),
    ),
    Claim(
        "stvit_table4",
        "STViT loses less than the other methods at like FLOPs",
        above("STViT, class token", "DynamicViT", "EViT"),
    ),
    Claim(
        "stvit_table9",
        "Dumbbell units beat one long unit (printed: detection)",
        above("STViT-R", "without dumbbell units"),
    ),
    Claim(
        "stvit_table9",
        "Reusing semantic tokens costs accuracy (printed: detection)",
        (("reusing semantic tokens", "below", "STViT-R"),),
    ),
    Claim(
        "stvit_table9",
        "STViT-R stays within half a point of the dense Swin (Table 3)",
        (("STViT-R", "not below", "dense Swin"),),
    ),
    every_step_adds("bat_table3_keep70", 0.7),
    every_step_adds("bat_table3_keep50", 0.5),
    Claim(
        "bat_table4",
        "Density peaks merge better than pooling and sub-sampling",
        above("density_peaks", "average", "max", "spatial", "convolution", "mlp"),
    ),
    *KEEP_RATE_CLAIMS,
)


def verdicts(claims=CLAIMS, tables=TABLES, seeds=SEEDS, folder=CELLS) -> pd.DataFrame:
    """Each conclusion, its verdicts, and the differences that give them."""
    frame = conclusions(claims, {table.name: accuracies_of(table, seeds, folder) for table in tables}, seeds)
    frame = frame.rename(columns={"verdict": "corrected", "alone": "verdict"})
    return frame[["table", "conclusion", "verdict", "pooled", "corrected", "evidence"]]
