"""The bounds: what they promise, where they break, and the one heavy token behind it."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from analysis import cluster_sim as cs
from analysis.cluster_sim import bounds
from analysis.cluster_sim.experiments.failures import verdict
from analysis.cluster_sim.experiments.grid import cells
from analysis.cluster_sim.experiments.regimes import exponent, word
from analysis.cluster_sim.geometry import sigma_for
from analysis.cluster_sim.measure import interval, measure
from analysis.cluster_sim.options import Options
from analysis.cluster_sim.sampler import generator, reduced


def at(a, n, K=4, d=128):
    """The canonical problem at v = a ln n."""
    return cs.problem(K, d, math.pi / 4, sigma_for(a * math.log(n), K, d, math.pi / 4))


@pytest.mark.parametrize("e, rho", [(0.01, 0.0), (0.3, 0.1), (0.999, 0.0)])
def test_the_step_from_norm_to_cosine_is_sharp(e, rho):
    """The worst vector at distance e from (1+ρ)μ is tangent to the ball; its defect is the bound (E14)."""
    sine = e / (1 + rho)
    assert bounds.to_defect(e, rho) == pytest.approx(1 - math.sqrt(1 - sine**2), rel=1e-9)
    worst = np.array([1 - sine**2, sine * math.sqrt(1 - sine**2)])
    assert float(cs.defect(worst, np.array([1.0, 0.0]))) == pytest.approx(bounds.to_defect(e, rho), rel=1e-9)
    assert bounds.to_defect(1 + rho, rho) == bounds.VACUOUS


def test_corrected_is_at_least_typical_and_tends_to_it():
    for a in (0.02, 0.1, 0.4):
        assert bounds.corrected_error(at(a, 4096), 4096) > bounds.typical_error(at(a, 4096), 4096)
    n = 10**6
    ratio = bounds.corrected_error(at(0.01, n), n) / bounds.typical_error(at(0.01, n), n)
    assert 1 < ratio < 1.05


def test_typical_noise_breaks_its_promise_as_one_heavy_token_predicts():
    n, T = 1024, 20_000
    p = at(0.4, n)
    off = np.linalg.norm(reduced(p, n, T, generator(1)).m - (1 + p.rho) * p.mu[0], axis=1)
    broken = int(np.sum(off > bounds.typical_error(p, n)))
    assert bounds.covered(p, n)
    assert binomtest(broken, T, 5 * p.K / n**2, alternative="greater").pvalue < 1e-6
    assert 1 / 3 < broken / T / bounds.jump_probability(p, n) < 3
    assert not np.any(off > bounds.corrected_error(p, n))


@pytest.mark.parametrize("a", [0.01, 0.03, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("n, T", [(64, 20_000), (4096, 500)])
def test_certified_bound_holds_at_every_v(a, n, T):
    """At failure probability ½ it has the least room: it must not break in half of the trials."""
    p = at(a, n)
    off = np.linalg.norm(reduced(p, n, T, generator(2)).m - (1 + p.rho) * p.mu[0], axis=1)
    assert np.mean(off > bounds.certified_error(p, n, failure=0.5)) <= 0.5
    assert not np.any(off > bounds.certified_error(p, n))


def test_certified_concentration_holds_event_by_event():
    """Its five inequalities, each at δ = 0.02, against 20,000 draws of S, Q and T."""
    p, n, delta, T = at(0.1, 256), 256, 0.02, 20_000
    low, high, squares, off = bounds._concentration(p, n, delta)
    s = p.sigma / math.sqrt(p.d)
    t = s * generator(3).standard_normal((T, n))
    w = np.exp(p.lam * t - p.v / 2)
    rates = [
        np.mean(w.sum(1) < low),
        np.mean(w.sum(1) > high),
        np.mean((w**2).sum(1) > squares),
        np.mean(np.abs((w * (t - p.rho)).sum(1)) > off),
    ]
    assert max(rates) <= 2 * delta  # one share for the truncation, one for the inequality
    assert rates[0] > 0 or low < n * 0.9  # the bounds are of the order of the fluctuations, not trivial


def test_certified_bound_says_something_where_weights_are_tame():
    assert bounds.certified_defect(at(0.02, 10**5), 10**5) < 0.01
    assert bounds.certified_defect(at(1.0, 256), 256) == bounds.VACUOUS


def test_jump_exponent():
    """2 at a* = (5 − √24)/2 and 0 at ½; and n Φ̄((½ ln n + v)/√v) decays with it."""
    from scipy.stats import norm

    assert bounds.jump_exponent(bounds.A_STAR) == pytest.approx(2)
    assert bounds.jump_exponent(0.5) == pytest.approx(0, abs=1e-12)
    for a in (0.1, 0.2, 0.3):
        ln = np.array([2000.0, 4000.0])  # ln n
        log_p = ln + norm.logsf((0.5 + a) * ln / np.sqrt(a * ln))
        assert -(log_p[1] - log_p[0]) / (ln[1] - ln[0]) == pytest.approx(bounds.jump_exponent(a), abs=1e-3)


def test_no_corrected_bound_is_broken_on_the_quick_grid():
    rows = [measure(cell) for cell in cells(Options(level="quick"))]
    assert len(rows) >= 50 and min(row["trials"] for row in rows) >= 100
    stated = [row for row in rows if row["covered"]]
    assert sum(row["corrected_broken"] for row in stated) == 0
    assert sum(row["certified_broken"] for row in rows) == 0
    inside = [row for row in rows if row["v_over_ln_n"] <= 0.1]
    assert inside and all(abs(row["ratio"] - 1) <= 0.05 for row in inside)


@pytest.mark.parametrize("hits, trials", [(0, 50), (3, 40), (17, 17)])
def test_clopper_pearson_is_scipys_exact_interval(hits, trials):
    truth = binomtest(hits, trials).proportion_ci(0.95, method="exact")
    assert interval(hits, trials) == pytest.approx((truth.low, truth.high), abs=1e-12)


def test_words_of_the_regime_map():
    row = {"trials": 1000, "allowed": 0.01, "median": 0.02, "b": 0.1, "b_broken": 0}
    assert word(row, "b") == "tight"
    assert word({**row, "median": 0.001}, "b") == "loose"
    assert word({**row, "b": 1.2}, "b") == "vacuous"
    assert word({**row, "b_broken": 100}, "b") == "false"


def test_failure_verdicts():
    from types import SimpleNamespace as N

    assert verdict(N(error_low=0.02, error_high=0.1, allowed=0.01)).startswith("FINDING")
    assert verdict(N(error_low=0.0, error_high=0.005, allowed=0.01)) == "within 5K/n²"
    assert verdict(N(error_low=0.0, error_high=0.1, allowed=0.01)) == "not resolved by these trials"


def test_f6_exponent_is_continuous():
    assert exponent(0.5) == pytest.approx(exponent(0.5 + 1e-12)) == pytest.approx(0.5)
    assert exponent(2.0) == pytest.approx(0, abs=1e-12) and exponent(0.2) == pytest.approx(0.8)


@pytest.mark.parametrize("n", [0, -1])
def test_certified_refuses_bad_n(n):
    with pytest.raises(ValueError, match="n must be positive"):
        bounds.certified_error(at(0.1, 100), n)
