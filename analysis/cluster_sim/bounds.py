"""Bounds on 1 − cos: as printed, with typical noise, corrected, and with every constant proved.

printed     1 − cos ≤ C x, x = (log d + log K)/(dΔ)
typical     e ≤ 2(K−1)e^{−λΔ} + ρ|μ_k − q| + 2σe^{v/2}n^{−1/2}(1 + 2√(log n/d)), e = |m̂ − (1+ρ)μ_k|
corrected   typical + the pull of the one heaviest token that a probability of 1 − O(n⁻²) has to allow for
certified   the same decomposition with truncated Bernstein inequalities: a proved 1 − 5K/n² at any v

An error e turns into 1 − cos ≤ 1 − √(1 − (e/(1+ρ))²). The typical bound is what the proof gives once its
errata are mended; it is still too small, because the sums that it controls have lognormal tails.
"""

from __future__ import annotations

import math

import numpy as np

from analysis.cluster_sim.geometry import Problem
from analysis.cluster_sim.theory import limit

VACUOUS = 2.0  # 1 − cos never exceeds 2, so that a bound of 2 says nothing

# The one-jump exponent ½(√a − 1/(2√a))² of ``jump_exponent`` reaches the 2 of 1 − O(n⁻²) at this v/ln n.
A_STAR = (5 - math.sqrt(24)) / 2


def printed_defect(p: Problem, C: float = 1.0) -> float:
    """Theorem 1 with the constant C in place of O(·)."""
    return min(C * p.x, VACUOUS)


def typical_error(p: Problem, n: int) -> float:
    """The mended proof's bound on e = |m̂ − (1+ρ)μ_k|, for v ≤ ½ log n and n ≤ e^{d/8}."""
    noise = 2 * p.sigma * math.exp(p.v / 2) / math.sqrt(n) * (1 + 2 * math.sqrt(math.log(n) / p.d))
    tilt = p.rho * float(np.linalg.norm(p.mu[0] - p.q))
    return 2 * (p.K - 1) * math.exp(-p.lam * p.Delta) + tilt + noise


def to_defect(e: float, rho: float) -> float:
    """cos ≥ √(1 − ε²) for |m̂/(1+ρ) − μ_k| ≤ ε < 1: the step that makes the cosine rate quadratic (E14)."""
    ratio = e / (1 + rho)
    return ratio**2 / (1 + math.sqrt(1 - ratio**2)) if ratio < 1 else VACUOUS


def typical_defect(p: Problem, n: int) -> float:
    return to_defect(typical_error(p, n), p.rho)


def corrected_error(p: Problem, n: int) -> float:
    """The typical bound plus ω_G |x − m∞|, the pull of the heaviest token with nΦ̄(G) = n⁻².

    That token has the share ω_G = J/(1 + J), J = e^{√v·G − v/2}/n, and lies about σ across q and s(G − √v)
    along q away. Up to constants this is what the probability 1 − 5K/n² costs; see ``jump_exponent``.
    """
    from scipy.stats import norm

    G = float(norm.isf(1 / n**3)) if n > 1 else 0.0
    jump = math.exp(math.sqrt(p.v) * G - p.v / 2) / n
    along = p.sigma / math.sqrt(p.d) * max(G - math.sqrt(p.v), 0.0)
    reach = math.hypot(p.sigma * (1 + math.sqrt(math.log(n) / p.d)), along)
    return typical_error(p, n) + jump / (1 + jump) * reach


def corrected_defect(p: Problem, n: int) -> float:
    return to_defect(corrected_error(p, n), p.rho)


def covered(p: Problem, n: int) -> bool:
    """The bounds' conditions: Δ > 0, v ≤ ½ log n, n ≤ e^{d/8}, and 5K/n² < 1."""
    log_n = math.log(n)
    return p.Delta > 0 and p.v <= log_n / 2 * (1 + 1e-9) and log_n <= p.d / 8 and n**2 > 5 * p.K


