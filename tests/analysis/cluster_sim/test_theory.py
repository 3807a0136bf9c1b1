"""The closed forms against their reference values, quadrature, simulation and algebra."""

import math
import subprocess
import sys

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import cluster_sim as cs
from analysis.cluster_sim import theory
from analysis.cluster_sim.sampler import full, generator, reduced

REFERENCE = [
    ((8, 64, 45, 1.0), 4.029521e-3, 4.364e-3),
    ((16, 256, 45, 1.0), 4.987072e-4, 6.944e-4),
    ((64, 1024, 45, 1.0), 5.751045e-5, 2.093e-4),
    ((16, 4096, 75, 1.0), 5.080044e-5, 2.408e-4),
]


@pytest.mark.parametrize("at, far, finite", REFERENCE)
def test_canonical_reproduces_the_reference_values(at, far, finite):
    K, d, degrees, sigma = at
    theta = math.radians(degrees)
    assert cs.canonical(K, d, theta, sigma) == pytest.approx(far, rel=1e-6)
    assert float(f"{cs.canonical(K, d, theta, sigma, n=4096):.3e}") == finite


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 40),
    st.integers(1, 300),
    st.floats(0.05, 1.4),
    st.floats(0.1, 1.5),
    st.integers(16, 10_000),
)
def test_canonical_is_the_general_formula_in_three_coordinates(K, more, theta, sigma, n):
    d = K + more
    p_lam = theory.theorem_lambda(K, d, math.cos(theta))
    if p_lam**2 * sigma**2 / d > 100:
        sigma = 10 * math.sqrt(d) / p_lam
    p = cs.problem(K, d, theta, sigma)
    far = float(cs.defect(cs.limit(p.q, p.mu, p.lam, sigma), p.mu[0]))
    assert cs.canonical(K, d, theta, sigma) == pytest.approx(far, rel=1e-9)
    finite = cs.expected_defect(p.q, p.mu, p.lam, sigma, n)
    assert cs.canonical(K, d, theta, sigma, n) == pytest.approx(finite, rel=1e-9)


@pytest.mark.parametrize("init", ["out_of_span", "towards", "generic"])
def test_limit_is_the_ratio_of_gaussian_integrals(init):
    """F1 by Gauss-Hermite quadrature over t = ⟨q, u⟩, the only direction that the weights see."""
    p = cs.problem(5, 12, 0.5, 0.9, gamma=0.2, init=init)
    z, h = np.polynomial.hermite_e.hermegauss(120)
    s = p.sigma / math.sqrt(p.d)
    w = np.exp(p.lam * ((p.mu @ p.q)[:, None] + s * z)) * h  # [K, nodes]
    expected = (w.sum(1) @ p.mu + (w @ (s * z)).sum() * p.q) / w.sum()
    assert cs.limit(p.q, p.mu, p.lam, p.sigma) == pytest.approx(expected, abs=1e-12)


def test_limit_is_what_many_tokens_converge_to():
    p = cs.problem(4, 8, 0.7, 0.8, init="generic", lam=4.0)
    m = reduced(p, 1_000_000, 4, generator(1)).m
    error = math.sqrt(theory.total_variance(p.q, p.mu, p.lam, p.sigma, 1_000_000))
    assert np.linalg.norm(m.mean(axis=0) - cs.limit(p.q, p.mu, p.lam, p.sigma)) < 3 * error


def test_covariance_and_bias_against_simulation():
    """F2 and the bias, entry by entry, within five standard errors of 40,000 full simulations."""
    p, n, T = cs.problem(3, 5, 0.6, 0.7, gamma=0.1, init="generic", lam=2.0), 200, 40_000
    m = reduced(p, n, T, generator(2)).m
    predicted = cs.covariance(p.q, p.mu, p.lam, p.sigma, n)
    found = np.cov(m.T)
    spread = np.sqrt((np.outer(np.diag(found), np.diag(found)) + found**2) / T)
    assert np.all(np.abs(found - predicted) < 5 * spread + 0.03 * np.abs(np.diag(predicted)).max())
    off = m.mean(axis=0) - cs.limit(p.q, p.mu, p.lam, p.sigma)
    assert np.all(
        np.abs(off - theory.bias(p.q, p.mu, p.lam, p.sigma, n)) < 5 * np.sqrt(np.diag(found) / T) + 2e-5
    )
    assert np.trace(predicted) == pytest.approx(theory.total_variance(p.q, p.mu, p.lam, p.sigma, n))


