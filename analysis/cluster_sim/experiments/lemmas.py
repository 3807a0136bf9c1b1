"""1. The proof line by line: what each line predicts, printed and corrected, beside the measurement."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.cluster_sim.lemmas import ALL, measure_lines
from analysis.cluster_sim.options import Options

TITLE = "The proof, line by line"
CAPTION = (
    "Each line of the proof as a number: the printed and the corrected value over the measured one (1: "
    "the line "
    "is right). Whiskers: two standard errors of the measurement."
)
ALT = "Dot plot of printed and corrected values divided by the measured value for the lines E1 to E18."


def compute(options: Options) -> pd.DataFrame:
    return pd.DataFrame(measure_lines(options.seed))


def condense(frame: pd.DataFrame) -> pd.DataFrame:
    columns = ["id", "quantity", "printed", "corrected", "measured", "standard_error", "trials", "verdict"]
    return frame[columns]


def plot(frame: pd.DataFrame):
    from analysis import style

    with style.house_style():
        fig, ax = style.figure(style.PAGE, 3.0)
        y = np.arange(len(frame))[::-1]
        ax.axvline(1, color=style.INK, linewidth=0.8)
        ax.errorbar(
            np.ones(len(y)),
            y,
            xerr=2 * frame.standard_error / frame.measured.abs(),
            fmt="none",
            ecolor=style.INK,
        )
        for column, color, marker in (
            ("printed", style.PRINTED_COLOUR, "s"),
            ("corrected", style.PREDICTED, "o"),
        ):
            ax.plot(frame[column] / frame.measured, y, marker, color=color, label=column, markersize=5)
        ax.set_xscale("log")
        ax.set_yticks(y, frame.id)
        ax.set(xlabel="value / measured", ylabel="line of the proof")
        ax.legend(loc="lower right")
    return fig


def words(frame: pd.DataFrame) -> str:
    wrong = frame[frame.verdict.str.startswith("printed fails")]
    loose = frame[frame.verdict.str.startswith("printed is true")]
    odd = frame[frame.verdict.str.startswith("FINDING")]
    e4, e7 = (frame[frame.id == name].iloc[0] for name in ("E4", "E7"))
    text = (
        f"Of the {len(ALL)} lines put to the test, {len(wrong)} fail as printed ({', '.join(wrong.id)}) "
        f"and "
        f"{len(loose)} hold but are not sharp ({', '.join(loose.id) or 'none'}). The two that "
        f"matter most "
        f"for what follows: the perpendicular noise keeps the factor e^v that the proof drops (E4: "
        f"measured "
        f"{e4.measured:.3g} ± {e4.standard_error:.1g}, corrected {e4.corrected:.3g}, printed "
        f"{e4.printed:.3g}), "
        f"and the second moment of E7 is {e7.measured / e7.printed:.2g} times what the proof allows it."
    )
    if len(odd):
        text += f" Against our own correction: {', '.join(odd.id)}."
    return text