def certified_error(p: Problem, n: int, failure: float | None = None) -> float:
    """A bound on e = |m̂ − (1+ρ)μ_k| that holds with probability ≥ 1 − ``failure`` (5K/n² unless given).

    With w = e^{λt − v/2} (mean 1), S_i = Σ_j w, T_i = Σ_j w t, Q_i = Σ_j w², a_i = e^{λ⟨μ_i,q⟩}, Z = Σ a_i S_i:

        m̂ − (1+ρ)μ_k = Σ_{i≠k} (a_i S_i/Z)(μ_i − μ_k) + ρ(q − μ_k) + q Σ_i a_i(T_i − ρS_i)/Z + N,

    N | ω ~ N(0, s² Σω² P_⊥). Each of 5K + 2 events gets an equal share δ of the failure probability: for
    every cluster no t above s·G with nΦ̄(G) = δ, Bernstein above for S and Q and on both sides for T − ρS
    (all truncated at G, truncated moments exact); for cluster k, S from below; and the norm of N.
    """
    if not n > 0:
        raise ValueError(f"n must be positive, got {n}")
    failure = min(5 * p.K / n**2, 0.5) if failure is None else failure
    delta = failure / (5 * p.K + 2)
    L = math.log(1 / delta)
    if 2 * math.exp(p.v) * L >= n:  # no bound on S from below, and so none on anything
        return math.inf
    S_low, S_high, Q_high, T_off = _concentration(p, n, delta)
    decay = math.exp(-p.lam * p.Delta)
    leak = (p.K - 1) * decay * S_high / S_low  # Σ_{i≠k} a_i S_i ≤ leak · a_k S_k
    omega2 = Q_high / S_low**2 * (1 + (p.K - 1) * decay**2)
    parallel = T_off / S_low * (1 + (p.K - 1) * decay)
    apart = float(np.max(np.linalg.norm(p.mu[1:] - p.mu[0], axis=1)))
    normal = p.sigma / math.sqrt(p.d) * math.sqrt(omega2) * (math.sqrt(p.d - 1) + math.sqrt(2 * L))
    tilt = p.rho * float(np.linalg.norm(p.mu[0] - p.q))
    return apart * leak / (1 + leak) + tilt + parallel + normal


def _concentration(p: Problem, n: int, delta: float):
    """Bounds on S from below and above, Q from above and |T − ρS|, each failing with probability ≤ δ."""
    from scipy.stats import norm

    v, root, L, s = p.v, math.sqrt(p.v), math.log(1 / delta), p.sigma / math.sqrt(p.d)
    G = max(float(norm.isf(delta / n)), 0.0)
    M = math.exp(root * G - v / 2)  # the largest weight that survives the truncation

    def bernstein(variance, largest):
        return math.sqrt(2 * n * variance * L) + 2 / 3 * largest * L

    mean, second, fourth = (
        math.exp(v * (k * k - k) / 2) * float(norm.cdf(G - k * root)) for k in (1, 2, 4)
    )  # E[w^k; t ≤ sG]
    S_low = n - math.sqrt(2 * n * math.exp(v) * L)
    S_high = n * mean + bernstein(second - mean**2, M)
    Q_high = min(n * second + bernstein(fourth - second**2, M * M), M * S_high)
    lost = n * s * float(norm.pdf(G - root))  # E of w(t − ρ) beyond the truncation
    largest = max(M * max(s * G - p.rho, 0.0), math.exp(v / 2 - 1) / p.lam)
    T_off = bernstein(math.exp(v) * (s**2 + p.rho**2), largest) + lost
    return S_low, S_high, Q_high, T_off


def certified_defect(p: Problem, n: int) -> float:
    return to_defect(certified_error(p, n), p.rho)


def jump_exponent(a: float) -> float:
    """One token's share exceeds the typical noise e^{v/2}/√n with probability n^{−β}, v = a ln n.

    That needs √v·g ≥ ½ ln n + v, and n tokens try: β = ½(√a − 1/(2√a))², which is 2 at a = 0.0505 and 0 at
    a = ½. So 1 − O(K/n²) with noise of order σe^{v/2}/√n is impossible for v > 0.0505 ln n.
    """
    return 0.5 * (math.sqrt(a) - 0.5 / math.sqrt(a)) ** 2


def jump_probability(p: Problem, n: int) -> float:
    """n Φ̄(g*): how often a single token of cluster k, at ⟨q, u⟩ = s g ≥ s g*, breaks the typical bound.

    The rest of the sample is put at its mean F1 and its typical noise; g* solves |m̂(g) − (1+ρ)μ_k| = e.
    Leading order: below v ≈ 0.2 ln n two or three moderately heavy tokens together do it a little more often.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    bound, m, s = typical_error(p, n), limit(p.q, p.mu, p.lam, p.sigma), p.sigma / math.sqrt(p.d)
    goal = (1 + p.rho) * p.mu[0]

    def excess(g: float) -> float:
        share = 1 / (1 + n * math.exp(p.v / 2 - math.sqrt(p.v) * g))
        mean = (1 - share) * m + share * (p.mu[0] + s * g * p.q) - goal
        noise2 = p.sigma**2 * (share**2 + (1 - share) ** 2 * math.exp(p.v) / n)
        return math.sqrt(float(mean @ mean) + noise2) - bound

    if excess(0.0) > 0:
        return 1.0
    return min(1.0, n * float(norm.sf(brentq(excess, 0.0, 38.0)))) if excess(38.0) > 0 else 0.0
