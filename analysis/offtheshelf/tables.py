"""The table: one row a setting, means with bootstrap intervals over photographs, and the Pareto front."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import draws, interval
from analysis.shared.field import label

if TYPE_CHECKING:
    import pandas as pd

MEASURES = ("cosine", "agreement", "retrieved", "patches", "correlation", "iou", "diversity", "merged_alike",
            "merged_chance", "kept_salient", "kept_elsewhere", "dropped_salient", "dropped_elsewhere")  # fmt: skip


def table(study: dict) -> pd.DataFrame:
    """``study``: one of ``cells.studies``."""
    import pandas as pd

    dense, rows = study["dense"], []
    drawn = draws(len(study["photographs"]))
    for cell in study["cells"]:
        row = {
            "row": cell["row"],
            "method": label(cell["row"]),
            "keep_rate": float("nan") if cell["rate"] is None else cell["rate"],
            "setting": ", ".join(f"{name}={value}" for name, value in cell["choices"].items()),
            "untrained_parts": cell["untrained_parts"],
            "tokens": cell["tokens"],
            "gflops": cell["multiply_adds"] / 1e9,
            "share": cell["multiply_adds"] / dense["multiply_adds"],
            "times_as_fast": cell["time"]["times_as_fast"],
        }
        for name in MEASURES:
            if name in cell["photographs"]:
                values = np.array(
                    cell["photographs"][name], dtype=float
                )  # None, where a photograph has none: NaN
                low, high = interval(values, drawn)
                known = values[~np.isnan(values)]
                mean = known.mean() if len(known) else float("nan")
                row |= {name: mean, f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    frame = pd.DataFrame(rows).sort_values(["row", "keep_rate"], ignore_index=True)
    return frame.assign(
        front=on_front(frame.share, frame.cosine),
        front_by_time=on_front(1 / frame.times_as_fast, frame.cosine),
    )


def on_front(cost, gain) -> list[bool]:
    """No other row costs at most as much and gains at least as much, with one of the two better."""
    cost, gain = np.asarray(cost), np.asarray(gain)
    return [
        not ((cost <= c) & (gain >= g) & ((cost < c) | (gain > g))).any()
        for c, g in zip(cost, gain, strict=True)
    ]


def sentences(frame: pd.DataFrame) -> list[str]:
    """One sentence a method."""
    said = []
    for _, rows in frame.groupby("row", sort=False):
        name = rows.method.iloc[0]
        untrained = " (its own parts are untrained)" if rows.untrained_parts.any() else ""
        parts = rows[rows.keep_rate < 1] if rows.keep_rate.notna().any() else rows
        told = "; ".join(
            f"{one.cosine:.3f} [{one.cosine_low:.3f}, {one.cosine_high:.3f}] at {one.share:.0%}"
            for one in parts.sort_values("share", ascending=False).itertuples()
        )
        best = rows[rows.front & (rows.share < 0.999)]
        where = (
            f" On the front at {', '.join(f'{share:.0%}' for share in best.share.sort_values(ascending=False))}."
            if len(best)
            else " Never on the front."
        )
        said.append(f"**{name}**{untrained}: centred cosine {told} of the multiply-adds.{where}")
    return said
