"""BAT: counts, Eq. 8, and what its ablations keep and drop."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reduced import inputs

import stvit.reduce
from stvit.reduce.bat import ABLATION, BAT
from stvit.reduce.mergers import MERGERS
from stvit.reduce.schedule import keep_rate_at


def lengths(keep_rate: float, **choices) -> list[int]:
    """Image tokens behind each of three reductions of 196."""
    found, total = [], 196
    for _ in range(3):
        attentive, pairs, clusters = BAT(8, keep_rate=keep_rate, **choices).counts(total)
        total = attentive - pairs + clusters
        found.append(total)
    return found


def test_counts_that_give_the_printed_flops():
    assert lengths(0.7) == [139, 99, 71]
    assert lengths(0.6) == [119, 73, 45] and lengths(0.5) == [99, 51, 27]
    assert lengths(0.4) == [80, 33, 15] and lengths(0.3) == [60, 19, 7] and lengths(0.2) == [41, 10, 3]
    for choices in ABLATION.values():
        assert lengths(0.7, **choices) == [139, 99, 71]


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 300),
    st.floats(0.02, 1.0),
    st.one_of(st.integers(1, 40), st.floats(0.01, 0.9)),
    st.one_of(st.none(), st.integers(0, 40), st.floats(0, 0.9)),
    st.sampled_from(["none", "density_peaks", "pack"]),
    st.booleans(),
)
def test_counts_always_fit(total, keep_rate, clusters, pairs, merger, fuse_token):
    bat = BAT(8, keep_rate, clusters, pairs, merger, fuse_token=fuse_token)
    counts = bat.counts(total)
    new = math.ceil(keep_rate * total - 1e-9) + 1
    if new >= total:
        assert counts is None
        return
    assert counts.attentive - counts.pairs + counts.clusters + fuse_token == new
    assert 0 <= counts.pairs <= max(0, counts.attentive - 1)
    assert 0 <= counts.clusters <= total - counts.attentive
    if total <= 60:
        x, seen = inputs(total, batch=1)
        y, _ = bat(x, seen)
        assert y.shape == (1, new, 12) and y.isfinite().all()


@pytest.mark.parametrize("features", ["tokens", "keys"])
def test_merging_conserves_weighted_mass(features):
    """Σ_i S_i p_i = Σ_j s_j z_j, S_i the importance of set i: nothing is dropped, nothing counts twice."""
    x, seen = (value.double() if isinstance(value, torch.Tensor) else value for value in inputs(40))
    seen = seen._replace(queries=seen.queries.double(), keys=seen.keys.double())
    y, plan = BAT(12, keep_rate=0.5, clusters=4, features=features)(x, seen)
    s = seen.class_attention()
    members = plan.assignment(40) > 0  # (B, M, N)
    assert (members.sum(1) == 1).all()
    mass = (members * s[:, None]).sum(2)
    torch.testing.assert_close((mass[..., None] * y).sum(1), (s[..., None] * x).sum(1))


def test_sets_are_weighted_by_class_attention():
    """Eq. 8 within each set, for pairs and clusters alike."""
    x, seen = inputs(40)
    y, plan = BAT(12, keep_rate=0.5, clusters=6, pairs=5)(x, seen)
    s, members = seen.class_attention(), plan.assignment(40) > 0
    assert (members.sum(2) > 1).sum() > 5
    for b, i in members.sum(2).gt(1).nonzero().tolist():
        j = members[b, i].nonzero()[:, 0]
        torch.testing.assert_close(y[b, i], (s[b, j, None] * x[b, j]).sum(0) / s[b, j].sum())


def test_most_attentive_tokens_are_preserved():
    x, seen = inputs(40)
    for name, choices in ABLATION.items():
        _, plan = BAT(12, keep_rate=0.5, **choices)(x, seen)
        holds = plan.assignment(40)
        top = seen.class_attention().argmax(1)
        row = holds[torch.arange(2), :, top].argmax(1)
        assert (row == 0).all(), name  # it comes first,
        dropped = (holds.sum(1) == 0).sum(1)
        assert (dropped == (19 if "preservation" in name else 0)).all(), name  # and only the first row drops


def test_pack_is_evit_with_normalised_weights():
    x, seen = inputs(40)
    packed, _ = BAT(12, keep_rate=0.5, merger="pack", pairs=0)(x, seen)
    fused, _ = stvit.reduce.METHODS["evit"](12, keep_rate=0.5)(x, seen)
    assert packed[:, :-1].equal(fused[:, :-1])
    rest = seen.class_attention().sort(1).values[:, :20].sum(1)
    torch.testing.assert_close(packed[:, -1] * rest[:, None], fused[:, -1])


def test_on_evit_the_fused_token_is_evits():
    x, seen = inputs(40)
    both, _ = BAT(12, keep_rate=0.5, fuse_token=True, clusters=3)(x, seen)
    s, order = seen.class_attention().sort(1, descending=True)
    counts = BAT(12, keep_rate=0.5, fuse_token=True, clusters=3).counts(40)
    rest = order[:, counts.attentive :, None].expand(-1, -1, 12)
    raw = (s[:, counts.attentive :, None] * x.gather(1, rest)).sum(1)
    torch.testing.assert_close(both[:, -1], raw)


@pytest.mark.parametrize("name", MERGERS)
def test_mergers_give_means_of_what_they_merge(name):
    z, importance = torch.randn(2, 17, 8), torch.rand(2, 17).sort(1, descending=True).values
    weights = MERGERS[name](8, 4)(z, importance, torch.rand(2, 17).argsort(1), 4)
    rows = 1 if name == "pack" else 4
    assert weights.shape == (2, rows, 17)
    if name != "max":
        torch.testing.assert_close(weights.sum(2), torch.ones(2, rows))
        assert (weights >= 0).all() and (weights.sum(1) > 0).all()


def test_max_pooling_takes_the_largest_of_each_channel():
    x, seen = inputs(40)
    y, plan = BAT(12, keep_rate=0.5, merger="max", clusters=4, pairs=0)(x, seen)
    members = plan.assignment(40)[:, -4:] > 0
    for b in range(2):
        for i in range(4):
            assert y[b, i - 4].equal(x[b, members[b, i]].amax(0))


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match="unknown merger 'median'; choose one of density_peaks"):
        BAT(8, merger="median")
    with pytest.raises(ValueError, match="unknown features"):
        BAT(8, features="values")
    with pytest.raises(ValueError, match="give clusters as a whole number"):
        BAT(8, merger="mlp")
    with pytest.raises(ValueError, match="keep_rate must be a number above 0"):
        BAT(8, keep_rate=0)


def test_keep_rate_schedule():
    rates = [keep_rate_at(epoch, 0.7) for epoch in range(0, 131, 10)]
    assert rates[0] == 1 and rates[10:] == [0.7] * 4 and rates == sorted(rates, reverse=True)
    assert rates[5] == pytest.approx(0.85) and keep_rate_at(0, 0.7, epochs=0) == 0.7
