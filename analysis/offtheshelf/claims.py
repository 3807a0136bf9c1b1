"""What the papers claim of methods at equal keep rates, each pair of rows compared photograph by photograph."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.bootstrap import claim, draws

if TYPE_CHECKING:
    import pandas as pd

MARGIN = 0.005  # of the centred cosine, of IoU: named before anything was measured
CAPTION_MARGIN = 0.01  # of shares of patches, cosines between patches, and BAT's score


class PairedClaim(NamedTuple):
    """``better`` is above ``worse`` in ``measure`` at equal keep rate, says ``source``.

    beside: another measure of ``worse`` to compare with
    """

    source: str
    text: str
    better: str
    worse: str
    measure: str = "cosine"
    beside: str = ""


CLAIMS = (
    PairedClaim("BAT, Table 1", "BAT is above EViT", "bat", "evit"),
    PairedClaim("EViT", "a fused token is better than none: EViT is above top-k", "evit", "topk"),
    PairedClaim("BAT, Figure 1", "importance and diversity are above importance alone", "bat", "topk"),
    PairedClaim(
        "BAT, Figure 1", "importance and diversity are above diversity alone", "bat", "diversity alone"
    ),
    PairedClaim(
        "both papers", "class attention tells which tokens matter: top-k is above random", "topk", "random"
    ),
    PairedClaim(
        "BAT, Section 4.2", "merged background is better than none in dense output, too", "bat", "topk", "iou"
    ),
    PairedClaim("ToMe", "merging alike tokens is above pruning, at equal multiply-adds", "tome", "topk"),
    PairedClaim("this project", "ToMe is above BAT, at equal multiply-adds", "tome", "bat"),
)
CAPTION_CLAIMS = (
    PairedClaim(
        "BAT, Figure 2 (b)",
        "importance masks the background: patches that do not stand out are dropped more often",
        "topk",
        "topk",
        "dropped_elsewhere",
        "dropped_salient",
    ),
    PairedClaim(
        "BAT, Figures 2 (d) and 5",
        "BAT keeps the discriminative patches: those that stand out more than the others",
        "bat",
        "bat",
        "kept_salient",
        "kept_elsewhere",
    ),
    PairedClaim(
        "BAT, Figure 2 (c)",
        "diversity alone does not keep them: BAT keeps more of what stands out",
        "bat",
        "diversity alone",
        "kept_salient",
    ),
    PairedClaim(
        "BAT, Figure 5",
        "patches that BAT merged are alike, beyond any two of the merged ones",
        "bat",
        "bat",
        "merged_alike",
        "merged_chance",
    ),
    PairedClaim(
        "BAT, Figure 4", "BAT's tokens are more diverse than EViT's (Eq. 4)", "bat", "evit", "diversity"
    ),
    PairedClaim(
        "BAT, Figure 4", "they are more diverse than without merging (top-k)", "bat", "topk", "diversity"
    ),
)


def judge(study: dict, claims: tuple[PairedClaim, ...] = CLAIMS, margin: float = MARGIN) -> pd.DataFrame:
    """A row for each claim and keep rate whose two cells are there."""
    import pandas as pd

    cells = {(cell["row"], cell["rate"]): cell["photographs"] for cell in study["cells"]}
    rates = sorted({rate for _, rate in cells if rate is not None and rate < 1})
    pairs = [
        (one, rate, cells[one.better, rate][one.measure], cells[one.worse, rate][one.beside or one.measure])
        for one in claims
        for rate in rates
        if one.measure in cells.get((one.better, rate), ())
        and (one.beside or one.measure) in cells.get((one.worse, rate), ())
    ]
    drawn = draws(len(study["photographs"]))
    rows = []
    for one, rate, *values in pairs:
        better, worse = (np.array(value, dtype=float) for value in values)
        row = dict(source=one.source, claim=one.text, keep_rate=rate, measure=one.measure)
        row |= dict(value=np.nanmean(better), beside=np.nanmean(worse))
        rows.append(claim(better - worse, margin, len(pairs), drawn, **row))
    return pd.DataFrame(rows)


def in_words(frame: pd.DataFrame) -> list[str]:
    """One sentence a claim, over its keep rates."""
    said = []
    for (source, text, measure), rows in frame.groupby(["source", "claim", "measure"], sort=False):
        parts = ", ".join(
            f"{row.keep_rate:g}: {row.verdict} ({row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}])"
            for row in rows.itertuples()
        )
        name = {"cosine": "centred cosine", "iou": "IoU"}.get(measure, measure.replace("_", ", "))
        said.append(f"*{source}*: {text} ({name}). At keep rate {parts}.")
    return said
