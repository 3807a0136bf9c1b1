"""Which quality counts, the front, and the recommendation in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.offtheshelf.tables import on_front

if TYPE_CHECKING:
    import pandas as pd

QUALITIES = {  # column → what it is, in words
    "agreement": "answers that agree with the dense model's",
    "cosine": "centred cosine of class features to the dense ones",
    "retrieved": "crops that are found again by their class feature",
    "patches": "cosine of image tokens to the dense ones",
    "iou": "overlap of saliency maps with the dense ones",
}
CONTROL = "random"


def quality_of(rows: pd.DataFrame, asked: str | None = None) -> str:
    """The column to judge by: the one asked for, else the model's own answers, else its class feature."""
    known = [name for name in QUALITIES if name in rows]
    if asked and asked not in known:
        raise ValueError(f"no quality {asked!r} of this model; choose one of {', '.join(known)}")
    return asked or known[0]


def judged(rows: pd.DataFrame, quality: str) -> pd.DataFrame:
    """The table in the order of speed, with the fronts by measured time and by FLOPs."""
    known = rows.dropna(subset=[quality])
    return known.assign(
        front_time=on_front(1 / known.times_as_fast, known[quality]),
        front_flops=on_front(known.share, known[quality]),
    ).sort_values("times_as_fast", ascending=False, ignore_index=True)


def chosen(frame: pd.DataFrame, quality: str, loss: float) -> pd.DataFrame:
    """The settings that lose at most ``loss``, faster ones first; the dense model itself is none."""
    return frame[(frame[quality] >= 1 - loss) & (frame.share < 0.999)]


def recommendation(frame: pd.DataFrame, quality: str, loss: float, where: str) -> str:
    """One sentence, and what it rests on."""
    what = QUALITIES[quality]
    enough = chosen(frame, quality, loss)
    if enough.empty:
        best = frame[frame.share < 0.999].sort_values(quality, ascending=False).iloc[0]
        return (
            f"No setting keeps {1 - loss:.1%} of {what} ({where}); the nearest is {named(best)} with "
            f"{scored(best, quality)}, {paid(best)}. Its parts or weights may have to be trained: stvit.distill."
        )
    best = enough.iloc[0]
    text = f"For a loss of at most {loss:.1%} in {what}: {named(best)}, {paid(best)}"
    text += f", {scored(best, quality)} ({where})."
    rivals = [named(row) for _, row in enough.iloc[1:].iterrows() if overlap(row, best, quality)][:2]
    if rivals:
        text += f" Within its interval and nearly as fast: {', '.join(rivals)}."
    control = frame[frame.row == CONTROL]
    if len(control) and best.row != CONTROL:
        one = control.loc[(control.share - best.share).abs().idxmin()]
        text += f" Random tokens with {one.share:.0%} of the FLOPs: {scored(one, quality)}."
    return text


def overlap(row, best, quality: str) -> bool:
    near = row.times_as_fast > 0.9 * best.times_as_fast
    return near and row[f"{quality}_high"] >= best[f"{quality}_low"]


def named(row) -> str:
    return f"{row.method} ({row.setting})" if row.setting else row.method


def paid(row) -> str:
    return f"{row.times_as_fast:.2f} times as fast with {row.share:.0%} of the FLOPs"


def scored(row, quality: str) -> str:
    return f"{row[quality]:.3f} [{row[f'{quality}_low']:.3f}, {row[f'{quality}_high']:.3f}]"
