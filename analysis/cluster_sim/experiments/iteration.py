"""7. Iterating the layer: contraction, the floor of finite n, and the collapse onto single tokens."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.cluster_sim.geometry import Problem, problem
from analysis.cluster_sim.measure import standard_error
from analysis.cluster_sim.options import Options
from analysis.cluster_sim.sampler import generator
from analysis.cluster_sim.theory import defect, limit

TITLE = "More layers: contraction, a floor, and collapse"
CAPTION = (
    "Left: 1 − cos over iterations on the same tokens (median of the trials; K = 8, d = 64, n = 256, "
    "θ₀ = 45°), by σ; dashed: population limit at σ = 1. Right: the largest weight after the last step "
    "against r = λσ²p_max; collapse is predicted from r = 1 on."
)
ALT = "Error against iteration for several noise levels, and the largest final weight against r."
K, D, N, THETA, ITERATIONS = 8, 64, 256, math.pi / 4, 12
SIGMAS = (0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)


def instability(p: Problem, n: int) -> float:
    """r = λσ²p_max, p_max ≈ exp(√(2v ln n) − v/2)/n: above 1 one token outweighs the pull of the mean."""
    exponent = math.sqrt(2 * p.v * math.log(n)) - p.v / 2
    return p.lam * p.sigma**2 * min(1.0, math.exp(min(exponent, 50.0)) / n)


def population(p: Problem, steps: int = ITERATIONS) -> list[np.ndarray]:
    """q, m∞(q), m∞ of that normalised, …: the queries of each step in the limit n → ∞."""
    path = [p.q]
    for _ in range(steps):
        m = limit(path[-1], p.mu, p.lam, p.sigma)
        path.append(m / np.linalg.norm(m))
    return path


def on_tokens(p: Problem, n: int, rng, steps: int = ITERATIONS) -> tuple[np.ndarray, float]:
    """1 − cos after each step on one set of tokens, and the largest weight of the last step."""
    x = p.mu[:, None] + p.sigma / math.sqrt(p.d) * rng.standard_normal((p.K, n, p.d))
    x, q, path = x.reshape(-1, p.d), p.q, []
    for _ in range(steps):
        logits = p.lam * (x @ q)
        w = np.exp(logits - logits.max())
        w /= w.sum()
        q = w @ x
        q /= np.linalg.norm(q)
        path.append(float(defect(q, p.mu[0])))
    return np.array(path), float(w.max())


def compute(options: Options) -> pd.DataFrame:
    """Rows of kind "contraction" (population, out-of-span tangent) and "tokens" (finite n, by σ)."""
    return pd.DataFrame(_contraction() + [_tokens(sigma, options) for sigma in SIGMAS])


def _contraction() -> list[dict]:
    """The tangent along the query's tilt: one step multiplies it by ρ cos θ/(p_k + ρ cos θ) → ρ/(1+ρ)."""
    rows = []
    for d in (64, 256, 1024):
        p = problem(K, d, THETA, 1.0)
        tilt = p.q - (p.q @ p.mu[0]) * p.mu[0]
        tangent = [float(q @ tilt / (q @ p.mu[0])) for q in population(p, 4)]
        for step in (1, 2, 3):
            measured, predicted = tangent[step] / tangent[step - 1], p.rho / (1 + p.rho)
            word = "within 1 %" if abs(measured / predicted - 1) <= 0.01 else "not yet: large angle"
            at = {"kind": "contraction", "d": d, "sigma": 1.0, "step": step}
            rows.append({**at, "measured": measured, "predicted": predicted, "verdict": word})
    return rows


