"""What the papers claim of methods at equal keep rates, each pair of rows compared photograph by photograph."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.bootstrap import claim, draws

if TYPE_CHECKING:
    import pandas as pd

MARGIN = 0.005  # of the centred cosine, of IoU: named before anything was measured


class Claim(NamedTuple):
    """``better`` is above ``worse`` in ``measure`` at equal keep rate, says ``source``."""

    source: str
    text: str
    better: str
    worse: str
    measure: str = "cosine"


CLAIMS = (
    Claim("BAT, Table 1", "BAT is above EViT", "bat", "evit"),
    Claim("EViT", "a fused token is better than none: EViT is above top-k", "evit", "topk"),
    Claim("BAT, Figure 1", "importance and diversity are above importance alone", "bat", "topk"),
    Claim("BAT, Figure 1", "importance and diversity are above diversity alone", "bat", "diversity alone"),
    Claim(
        "both papers", "class attention tells which tokens matter: top-k is above random", "topk", "random"
    ),
    Claim(
        "BAT, Section 4.2", "merged background is better than none in dense output, too", "bat", "topk", "iou"
    ),
    Claim("ToMe", "merging alike tokens is above pruning, at equal multiply-adds", "tome", "topk"),
    Claim("this project", "ToMe is above BAT, at equal multiply-adds", "tome", "bat"),
)


def judge(study: dict, claims: tuple[Claim, ...] = CLAIMS, margin: float = MARGIN) -> pd.DataFrame:
    """A row for each claim and keep rate whose two cells are there."""
    import pandas as pd

    cells = {(cell["row"], cell["rate"]): cell["photographs"] for cell in study["cells"]}
    rates = sorted({rate for _, rate in cells if rate is not None and rate < 1})
    pairs = [
        (one, rate)
        for one in claims
        for rate in rates
        if all(one.measure in cells.get((row, rate), ()) for row in (one.better, one.worse))
    ]
    drawn = draws(len(study["photographs"]))
    rows = []
    for one, rate in pairs:
        better, worse = (np.array(cells[row, rate][one.measure]) for row in (one.better, one.worse))
        row = dict(source=one.source, claim=one.text, keep_rate=rate, measure=one.measure)
        row |= dict(value=better.mean(), beside=worse.mean())
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
        name = {"cosine": "centred cosine", "iou": "IoU"}.get(measure, measure)
        said.append(f"*{source}*: {text} ({name}). At keep rate {parts}.")
    return said
