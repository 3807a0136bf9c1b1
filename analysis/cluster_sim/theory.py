"""Closed forms for one step of softmax attention over K Gaussian clusters, in the paper's symbols.

Tokens x_ij = μ_i + u_ij, u_ij ~ N(0, s² I), s² = σ²/d, j = 1..n; the query q = μ̂_k; the update

    m̂ = Σ exp(λ⟨q, x_ij⟩) x_ij / Σ exp(λ⟨q, x_ij⟩)            (appendix 6.6, the display before Theorem 1)

and its quality, the cosine defect 1 − ⟨μ_k, m̂⟩/|m̂|. F1-F4 name the formulas in the docstrings.
"""

from __future__ import annotations

import math

import numpy as np

V_MAX = 700.0  # e^v leaves double precision just above


def theorem_lambda(K: int, d: int, Delta: float) -> float:
    """λ = (log d + log K)/Δ, the theorem's choice."""
    if not Delta > 0:
        raise ValueError(f"Δ must be positive (the query is nearest to its own center), got {Delta:.6g}")
    return (math.log(d) + math.log(K)) / Delta


def rate(K: int, d: int, Delta: float) -> float:
    """x = (log d + log K)/(dΔ), the theorem's printed rate for 1 − cos."""
    return theorem_lambda(K, d, Delta) / d


def check_spread(lam: float, sigma: float, d: float) -> float:
    """v = λ²σ²/d, refused where e^v would leave double precision."""
    v = (lam * sigma) * (lam * sigma) / d  # products go to infinity where powers raise
    if not v <= V_MAX:
        raise ValueError(f"overflow: v = λ²σ²/d = {v:.4g} must be at most {V_MAX:g} for e^v to be finite")
    return v


def spread(q, lam: float, sigma: float) -> float:
    """v = λ²σ²|q|²/d, the variance of the logits inside a cluster."""
    q = np.asarray(q, dtype=float)
    return check_spread(lam, sigma * float(np.linalg.norm(q)), len(q))


def weights(q, mu, lam: float) -> np.ndarray:
    """p_i = softmax_i(λ⟨μ_i, q⟩), the mass that cluster i holds as n → ∞."""
    logits = lam * (np.asarray(mu, dtype=float) @ np.asarray(q, dtype=float))  # [K]
    p = np.exp(logits - logits.max())
    return p / p.sum()


def limit(q, mu, lam: float, sigma: float) -> np.ndarray:
    """F1: m∞ = Σ p_i μ_i + λs² q, the update over infinitely many tokens, for any q."""
    mu, q = np.asarray(mu, dtype=float), np.asarray(q, dtype=float)
    return weights(q, mu, lam) @ mu + (lam * sigma**2 / mu.shape[1]) * q


def covariance(q, mu, lam: float, sigma: float, n: int) -> np.ndarray:
    """F2: Cov(m̂) = (1/n) Σ p_i² { e^v [s²I + (μ_i − μ̄ + λs²q)(·)ᵀ] − (μ_i − μ̄)(·)ᵀ } + O(n⁻²)."""
    mu, q = np.asarray(mu, dtype=float), np.asarray(q, dtype=float)
    d = mu.shape[1]
    p, ev, s2 = weights(q, mu, lam), math.exp(spread(q, lam, sigma)), sigma**2 / d
    b = mu - p @ mu  # [K, d]  μ_i − μ̄
    a = b + lam * s2 * q
    p2 = p**2
    return (ev * (p2.sum() * s2 * np.eye(d) + (a.T * p2) @ a) - (b.T * p2) @ b) / n


def total_variance(q, mu, lam: float, sigma: float, n: int) -> float:
    """tr Cov(m̂) of F2 without the d × d matrix: E|m̂ − m∞|² to leading order."""
    mu, q = np.asarray(mu, dtype=float), np.asarray(q, dtype=float)
    p, ev, s2 = weights(q, mu, lam), math.exp(spread(q, lam, sigma)), sigma**2 / mu.shape[1]
    b = mu - p @ mu
    a = b + lam * s2 * q
    return float(p**2 @ (ev * (sigma**2 + np.sum(a * a, axis=1)) - np.sum(b * b, axis=1))) / n


