"""One cell of a grid: what the formulas predict, what the draws say, and which bounds held."""

from __future__ import annotations

import math

import numpy as np

from analysis.cluster_sim import bounds
from analysis.cluster_sim.geometry import Problem
from analysis.cluster_sim.options import SimulatedCell
from analysis.cluster_sim.sampler import Draws, generator, reduced
from analysis.cluster_sim.theory import defect, expected_defect, freezing, limit

GAUSSIAN = 0.1  # F3 is held to 5 % up to this v/ln n


def measure(cell: SimulatedCell) -> dict:
    """A flat row of plain numbers, so that any backend can carry it and JSON can keep it."""
    p = cell.problem()
    draws = reduced(p, cell.n, cell.trials, generator(cell.seed, cell.stream))
    return {**describe(cell, p), **compare(cell, p, draws), **violations(cell, p, draws)}


def describe(cell: SimulatedCell, p: Problem) -> dict:
    v = p.v
    return {
        "K": cell.K,
        "d": cell.d,
        "n": cell.n,
        "theta_deg": round(math.degrees(cell.theta), 9),
        "sigma": cell.sigma,
        "gamma": cell.gamma,
        "init": cell.init,
        "lam": p.lam,
        "Delta": p.Delta,
        "rate_x": p.x,
        "v": v,
        "v_over_ln_n": v / math.log(cell.n) if cell.n > 1 else None,
        "regime": freezing(v, cell.n),
        "trials": cell.trials,
        "seed": cell.seed,
    }


def compare(cell: SimulatedCell, p: Problem, draws: Draws) -> dict:
    measured = defect(draws.m, p.mu[0])
    mean, error = float(measured.mean()), standard_error(measured)
    F3 = expected_defect(p.q, p.mu, p.lam, p.sigma, cell.n)
    return {
        "limit": float(defect(limit(p.q, p.mu, p.lam, p.sigma), p.mu[0])),
        "predicted": F3,
        "predicted_complete": expected_defect(p.q, p.mu, p.lam, p.sigma, cell.n, complete=True),
        "measured": mean,
        "standard_error": error,
        "median": float(np.median(measured)),
        "ratio": mean / F3,
        "n_eff": float(np.median(draws.n_eff)),
        "top_weight": float(np.median(draws.top)),
    }


def violations(cell: SimulatedCell, p: Problem, draws: Draws) -> dict:
    """How many trials broke each bound on 1 − cos, and the typical bound on |m̂ − (1+ρ)μ_k|."""
    measured, n = defect(draws.m, p.mu[0]), cell.n
    off = np.linalg.norm(draws.m - (1 + p.rho) * p.mu[0], axis=1)
    row = {"covered": bounds.covered(p, n), "allowed": min(1.0, 5 * p.K / n**2)}
    for name in ("printed", "typical", "corrected", "certified"):
        bound = getattr(bounds, f"{name}_defect")(p, *(() if name == "printed" else (n,)))
        row[name] = bound
        row[f"{name}_broken"] = int(np.sum(measured > bound))
    row["error_broken"] = int(np.sum(off > bounds.typical_error(p, n)))
    row["jump"] = bounds.jump_probability(p, n) if row["covered"] else 1.0
    return row


def standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def tokens_on_device(cell: SimulatedCell, device: str) -> dict:
    """The same update from tokens made, used and dropped on ``device``, in float64 where it has it."""
    import torch

    from analysis.cluster_sim import attention

    p, place = cell.problem(), attention.resolve_device(device)
    kind = torch.float32 if place.type == "mps" else torch.float64
    mu, q = (torch.tensor(value, dtype=kind, device=place) for value in (p.mu, p.q[None]))
    draws = [
        attention.streamed(q, attention.generate(mu, p.sigma, cell.n, cell.stream + t), p.lam)[0]
        .cpu()
        .numpy()
        for t in range(cell.trials)
    ]
    values = defect(np.array(draws), p.mu[0])
    return {
        "device": device,
        "tokens_measured": float(values.mean()),
        "tokens_standard_error": standard_error(values),
    }


def interval(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's exact interval for a binomial proportion."""
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, trials - successes + 1))
    high = 1.0 if successes == trials else float(beta.isf(tail, successes + 1, trials - successes))
    return low, high
