"""Centers, queries and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.cluster_sim.geometry import centers, gap, problem, query


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 20), st.integers(0, 30), st.floats(0.0, 0.95))
def test_centers_have_the_gram_matrix_asked_for(K, more, gamma):
    mu = centers(K, K + more, gamma)
    assert mu @ mu.T == pytest.approx((1 - gamma) * np.eye(K) + gamma, abs=1e-12)


@pytest.mark.parametrize("K", [2, 5, 17])
def test_the_simplex_fits_one_more_center_than_dimensions(K):
    mu = centers(K, K - 1, -1 / (K - 1))
    assert mu @ mu.T == pytest.approx((1 + 1 / (K - 1)) * np.eye(K) - 1 / (K - 1), abs=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_k_equals_d_centers_exist(gamma):
    """d ≥ K + 1 is needed for a query outside the span, not for the centers."""
    assert centers(6, 6, gamma).shape == (6, 6)
    with pytest.raises(ValueError, match="no direction outside the span"):
        query(centers(6, 6, gamma), 0.5)


@pytest.mark.parametrize(
    "K, d, gamma, condition",
    [
        (10, 8, 0.3, "K > d \\+ 1 never fits"),
        (9, 8, 0.3, "needs γ = −1/\\(K−1\\)"),
        (10, 8, -1 / 9, "K > d \\+ 1 never fits"),
        (4, 8, 1.0, "γ must lie in"),
        (4, 8, -0.5, "γ must lie in"),
    ],
)
def test_impossible_centers_are_refused(K, d, gamma, condition):
    with pytest.raises(ValueError, match=condition):
        centers(K, d, gamma)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["out_of_span", "towards", "generic"]), st.floats(0.0, 1.5), st.floats(0.0, 0.8))
def test_queries_have_the_angle_asked_for(init, theta, gamma):
    mu = centers(5, 12, gamma)
    q = query(mu, theta, init)
    assert np.linalg.norm(q) == pytest.approx(1)
    assert q @ mu[0] == pytest.approx(math.cos(theta), abs=1e-9)
    if init == "out_of_span":
        tilt = q - math.cos(theta) * mu[0]
        assert mu @ tilt == pytest.approx(0, abs=1e-9)
        assert gap(q, mu) == pytest.approx((1 - gamma) * math.cos(theta), abs=1e-9)


@pytest.mark.parametrize(
    "change, condition",
    [
        ({"init": "towards"}, "Δ must be positive"),  # 45° is half of the way to the next center
        ({"theta": 2.0}, "Δ must be positive"),
        ({"sigma": 0.0}, "σ must be positive"),
        ({"sigma": math.inf}, "σ must be positive"),
        ({"K": 1}, "K must be at least 2"),
        ({"d": 0}, "d must be positive"),
        ({"lam": -1.0}, "λ must be positive"),
        ({"theta": math.nan}, "θ must lie between 0° and 180°, got nan"),
        ({"init": "pooled"}, "unknown init 'pooled'; choose from"),
        ({"sigma": 60.0}, "overflow: v"),
        ({"lam": 1e200}, "overflow: v"),
    ],
)
def test_bad_problems_are_refused_in_one_line(change, condition):
    with pytest.raises(ValueError, match=condition) as caught:
        problem(**{"K": 8, "d": 32, "theta": math.pi / 4, "sigma": 1.0, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("K", "gamma"), [(4, 0.3), (16, 0.9), (5, -0.2), (5, -0.25)])
def test_centers_are_the_cholesky_factor(K, gamma):
    """Which is unique: eigenvectors are not, so that they differ from one LAPACK to another."""
    mu = centers(K, 8 if K < 8 else 20, gamma)
    np.testing.assert_allclose(mu @ mu.T, (1 - gamma) * np.eye(K) + gamma, atol=1e-12)
    assert (np.triu(mu[:, :K], 1) == 0).all() and (np.diag(mu) >= 0).all()
