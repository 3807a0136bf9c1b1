"""9. What the theorem leaves out: heads replace d by d/H, a residual keeps half of the angle."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.cluster_sim.geometry import problem
from analysis.cluster_sim.measure import standard_error
from analysis.cluster_sim.options import Options
from analysis.cluster_sim.sampler import generator, reduced
from analysis.cluster_sim.theory import canonical, defect, limit

TITLE = "Heads and the residual"
CAPTION = (
    "Left: H heads on d = 512, each head's centers orthonormal; line: the closed form at d/H. Right: "
    "with a "
    "residual, q ← q + m̂, after 1 to 4 layers; line: population recursion, dashed: 1 − cos(θ₀/2). K = "
    "16, n = 1024."
)
ALT = "Error growing with the number of heads along the closed form, and the residual's slow decay."
K, D, N, THETA, SIGMA = 16, 512, 1024, math.pi / 4, 0.7
HEADS = (1, 2, 4, 8, 16)


def compute(options: Options) -> pd.DataFrame:
    trials = options.count(options.pick(40, 150, 5000))
    heads = [_heads(H, trials, options) for H in HEADS]
    return pd.DataFrame(heads + _residual(max(10, trials // 3), options))


def _row(kind: str, at: int, draws: np.ndarray, predicted: float) -> dict:
    measured, error = float(draws.mean()), standard_error(draws)
    agrees = abs(measured - predicted) <= max(4 * error, 0.05 * predicted)
    return {
        "kind": kind,
        "at": at,
        "predicted": predicted,
        "measured": measured,
        "standard_error": error,
        "trials": len(draws),
        "verdict": "agrees" if agrees else f"FINDING: {measured / predicted:.2f} of the prediction",
    }


def _heads(H: int, trials: int, options: Options) -> dict:
    """Centers and query [e_i; …; e_i]/√H: every head sees the canonical problem of dimension d/H.

    A slice of a token is 1/√H times a token of that problem with the same σ, so that the slice's logits
    need H times its λ; the concatenation of the H independent updates over √H is the layer's output.
    """
    p = problem(K, D // H, THETA, SIGMA)
    parts = [reduced(p, N, trials, generator(options.seed, 9, H, h)).m for h in range(H)]
    m, target = np.concatenate(parts, axis=1), np.tile(p.mu[0], H)
    return {**_row("heads", H, defect(m, target), canonical(K, D // H, THETA, SIGMA, N)), "x": p.x, "v": p.v}


def _residual(trials: int, options: Options) -> list[dict]:
    """q ← q + m̂(q/|q|) on fresh tokens each layer, beside the same recursion with m∞."""
    from dataclasses import replace

    base = problem(K, D, THETA, SIGMA)
    q = np.tile(base.q, (trials, 1))  # [T, d]
    far, rows = base.q.copy(), []
    for layer in (1, 2, 3, 4):
        steps = []
        for t in range(trials):
            p = replace(base, q=q[t] / np.linalg.norm(q[t]))
            steps.append(reduced(p, N, 1, generator(options.seed, 99, layer, t)).m[0])
        q = q + np.array(steps)
        far = far + limit(far / np.linalg.norm(far), base.mu, base.lam, base.sigma)
        rows.append(_row("residual", layer, defect(q, base.mu[0]), float(defect(far, base.mu[0]))))
    return rows


def condense(frame: pd.DataFrame) -> pd.DataFrame:
    table = frame.rename(columns={"at": "heads or layers", "kind": "what"})
    return table[["what", "heads or layers", "predicted", "measured", "standard_error", "trials", "verdict"]]


def plot(frame: pd.DataFrame):
    from analysis import style

    with style.house_style():
        fig, (left, right) = style.figure(style.PAGE, 2.6, columns=2)
        for ax, kind in ((left, "heads"), (right, "residual")):
            part = frame[frame.kind == kind]
            ax.plot(part["at"], part.predicted, color=style.PREDICTED, label="predicted")
            error = 2 * part.standard_error
            ax.errorbar(
                part["at"], part.measured, yerr=error, fmt="o", color=style.MEASURED, label="measured"
            )
            ax.set(yscale="log", ylabel="1 − cos")
        left.set_xscale("log", base=2)
        left.set_xticks(HEADS, [str(h) for h in HEADS])
        left.set(xlabel="heads H", title=f"d = {D}")
        half = 1 - math.cos(THETA / 2)
        right.axhline(half, color=style.GREY, linestyle="--", linewidth=0.9, label="1 − cos(θ₀/2)")
        single = frame[(frame.kind == "heads") & (frame["at"] == 1)].measured.iloc[0]
        right.axhline(single, color=style.GREEN, linestyle=":", linewidth=1, label="one layer, no residual")
        right.set(xlabel="layers with a residual", xticks=[1, 2, 3, 4])
        left.legend(loc="upper left")
        right.legend(loc="center right")
    return fig


def words(frame: pd.DataFrame) -> str:
    heads, residual = frame[frame.kind == "heads"].set_index("at"), frame[frame.kind == "residual"]
    most, first, last = max(heads.index), residual.iloc[0], residual.iloc[-1]
    good = int((heads.verdict == "agrees").sum())
    half, one = 1 - math.cos(THETA / 2), heads.loc[1].measured
    angle = math.degrees(math.acos(1 - first.measured))
    return (
        f"With H heads each head works in d/H dimensions and the layer's error is that of d/H: the "
        f"closed form "
        f"agrees on {good} of {len(heads)} head counts, and {most} heads cost a factor "
        f"{heads.loc[most].measured / one:.3g} over one. A residual keeps the query: after one layer 1 "
        f"− cos is "
        f"{first.measured:.4f} ± {first.standard_error:.1g} (angle {angle:.1f}°, half of "
        f"{math.degrees(THETA):.0f}° would give {half:.4f}), {first.measured / one:.3g} times the bare "
        f"update's, "
        f"and {last.measured:.4f} after {int(last['at'])} layers. The theorem's rate is about the bare "
        f"update."
    )