def test_f3_is_the_trace_of_f2_across_the_limit():
    p, n = cs.problem(6, 20, 0.8, 0.9, gamma=0.3, init="generic"), 500
    m, C = cs.limit(p.q, p.mu, p.lam, p.sigma), cs.covariance(p.q, p.mu, p.lam, p.sigma, n)
    unit = m / np.linalg.norm(m)
    far = float(cs.defect(m, p.mu[0]))
    trace = np.trace(C) - unit @ C @ unit
    expected = far + 0.5 * (1 - far) * trace / (m @ m)
    assert cs.expected_defect(p.q, p.mu, p.lam, p.sigma, n) == pytest.approx(expected, rel=1e-10)


def test_all_terms_of_order_one_over_n_predict_better_than_f3_where_rho_is_large():
    p, n, T = cs.problem(2, 4, 1.0, 1.0, lam=2.5), 400, 60_000
    draws = cs.defect(reduced(p, n, T, generator(3)).m, p.mu[0])
    error = draws.std() / math.sqrt(T)
    f3 = cs.expected_defect(p.q, p.mu, p.lam, p.sigma, n)
    complete = cs.expected_defect(p.q, p.mu, p.lam, p.sigma, n, complete=True)
    assert abs(f3 - draws.mean()) > 6 * error  # F3 leaves out terms of its own order
    assert abs(complete - draws.mean()) < 0.5 * abs(f3 - draws.mean())


def test_leading_order_is_approached_as_d_grows():
    off = [
        abs(cs.leading(16, d, math.pi / 4, 1.0, n) / cs.canonical(16, d, math.pi / 4, 1.0, n) - 1)
        for d in (256, 4096, 65536)
        for n in (None,)
    ]
    assert off[0] > off[1] > off[2] and off[2] < 0.01


def test_slopes_of_the_closed_form():
    """1.955, 2.018, 1.864, 1.725, 1.011 for n = ∞, d²/4, 64d, 16d, 4096: quadratic in the limit."""
    from analysis.cluster_sim.experiments.slopes import SCHEDULES, SIGMA, THETA, K, slope

    ds = [2**k for k in range(6, 13)]
    x = [cs.rate(K, d, math.cos(THETA)) for d in ds]
    found = [
        slope(x, [cs.canonical(K, d, THETA, SIGMA, tokens and tokens(d)) for d in ds])
        for tokens in SCHEDULES.values()
    ]
    assert found == pytest.approx([1.955, 2.018, 1.864, 1.725, 1.011], abs=5e-4)


@pytest.mark.parametrize("d", [1024, 16384])
def test_tokens_needed_for_the_cosine_and_for_the_norm_rate(d):
    """E13: noise meets the rate x at n = σ²e^v dΔ/(2 log dK) in the cosine, e^v(σdΔ/log dK)² in the norm."""
    p, log = cs.problem(16, d, math.pi / 4, 1.0), math.log(16 * d)
    ev = math.exp(p.v)
    n_cosine, n_norm = ev * d * p.Delta / (2 * log), ev * (d * p.Delta / log) ** 2
    far = cs.expected_defect(p.q, p.mu, p.lam, 1.0, 1e300)
    assert (cs.expected_defect(p.q, p.mu, p.lam, 1.0, n_cosine) - far) / p.x == pytest.approx(1, rel=0.05)
    noise = math.sqrt(theory.total_variance(p.q, p.mu, p.lam, 1.0, n_norm))
    assert noise / p.x == pytest.approx(1, rel=0.05)
    assert n_cosine < d < n_norm  # "n ≫ d" is more than the one needs and less than the other


def test_defect_keeps_its_digits():
    target = np.array([1.0, 0.0])
    tilted = np.array([math.cos(1e-9), math.sin(1e-9)])
    assert float(cs.defect(3 * tilted, 2 * target)) == pytest.approx(0.5e-18, rel=1e-6)


