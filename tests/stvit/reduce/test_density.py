"""Density peaks against plain loops over Eqs. 6-7, and what clusterings owe whatever the tokens."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stvit.reduce.density import density, density_peaks, k_means, separation, squared_distances


def loop(z: torch.Tensor, clusters: int, neighbors: int | None, denser: bool) -> tuple[list[int], list[int]]:
    """BAT's section 4.4 for one image, token by token, in 64 bits."""
    z = [row.double() for row in z]
    n, c = len(z), len(z[0])
    d2 = [[float(((a - b) ** 2).sum()) / c for b in z] for a in z]
    rho = []
    for i in range(n):
        near = sorted(d2[i])[: neighbors or n]
        rho.append(math.exp(-sum(near) / len(near)))  # Eq. 6
    delta = []
    for i in range(n):
        higher = [d2[i][j] for j in range(n) if rho[j] > rho[i]]
        delta.append(math.sqrt(min(higher) if higher else max(d2[i])))  # Eq. 7
    centers = sorted(range(n), key=lambda i: -rho[i] * delta[i])[:clusters]
    label = []
    for i in range(n):
        allowed = [m for m in range(clusters) if rho[centers[m]] > rho[i]] if denser else range(clusters)
        allowed = allowed or range(clusters)
        label.append(centers.index(i) if i in centers else min(allowed, key=lambda m: d2[i][centers[m]]))
    return centers, label


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 30),
    st.integers(1, 40),
    st.integers(0, 10**6),
    st.sampled_from([None, 5]),
    st.booleans(),
    st.data(),
)
def test_equals_a_plain_loop(count, dim, seed, neighbors, denser, data):
    clusters = data.draw(st.integers(1, count))
    z = torch.randn(2, count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    centers, label = density_peaks(z, clusters, neighbors, denser)
    for i in range(2):
        assert (centers[i].tolist(), label[i].tolist()) == loop(z[i], clusters, neighbors, denser)


def test_equals_the_loop_at_the_models_size_in_32_bits():
    z = (
        torch.randn(2, 59, 384, generator=torch.Generator().manual_seed(0)) + 20
    )  # a common offset, as in ViTs
    centers, label = density_peaks(z, 13)
    for i in range(2):
        assert (centers[i].tolist(), label[i].tolist()) == loop(z[i], 13, None, True)


def test_the_mean_keeps_the_order_of_the_printed_sum():
    d2 = squared_distances(torch.randn(3, 20, 6, dtype=torch.float64))
    printed = (-d2.sum(2)).exp()
    assert density(d2).argsort(1).equal(printed.argsort(1))


def test_densest_token_is_a_center_and_far_groups_are_found():
    z = torch.randn(4, 24, 8) * 0.1 + torch.arange(3).repeat_interleave(8)[None, :, None] * 5.0
    centers, label = density_peaks(z, 3, neighbors=5)
    d2 = squared_distances(z)
    assert (centers == density(d2, 5).argmax(1, keepdim=True)).any(1).all()
    assert separation(d2, density(d2, 5)).gt(0).all()
    groups = label.unflatten(1, (3, 8))
    assert (groups == groups[:, :, :1]).all() and (groups[:, :, 0].sort(1).values == torch.arange(3)).all()


@pytest.mark.parametrize("make", [lambda z, m: density_peaks(z, m)[1], lambda z, m: k_means(z, m, 3)])
def test_tokens_in_another_order_fall_in_the_same_clusters(make):
    z, order = torch.randn(2, 20, 6, dtype=torch.float64), torch.randperm(17)
    order = torch.cat([torch.arange(3), order + 3])  # k-means begins at the first three
    assert make(z[:, order], 3).equal(make(z, 3)[:, order])


def test_equal_tokens_are_clustered_without_complaint():
    centers, label = density_peaks(torch.ones(1, 6, 4), 2)
    assert set(label[0].tolist()) == {0, 1} and centers.shape == (1, 2)


def test_k_means_moves_to_the_means():
    z = torch.tensor([[[0.0], [10.0], [1.0], [9.0], [5.1]]])
    assert k_means(z, 2, 3)[0].tolist() == [0, 1, 0, 1, 1]


def test_the_printed_density_in_the_log_domain():
    """log ρ of Eq. 6 is the logarithm of the printed exponential, where that is no zero."""
    from stvit.reduce.density import log_density, squared_distances

    z = torch.randn(2, 5, 3, dtype=torch.float64)
    distance = torch.cdist(z, z).square().sum(2)
    torch.testing.assert_close(log_density(squared_distances(z), 3), -distance)
    torch.testing.assert_close(log_density(squared_distances(z), 3).exp(), torch.exp(-distance))
    assert torch.exp(-torch.cdist(*2 * [torch.randn(1, 60, 64)]).square().sum(2)).max() == 0  # in 32 bits


def test_as_printed_separation_decides_nothing():
    """Why "sum" is not the default: on 40 tokens of 64 channels its centers are the densest tokens, δ or not."""
    from stvit.reduce.density import density_peaks, log_density, squared_distances

    z = torch.randn(8, 40, 64, generator=torch.Generator().manual_seed(0))
    densest = log_density(squared_distances(z), 64).topk(4, dim=1).indices
    printed, _ = density_peaks(z, 4, rule="sum")
    mean, _ = density_peaks(z, 4)
    assert torch.equal(printed.sort(1).values, densest.sort(1).values)
    assert not torch.equal(mean.sort(1).values, densest.sort(1).values)