def bias(q, mu, lam: float, sigma: float, n: int) -> np.ndarray:
    """E[m̂] − m∞ = −(1/n) Σ p_i² { e^v (μ_i − μ̄ + λs²q) − (μ_i − μ̄) } + O(n⁻²), which F3 leaves out."""
    mu, q = np.asarray(mu, dtype=float), np.asarray(q, dtype=float)
    p, ev = weights(q, mu, lam), math.exp(spread(q, lam, sigma))
    b = mu - p @ mu
    return -(p**2 @ (ev * (b + lam * sigma**2 / mu.shape[1] * q) - b)) / n


def defect(m, target) -> np.ndarray:
    """1 − cos(m, target) as ½|m/|m| − target/|target||², which keeps its digits near zero."""
    m, target = np.asarray(m, dtype=float), np.asarray(target, dtype=float)
    apart = m / np.linalg.norm(m, axis=-1, keepdims=True) - target / np.linalg.norm(target)
    return 0.5 * np.einsum("...d,...d->...", apart, apart)


def expected_defect(q, mu, lam: float, sigma: float, n: int, k: int = 0, complete: bool = False) -> float:
    """F3: E[1 − cos] ≈ (1 − cos∞) + ½ cos∞ tr(P_{m⊥} Cov)/|m∞|².

    ``complete`` adds the two other terms of the same order 1/n: the ratio estimator's bias and the
    covariance of m̂ along m∞ with m̂ along μ_k,

        + m̄ᵀ Cov P μ_k / |m∞|² − ⟨P μ_k, bias⟩ / |m∞|,   m̄ = m∞/|m∞|, P = I − m̄m̄ᵀ.
    """
    if not n > 0:
        raise ValueError(f"n must be positive, got {n}")
    mu, q = np.asarray(mu, dtype=float), np.asarray(q, dtype=float)
    d = mu.shape[1]
    m = limit(q, mu, lam, sigma)
    norm = float(np.linalg.norm(m))
    unit, far = m / norm, float(defect(m, mu[k]))
    rho_q, s2 = lam * sigma**2 / d * q, sigma**2 / d
    p2, ev = weights(q, mu, lam) ** 2, math.exp(spread(q, lam, sigma))
    a, b = mu - m + 2 * rho_q, mu - m + rho_q  # μ_i − μ̄ + λs²q and μ_i − μ̄

    def across(y):  # |P y|² for each row of y
        return np.einsum("kd,kd->k", y, y) - (y @ unit) ** 2

    trace = float(p2 @ (ev * (s2 * (d - 1) + across(a)) - across(b))) / n
    value = far + 0.5 * (1 - far) * trace / norm**2
    if complete:
        side = mu[k] - (mu[k] @ unit) * unit  # P μ_k
        mixed = float(p2 @ (ev * (a @ unit) * (a @ side) - (b @ unit) * (b @ side))) / n
        shift = -float(p2 @ (ev * (a @ side) - b @ side)) / n
        value += mixed / norm**2 - shift / norm
    return value


def check_canonical(K: int, d: int, theta: float, sigma: float, n=None) -> None:
    """Refuse what F4 does not cover, in a line that names the condition."""
    if K < 2:
        raise ValueError(f"K must be at least 2 (Δ compares a center with the others), got {K}")
    if d < K + 1:
        raise ValueError(
            f"d must be at least K + 1 for a query tilted out of the centers' span: d={d}, K={K}"
        )
    if not (math.isfinite(theta) and math.cos(theta) > 1e-12):
        raise ValueError(f"Δ = cos θ must be positive, got θ = {theta:.6g} rad")
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"σ must be positive, got {sigma}")
    if n is not None and not n > 0:
        raise ValueError(f"n must be positive, got {n}")


