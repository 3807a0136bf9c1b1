"""F5, the reduced sampler, has the distribution of the full simulation."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from analysis import cluster_sim as cs
from analysis.cluster_sim import sampler
from analysis.cluster_sim.sampler import full, generator, reduced

SETTINGS = [
    dict(K=4, d=6, theta=0.6, sigma=0.8),
    dict(K=3, d=12, theta=0.9, sigma=2.5, init="generic"),  # heavy tails: v above ½ ln n
    dict(K=5, d=10, theta=0.3, sigma=1.0, gamma=0.3, init="towards"),
]


def statistics(p, draws):
    """What any function of m̂ could differ in: error, length, two coordinates, and the weights."""
    yield cs.defect(draws.m, p.mu[0])
    yield np.linalg.norm(draws.m, axis=1)
    yield draws.m @ p.q
    yield draws.m @ np.linspace(-1, 1, p.d)
    yield draws.n_eff
    yield draws.top


@pytest.mark.parametrize("setting", SETTINGS)
def test_reduced_and_full_agree_in_distribution(setting):
    p, n, T = cs.problem(**setting), 40, 4000
    pairs = zip(
        statistics(p, full(p, n, T, generator(1))), statistics(p, reduced(p, n, T, generator(2))), strict=True
    )
    assert min(ks_2samp(a, b).pvalue for a, b in pairs) > 1e-3


def test_the_comparison_sees_a_wrong_perpendicular_noise(monkeypatch):
    """The test above is able to fail: drop Σω²'s place in the noise, as the proof does (E4)."""
    p, n, T = cs.problem(**SETTINGS[0]), 40, 4000
    draws = reduced(p, n, T, generator(2))
    flat = draws.m - np.outer(draws.m @ p.q, p.q)
    shrunk = draws.m - flat + flat * np.sqrt(draws.n_eff / (n * p.K))[:, None]
    truth = full(p, n, T, generator(1))
    assert ks_2samp(cs.defect(truth.m, p.mu[0]), cs.defect(shrunk, p.mu[0])).pvalue < 1e-6


def test_chunks_do_not_change_the_distribution(monkeypatch):
    p, n, T = cs.problem(**SETTINGS[1]), 50, 3000
    whole = reduced(p, n, T, generator(3))
    monkeypatch.setattr(sampler, "HELD_LOGITS", 16)  # chunks of a few tokens: the running maximum has to work
    parts = reduced(p, n, T, generator(4))
    pairs = zip(statistics(p, whole), statistics(p, parts), strict=True)
    assert min(ks_2samp(a, b).pvalue for a, b in pairs) > 1e-3


def test_extreme_logits_stay_finite():
    p = cs.problem(4, 16, 0.5, 10.0)
    draws = reduced(p, 500, 50, generator(5))
    assert p.v > 100 and all(np.isfinite(values).all() for values in (draws.m, draws.n_eff, draws.top))
    assert np.median(draws.top) > 0.6  # frozen: one token holds the weight


def test_streams_depend_on_the_key_alone():
    p = cs.problem(4, 16, 0.5, 1.0)
    one, again, other = (reduced(p, 30, 5, generator(*key)).m for key in ((7, 1), (7, 1), (7, 2)))
    assert np.array_equal(one, again) and not np.allclose(one, other)


@pytest.mark.parametrize("n, trials", [(0, 5), (-3, 5), (10, 0)])
def test_bad_counts_are_refused(n, trials):
    with pytest.raises(ValueError, match="n and trials must be positive"):
        reduced(cs.problem(4, 16, 0.5, 1.0), n, trials, generator(0))
