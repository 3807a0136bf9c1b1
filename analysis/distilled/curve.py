"""The learning curve: STViT with 16 tokens by the crops it learned from, and untrained methods to compare."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.distilled.cells import CELLS, Cell, read
from analysis.distilled.design import BASE, GRID, ROWS, SEEDS, SHELF
from analysis.shared.statistics import average, spread

COLUMNS = ("row", "crops", "passes", "seeds", "cosine", "sd", "retrieved", "mflops", "cpu_seconds")
BUDGETS = ((0, 1), (500, 1), (1000, 1), (2500, 1), (2500, 2), (2500, 4), (2500, 8))  # crops and passes
FITTED = 2  # passes, up to which a pass over known crops counts as one over others in the law below
CURVE_SEEDS = SEEDS[:3]


def budget(crops: int, passes: int) -> dict:
    """What differs from the grid's own training; nothing, if it is that."""
    if crops == 0:
        return dict(epochs=0)
    given = dict(train_images=crops, epochs=passes)
    return given if given.items() - GRID.training.items() else {}


def untrained() -> list[Cell]:
    """Where the curve begins, and what needs no training."""
    return [Cell(row, 0, budget(0, 1)) for row in (*SHELF, ROWS[BASE])]


def trained(seeds: tuple[int, ...] = CURVE_SEEDS) -> list[Cell]:
    return [Cell(ROWS[BASE], seed, budget(*one)) for seed in seeds for one in BUDGETS[1:]]


def table(folder: Path = CELLS) -> pd.DataFrame:
    """A line a budget, means over the seeds at hand; off the shelf there is one."""
    lines = []
    for row, budgets in ((ROWS[BASE], BUDGETS), *((row, BUDGETS[:1]) for row in SHELF)):
        for crops, passes in budgets:
            found = [read(Cell(row, seed, budget(crops, passes)), folder) for seed in CURVE_SEEDS]
            records = [record for record in found if record]
            if records:
                mean, sd, _ = spread([100 * record["cosine"] for record in records])
                seconds = average([record["seconds"]["training_cpu"] for record in records])
                lines.append(
                    {
                        "row": row.name, "crops": crops, "passes": passes if crops else 0, "seeds": len(records),
                        "cosine": mean, "sd": sd, "retrieved": 100 * average([r["retrieved"] for r in records]),
                        "mflops": records[0]["multiply_adds"] / 1e6, "cpu_seconds": seconds if crops else 0,
                    }
                )  # fmt: skip
    return pd.DataFrame(lines, columns=list(COLUMNS))


def needed(frame: pd.DataFrame, cosine: float) -> tuple[float, float, float] | None:
    """Crops times passes for this cosine by a power law of what is missing to 100, and the range of 95 % of its slope.

    The law is a line in logarithms through the curve's points of at most FITTED passes, extended beyond them; None with
    fewer than four points.
    """
    import numpy as np

    found = law(frame)
    if found is None:
        return None
    slope, half, last, missing = found
    gap = np.log(100 - cosine) - missing

    def crops(slope: float) -> float:
        return float(np.exp(last + gap / slope)) if slope < 0 else float("inf")

    return crops(slope), crops(slope - half), crops(slope + half)


def expected(frame: pd.DataFrame, seen: float) -> float | None:
    """The centred cosine that the law gives for so many crops times passes."""
    import numpy as np

    found = law(frame)
    if found is None:
        return None
    slope, _, last, missing = found
    return float(100 - np.exp(missing + slope * (np.log(seen) - last)))


def law(frame: pd.DataFrame) -> tuple[float, float, float, float] | None:
    """The law's slope in logarithms, half its interval, and its last point: crops times passes, what is missing."""
    import numpy as np
    from scipy.stats import linregress, t

    own = frame[(frame.row == BASE) & (frame.crops > 0) & (frame.passes <= FITTED)]
    if len(own) < 4 or own.cosine.nunique() == 1:
        return None
    seen, missing = np.log(own.crops * own.passes), np.log(100 - own.cosine)
    line = linregress(seen, missing)
    half = line.stderr * t.ppf(0.975, len(own) - 2)
    return line.slope, half, seen.iloc[-1], missing.iloc[-1]


def figure(frame: pd.DataFrame):
    """Cosine by crop passes, and what methods reach off the shelf as lines across."""
    from analysis import style

    with style.house_style():
        fig, ax = style.figure(style.COLUMN * 1.5, 2.8)
        own = frame[frame.row == BASE]
        seen = own.crops * own.passes
        ax.errorbar(
            seen, own.cosine, yerr=own.sd.fillna(0), fmt="o-", capsize=3, color=style.BLUE, label=BASE
        )
        colors = {
            "EViT": style.ORANGE,
            "BAT": style.VERMILION,
            "ToMe": style.GREEN,
            "ToMe from layer 5": style.GREY,
        }
        for one in frame[frame.row != BASE].itertuples():
            ax.axhline(one.cosine, ls="--", color=colors[one.row], label=f"{one.row}, off the shelf")
        many = own[own.passes > FITTED]
        ax.plot(
            many.crops * many.passes, many.cosine, "o", ms=3, color="white", zorder=5
        )  # hollow: known crops again
        ax.set_xscale("symlog", linthresh=500)
        ax.set_xlim(-40, 1.3 * seen.max())
        ax.set_xticks(seen, [f"{number:,}" for number in seen], fontsize=6.5)
        ax.minorticks_off()
        ax.set(xlabel="crops learned from, times passes", ylabel="centred cosine (hundredths)")
        ax.legend()
    return fig