def canonical(K: int, d: int, theta: float, sigma: float, n: float | None = None) -> float:
    """1 − cos of F4 (n → ∞), or the mean of F3 when n is given; θ in radians.

    Orthonormal centers, q tilted by θ from μ_k out of their span, λ = log(dK)/cos θ. With
    w = dK/(dK + K − 1) and ρ = λσ²/d,

        tan²θ∞ = [(1 − w)²/(K − 1) + (ρ sin θ)²] / (w + ρ cos θ)².
    """
    check_canonical(K, d, theta, sigma, n)
    c, sin = math.cos(theta), math.sin(theta)
    lam = theorem_lambda(K, d, c)
    rho, w = lam * sigma**2 / d, d * K / (d * K + K - 1)
    m = np.array(
        [w + rho * c, (1 - w) / math.sqrt(K - 1), rho * sin]
    )  # along μ_k, the mean of the others, q⊥
    tan2 = (m[1] ** 2 + m[2] ** 2) / m[0] ** 2
    root = math.sqrt(1 + tan2)
    far = tan2 / (root * (1 + root))  # 1 − 1/root without cancellation
    if n is None:
        return far
    return far + 0.5 * (1 - far) * _canonical_trace(K, d, c, sin, lam, sigma, m) / (n * float(m @ m))


def _canonical_trace(K, d, c, sin, lam, sigma, m) -> float:
    """n tr(P_{m⊥} Cov) of F2 for the canonical geometry, from three coordinates."""
    rho, w = lam * sigma**2 / d, d * K / (d * K + K - 1)
    ev, q, unit = math.exp(check_spread(lam, sigma, d)), np.array([c, 0.0, sin]), m / np.linalg.norm(m)

    def across(own: bool, times: int) -> float:  # |P(μ_i + times·ρ q)|²
        y = np.array([1.0, 0.0, 0.0] if own else [0.0, 1 / math.sqrt(K - 1), 0.0]) + times * rho * q
        rest = 0.0 if own else 1 - 1 / (K - 1)  # of μ_i, orthogonal to the three coordinates
        return float(y @ y - (y @ unit) ** 2) + rest

    def cluster(own: bool) -> float:
        return ev * (sigma**2 / d * (d - 1) + across(own, 2)) - across(own, 1)

    return w**2 * cluster(True) + (1 - w) ** 2 / (K - 1) * cluster(False)


def leading(K: int, d: int, theta: float, sigma: float, n: float | None = None) -> float:
    """1 − cos ≈ ½[(σ² tan θ log(dK)/d)² + 1/(d²K)] + ½σ²e^v/n: quadratic in the printed rate."""
    check_canonical(K, d, theta, sigma, n)
    log = math.log(d * K)
    value = 0.5 * ((sigma**2 * math.tan(theta) * log / d) ** 2 + 1 / (d**2 * K))
    if n is not None:
        value += 0.5 * sigma**2 * math.exp((log / math.cos(theta)) ** 2 * sigma**2 / d) / n
    return value


def effective_tokens(q, mu, lam: float, sigma: float, n: int) -> float:
    """Kish's effective sample size, n e^{−v}/Σp_i² (F2), past v = ½ ln n frozen as F6 says."""
    v, log_n = spread(q, lam, sigma), math.log(n)
    p2 = float(np.sum(weights(q, mu, lam) ** 2))
    if v <= log_n / 2:
        return n * math.exp(-v) / p2
    if v < 2 * log_n:
        return max(1.0, math.exp((math.sqrt(2 * log_n) - math.sqrt(v)) ** 2))
    return 1.0


def freezing(v: float, n: float) -> str:
    """F6: which regime the weights of n tokens are in when their logits have variance v."""
    ratio = v / math.log(n) if n > 1 else math.inf
    if ratio <= 0.1:
        return "Gaussian"
    if ratio <= 0.5:
        return "heavy tails"
    return "shrinking" if ratio < 2 else "frozen"