def _tokens(sigma: float, options: Options) -> dict:
    p = problem(K, D, THETA, sigma)
    trials = options.count(options.pick(6, 30, 500))
    runs = [on_tokens(p, N, generator(options.seed, 7, int(1000 * sigma), t)) for t in range(trials)]
    paths, tops = np.array([path for path, _ in runs]), np.array([top for _, top in runs])
    r, collapsed = instability(p, N), float(np.mean(tops > 0.5))
    expected, seen = "collapse" if r >= 1 else "stable", "collapse" if collapsed > 0.5 else "stable"
    return {
        "kind": "tokens",
        "d": D,
        "sigma": sigma,
        "v_over_ln_n": p.v / math.log(N),
        "r": r,
        "first": float(np.median(paths[:, 0])),
        "second": float(np.median(paths[:, 1])),
        "last": float(np.median(paths[:, -1])),
        "last_mean": float(paths[:, -1].mean()),
        "standard_error": standard_error(paths[:, -1]),
        "floor": 0.5 * sigma**2 * math.exp(p.v) / N,
        "top": float(np.median(tops)),
        "collapsed": collapsed,
        "trials": trials,
        "path": [float(value) for value in np.median(paths, axis=0)],
        "verdict": f"{seen}, as r says" if seen == expected else f"FINDING: {seen} though r = {r:.2g}",
    }


def condense(frame: pd.DataFrame) -> pd.DataFrame:
    names = {
        "sigma": "σ",
        "v_over_ln_n": "v / ln n",
        "r": "r",
        "first": "1 − cos, step 1",
        "second": "step 2",
        "last": f"step {ITERATIONS}",
        "standard_error": "s.e. of the last",
        "floor": "½σ²e^v/n",
        "top": "largest weight",
        "collapsed": "share collapsed",
        "trials": "trials",
        "verdict": "verdict",
    }
    return frame[frame.kind == "tokens"][list(names)].rename(columns=names)


def plot(frame: pd.DataFrame):
    import matplotlib as mpl

    from analysis import style

    rows = frame[frame.kind == "tokens"]
    with style.house_style():
        fig, (left, right) = style.figure(style.PAGE, 2.8, columns=2, width_ratios=(1.35, 1))
        shades = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(rows)))
        steps = np.arange(1, ITERATIONS + 1)
        for row, color in zip(rows.itertuples(), shades, strict=True):
            left.plot(
                steps, row.path, "o-", color=color, markersize=2.5, linewidth=1, label=f"σ = {row.sigma:g}"
            )
            right.plot(row.r, row.top, "o", color=color, markersize=6)
        p = problem(K, D, THETA, 1.0)
        left.plot(steps, [float(defect(q, p.mu[0])) for q in population(p)[1:]], "--", color=style.GREY)
        left.set(yscale="log", xlabel="step", ylabel="1 − cos to μ_k", xticks=steps[::2])
        left.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        right.axvline(1, color=style.GREY, linestyle="--", linewidth=0.8)
        right.set(xscale="log", xlabel="r = λσ²p_max", ylabel="largest weight, last step", ylim=(0, 1.05))
    return fig


def words(frame: pd.DataFrame) -> str:
    near, rows = frame[frame.kind == "contraction"], frame[frame.kind == "tokens"]
    late, stable = near[near.step == 3], rows[rows.collapsed < 0.1]
    off = (late.measured / late.predicted - 1).abs().max()
    ruined = rows[rows["last"] > 2 * rows["first"]]
    agree = int(rows.verdict.str.endswith("as r says").sum())
    text = (
        f"In the population limit the tangent along the query's tilt shrinks by ρ/(1+ρ) a step: the third "
        f"step agrees within {off:.1%}. On a finite sample it stops early: where nothing collapses, step "
        f"{ITERATIONS} stands at {(stable['last'] / stable.floor).min():.2g}-"
        f"{(stable['last'] / stable.floor).max():.2g} times ½σ²e^v/n. r = λσ²p_max ≥ 1 foretells on "
        f"{agree} of {len(rows)} noise levels whether most runs collapse onto a single token. "
    )
    if len(ruined):
        text += (
            f"From σ = {ruined.sigma.min():g} on, {ITERATIONS} steps are worse than one by a factor of two "
            f"or more "
            f"(up to {(ruined['last'] / ruined['first']).max():.2g}). "
        )
    return text + (
        "The paper's Table 8 reports 79.8, 79.5 and 79.6 % for two, three and four clustering layers: more "
        "layers did not help there either. Its layers are learned and have residuals, so that this is a "
        "possible reading and no explanation."
    )
