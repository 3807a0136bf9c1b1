"""Centers, queries and the gap Δ: the deterministic part of a problem, checked before anything is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from analysis.cluster_sim.theory import check_spread, rate, spread, theorem_lambda

INITS = ("out_of_span", "towards", "generic")


@dataclass(frozen=True)
class Problem:
    """K centers [K, d] of unit norm, a unit query for center 0, λ and σ."""

    mu: np.ndarray
    q: np.ndarray
    lam: float
    sigma: float

    @property
    def K(self) -> int:
        return self.mu.shape[0]

    @property
    def d(self) -> int:
        return self.mu.shape[1]

    @property
    def Delta(self) -> float:
        return gap(self.q, self.mu)

    @property
    def v(self) -> float:
        return spread(self.q, self.lam, self.sigma)

    @property
    def rho(self) -> float:
        return self.lam * self.sigma**2 / self.d

    @property
    def x(self) -> float:
        return rate(self.K, self.d, self.Delta)


@lru_cache(maxsize=8)
def centers(K: int, d: int, gamma: float = 0.0) -> np.ndarray:
    """K unit vectors in R^d with ⟨μ_i, μ_j⟩ = γ for all i ≠ j.

    Their Gram matrix (1 − γ)I + γJ is positive definite, so that K ≤ d suffices, for −1/(K−1) < γ < 1;
    at γ = −1/(K−1), the simplex, its rank is K − 1 and K = d + 1 is possible too.
    """
    lowest = -1 / (K - 1) if K > 1 else -1.0
    if K < 1:
        raise ValueError(f"K must be at least 1, got {K}")
    if not lowest - 1e-12 <= gamma < 1:
        raise ValueError(f"γ must lie in [−1/(K−1), 1) = [{lowest:.4g}, 1), got {gamma}")
    rank = K - 1 if gamma <= lowest + 1e-12 else K
    if d < rank:
        reason = "K > d + 1 never fits" if d + 1 < K else "K = d + 1 needs γ = −1/(K−1)"
        raise ValueError(f"K={K} equicorrelated centers do not exist in d={d} dimensions: {reason}")
    mu = np.eye(K, d) if gamma == 0 else _from_gram(K, d, gamma, rank)
    mu.setflags(write=False)  # it is shared by every problem that asks for it
    return mu


def _from_gram(K: int, d: int, gamma: float, rank: int) -> np.ndarray:
    """The rows of the Gram matrix's Cholesky factor, in closed form: the same on every machine.

    Below its diagonal entry each column is constant. (Eigenvectors of a repeated eigenvalue are what a machine's
    LAPACK makes of them.)
    """
    mu, taken = np.zeros((K, d)), 0.0  # what the columns before take of a later row's squared norm
    for j in range(rank):
        mu[j, j] = math.sqrt(1 - taken)
        mu[j + 1 :, j] = (gamma - taken) / mu[j, j]
        taken += ((gamma - taken) / mu[j, j]) ** 2
    return mu / np.linalg.norm(mu, axis=1, keepdims=True)


def query(mu: np.ndarray, theta: float, init: str = "out_of_span", seed: int = 0) -> np.ndarray:
    """A unit vector at angle θ (radians) from μ_0, tilted in the direction that ``init`` names."""
    K, d = mu.shape
    if init == "out_of_span":
        tilt = _outside(mu)
    elif init == "towards":
        if K < 2:
            raise ValueError(f"init 'towards' needs another center, got K={K}")
        tilt = mu[1]
    elif init == "generic":
        tilt = np.random.default_rng(seed).standard_normal(d)
    else:
        raise ValueError(f"unknown init {init!r}; choose from {', '.join(INITS)}")
    tilt = tilt - (tilt @ mu[0]) * mu[0]
    return math.cos(theta) * mu[0] + math.sin(theta) * tilt / np.linalg.norm(tilt)


def _outside(mu: np.ndarray) -> np.ndarray:
    """A unit vector orthogonal to every center."""
    used = np.flatnonzero(np.abs(mu).max(axis=0))
    free = np.setdiff1d(np.arange(mu.shape[1]), used)
    if len(free):
        return np.eye(1, mu.shape[1], free[0])[0]
    raise ValueError(
        f"no direction outside the span of the centers: d={mu.shape[1]} must exceed the rank of K={len(mu)}"
    )


def gap(q: np.ndarray, mu: np.ndarray) -> float:
    """Δ = min_{j≠0} ⟨q, μ_0 − μ_j⟩ of this query, from the actual vectors."""
    return float(np.min(q @ (mu[0] - mu[1:]).T))


def problem(
    K: int = 16,
    d: int = 256,
    theta: float = math.pi / 4,
    sigma: float = 1.0,
    gamma: float = 0.0,
    init: str = "out_of_span",
    lam: float | None = None,
    seed: int = 0,
) -> Problem:
    """Centers, query and λ (the theorem's unless given); whatever is impossible is refused here."""
    if K < 2:
        raise ValueError(f"K must be at least 2 (Δ compares a center with the others), got {K}")
    if d < 1:
        raise ValueError(f"d must be positive, got {d}")
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"σ must be positive, got {sigma}")
    if not 0 <= theta <= math.pi:
        raise ValueError(f"θ must lie between 0° and 180°, got {math.degrees(theta):g}°")
    mu = centers(K, d, gamma)
    q = query(mu, theta, init, seed)
    Delta = gap(q, mu)
    if not Delta > 1e-12:
        raise ValueError(f"Δ must be positive (the query is nearest to its own center), got {Delta:.6g}")
    lam = theorem_lambda(K, d, Delta) if lam is None else lam
    if not (math.isfinite(lam) and lam > 0):
        raise ValueError(f"λ must be positive, got {lam}")
    check_spread(lam, sigma, d)
    return Problem(mu, q, float(lam), float(sigma))


def sigma_for(v: float, K: int, d: int, theta: float) -> float:
    """σ with λ²σ²/d = v at the theorem's λ."""
    return math.sqrt(v * d) / problem(K, d, theta, 1.0).lam