def test_moments_of_e1_e7_by_algebra():
    """The moment generating function by integration, the moments with x and x² as its derivatives."""
    x, a, lam, s = sp.symbols("x a lambda s", positive=True)
    mgf = sp.integrate(sp.exp(a * x - x**2 / (2 * s**2)), (x, -sp.oo, sp.oo)) / (s * sp.sqrt(2 * sp.pi))
    assert sp.simplify(mgf - sp.exp(a**2 * s**2 / 2)) == 0  # E1: the value is right
    first = sp.diff(mgf, a).subs(a, lam)
    assert sp.simplify(first - lam * s**2 * sp.exp(lam**2 * s**2 / 2)) == 0
    second = sp.diff(mgf, a, 2).subs(a, 2 * lam)
    e2v = sp.exp(2 * lam**2 * s**2)
    assert sp.simplify(second - e2v * (s**2 + 4 * lam**2 * s**4)) == 0  # E7
    printed = 2 * lam**2 * s**4 * e2v
    assert sp.simplify(second / printed - (2 + 1 / (2 * lam**2 * s**2))) == 0  # so always above 2


def test_freezing_names_its_regimes():
    log_n = math.log(1000)
    assert [theory.freezing(a * log_n, 1000) for a in (0.05, 0.3, 1.0, 2.5)] == [
        "Gaussian",
        "heavy tails",
        "shrinking",
        "frozen",
    ]


def test_effective_tokens_is_what_the_draws_have():
    p = cs.problem(8, 64, 0.7, 0.3)
    measured = np.median(full(p, 2000, 20, generator(4)).n_eff)
    assert measured == pytest.approx(theory.effective_tokens(p.q, p.mu, p.lam, p.sigma, 2000), rel=0.03)


@pytest.mark.parametrize(
    "change, condition",
    [
        ({"K": 1}, "K must be at least 2"),
        ({"K": 64}, "d must be at least K \\+ 1"),
        ({"theta": math.pi / 2}, "Δ = cos θ must be positive"),
        ({"theta": math.inf}, "Δ = cos θ must be positive"),
        ({"sigma": 0.0}, "σ must be positive"),
        ({"sigma": -1.0}, "σ must be positive"),
        ({"sigma": math.nan}, "σ must be positive"),
        ({"n": 0}, "n must be positive"),
        ({"n": -5}, "n must be positive"),
        ({"sigma": 100.0, "n": 10}, "overflow: v"),
    ],
)
def test_canonical_refuses_in_one_line(change, condition):
    with pytest.raises(ValueError, match=condition) as caught:
        cs.canonical(**{"K": 8, "d": 64, "theta": 0.5, "sigma": 1.0, **change})
    assert "\n" not in str(caught.value)


def test_import_is_light():
    code = "import sys, analysis.cluster_sim as c; c.canonical(8, 64, .5, 1., 99); " + (
        "print([m for m in ('torch', 'pandas', 'matplotlib', 'sklearn') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_e16_the_lines_before_e7_by_algebra():
    """2λx − x²d/(2σ²) has its square at 2λσ²/d, and the moments about it are c² and σ²/d."""
    x, lam, d, sigma = sp.symbols("x lambda d sigma", positive=True)
    center = 2 * lam * sigma**2 / d
    right = -d / (2 * sigma**2) * (x - center) ** 2 + 2 * lam**2 * sigma**2 / d
    assert sp.expand(right - (2 * lam * x - x**2 * d / (2 * sigma**2))) == 0
    as_printed = d / (2 * sigma**2) * (x - lam * sigma**2 / d) ** 2 + 2 * lam**2 * sigma**2 / d
    assert sp.limit(as_printed.subs({lam: 1, d: 4, sigma: 1}), x, sp.oo) == sp.oo  # no integral
    assert sp.simplify(center**2 - 4 * lam**2 * sigma**4 / d**2) == 0


def test_e5_the_simplified_chi_square_bound_needs_few_tokens():
    """2L/d ≤ √(L/d) exactly for L ≤ d/4; beyond it the longer display is the larger one."""
    d = 8.0
    for L, holds in ((d / 4, True), (d / 4 * 1.01, False), (2 * math.log(4096), False)):
        assert (2 * L / d <= math.sqrt(L / d) * (1 + 1e-12)) is holds
