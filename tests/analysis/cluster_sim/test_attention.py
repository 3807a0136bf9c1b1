"""Fused, chunked, streamed and naive are one function; what it is invariant to."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import cluster_sim as cs
from analysis.cluster_sim import attention
from analysis.cluster_sim.sampler import generator, reduced

torch.set_num_threads(1)
TOLERANCE = {torch.float32: 5e-5, torch.float64: 1e-10}


def case(seed=0, M=5, N=700, d=24, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    q, x = (torch.randn(rows, d, generator=rng, dtype=dtype) / math.sqrt(d) for rows in (M, N))
    return torch.nn.functional.normalize(q, dim=1), x


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("lam", [0.5, 9.8, 60.0])
@pytest.mark.parametrize("chunk", [1, 7, 256, 5000])
def test_fused_chunked_and_naive_agree(dtype, lam, chunk):
    q, x = case(dtype=dtype)
    truth = attention.naive(q, x, lam)
    for other in (attention.fused(q, x, lam), attention.chunked(q, x, lam, chunk)):
        assert float((other - truth).abs().max()) <= TOLERANCE[dtype]


def test_fused_uses_lambda_and_not_the_default_scale():
    q, x = case()
    default = torch.nn.functional.scaled_dot_product_attention(q[None], x[None], x[None])[0]
    assert not torch.allclose(attention.fused(q, x, 9.8), default, atol=1e-2)
    assert torch.allclose(attention.fused(q, x, 1 / math.sqrt(24)), default)


def test_online_softmax_survives_logits_that_would_overflow():
    q, x = case()
    truth = attention.naive(q, x, 1e4)
    assert torch.allclose(attention.chunked(q, 1.0 * x, 1e4, 3), truth, atol=1e-10)


def test_streamed_needs_tokens():
    q, x = case()
    with pytest.raises(ValueError, match="no tokens"):
        attention.streamed(q, [], 1.0)
    with pytest.raises(ValueError, match="overflow"):
        attention.streamed(q, [x * math.inf], 1.0)


seeds, lams = st.integers(0, 10_000), st.floats(0.1, 30.0)


@settings(max_examples=25, deadline=None)
@given(seeds, lams)
def test_the_order_of_tokens_does_not_matter(seed, lam):
    q, x = case(seed, N=60)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
    for update in (attention.naive, attention.fused, attention.over_queries):
        assert torch.allclose(update(q, x[order], lam), update(q, x, lam), atol=1e-10)
    assert torch.allclose(attention.chunked(q, x[order], lam, 7), attention.naive(q, x, lam), atol=1e-10)


@settings(max_examples=25, deadline=None)
@given(seeds, lams)
def test_rotating_everything_rotates_the_update(seed, lam):
    q, x = case(seed, N=60)
    R = torch.linalg.qr(torch.randn(24, 24, generator=torch.Generator().manual_seed(seed), dtype=q.dtype))[0]
    for update in (attention.fused, attention.over_queries):
        assert torch.allclose(update(q @ R, x @ R, lam), update(q, x, lam) @ R, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seeds, lams, st.floats(-50, 50))
def test_a_constant_added_to_all_logits_changes_nothing(seed, lam, constant):
    """One more coordinate, 1 on every token and c on the query, adds λc to each of its logits."""
    q, x = case(seed, N=60)
    q_up = torch.cat([q, torch.full((len(q), 1), constant, dtype=q.dtype)], dim=1)
    x_up = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    for update in (attention.fused, lambda *a: attention.chunked(*a, 7)):
        found = update(q_up, x_up, lam)
        assert torch.allclose(found[:, :-1], attention.naive(q, x, lam), atol=1e-9)
        assert torch.allclose(found[:, -1], torch.ones(len(q), dtype=q.dtype))


@settings(max_examples=25, deadline=None)
@given(seeds, lams, st.integers(0, 4))
def test_duplicated_queries_get_duplicated_updates(seed, lam, which):
    q, x = case(seed, N=60)
    twice = torch.cat([q, q[which : which + 1]])
    found = attention.fused(twice, x, lam)
    assert torch.allclose(found[-1], found[which], atol=1e-12)
    assert torch.allclose(found[:-1], attention.fused(q, x, lam), atol=1e-12)


def test_softmax_over_queries_is_changed_by_a_duplicate():
    """There the queries compete: a twin takes half of each token's share, the weighted mean stays."""
    q, x = case()
    plain, twice = attention.over_queries(q, x, 5.0), attention.over_queries(torch.cat([q, q[:1]]), x, 5.0)
    assert torch.allclose(twice[0], twice[-1]) and not torch.allclose(twice[:-1], plain)


def test_update_with_every_part():
    q, x = case()
    G = 0.3 * q.flip(0)
    assert torch.allclose(attention.update(q, x, 3.0), attention.naive(q, x, 3.0))
    assert torch.allclose(attention.update(q, x, 3.0, residual=True), attention.naive(q, x, 3.0) + q)
    assert torch.allclose(attention.update(q, x, 3.0, G=G), attention.naive(q + G, x, 3.0))
    halves = torch.cat([attention.naive(q[:, i], x[:, i], 3.0) for i in (slice(0, 12), slice(12, 24))], dim=1)
    assert torch.allclose(attention.update(q, x, 3.0, heads=2), halves)
    over = attention.update(q, x, 3.0, over="queries")
    share = (3.0 * q @ x.T).softmax(0)
    assert torch.allclose(over, (share @ x) / share.sum(1, keepdim=True))


@pytest.mark.parametrize(
    "wrong, condition", [({"heads": 5}, "heads must divide d"), ({"over": "time"}, "over 'time'")]
)
def test_update_refuses(wrong, condition):
    with pytest.raises(ValueError, match=condition):
        attention.update(*case(), 3.0, **wrong)


def test_generated_tokens_have_the_right_law_and_simulate_the_same_update():
    p, n, T = cs.problem(4, 16, 0.6, 1.0), 300, 200
    mu, q = torch.tensor(p.mu), torch.tensor(p.q[None])
    x = attention.tokens(mu, p.sigma, 5000, seed=3).reshape(4, 5000, 16)
    assert torch.allclose(x.mean(1), mu, atol=0.02)
    assert float((x - mu[:, None]).var()) == pytest.approx(p.sigma**2 / 16, rel=0.02)
    rows = [
        attention.streamed(q, attention.generate(mu, 1.0, n, t, chunk=64), p.lam)[0].numpy() for t in range(T)
    ]
    a, b = cs.defect(np.array(rows), p.mu[0]), cs.defect(reduced(p, n, T, generator(0)).m, p.mu[0])
    assert abs(a.mean() - b.mean()) < 4 * math.hypot(a.std(), b.std()) / math.sqrt(T)


def test_missing_devices_are_one_line():
    with pytest.raises(ValueError, match="device 'warp' is not available") as caught:
        attention.resolve_device("warp")
    assert "\n" not in str(caught.value)
