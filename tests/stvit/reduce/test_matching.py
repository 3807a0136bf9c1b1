"""Matching of homogeneous attentive tokens, against a plain loop."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stvit.reduce.matching import cosine, homogeneous_pairs


def loop(similarity: list[list[float]], pairs: int) -> list[int]:
    """For each token the one that it ends in: the ``pairs`` best of (token, its best more important one)."""
    best = [(max(range(i), key=lambda j: similarity[i][j]), i) for i in range(1, len(similarity))]
    chosen = dict((i, j) for j, i in sorted(best, key=lambda edge: -similarity[edge[1]][edge[0]])[:pairs])
    ends = list(range(len(similarity)))
    for i in ends:
        while ends[i] in chosen:
            ends[i] = chosen[ends[i]]
    return ends


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 25), st.integers(0, 10**6), st.data())
def test_equals_a_plain_loop(count, seed, data):
    pairs = data.draw(st.integers(1, count - 1))
    similarity = cosine(
        torch.randn(2, count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    )
    stay, absorbed, target = homogeneous_pairs(similarity, pairs)
    assert stay.shape == (2, count - pairs) and absorbed.shape == target.shape == (2, pairs)
    for i in range(2):
        ends = loop(similarity[i].tolist(), pairs)
        assert stay[i].tolist() == sorted(set(ends))
        assert stay[i][target[i]].tolist() == [ends[j] for j in absorbed[i].tolist()]


def test_the_most_similar_pair_is_fused_into_the_more_important_token():
    z = torch.randn(1, 12, 8)
    z[0, 7] = 2 * z[0, 3]  # cosine 1
    stay, absorbed, target = homogeneous_pairs(cosine(z), 1)
    assert absorbed.tolist() == [[7]] and stay[0, target[0, 0]] == 3


def test_a_chain_becomes_one_set():
    similarity = torch.tensor([[[0.0, 0, 0, 0], [0.9, 0, 0, 0], [0.1, 0.9, 0, 0], [0.1, 0.1, 0.9, 0]]])
    stay, absorbed, target = homogeneous_pairs(similarity, 3)
    assert stay.tolist() == [[0]] and sorted(absorbed[0].tolist()) == [1, 2, 3] and not target.any()
