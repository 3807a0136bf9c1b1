"""What became of patches: shares that add up, groups whose likeness is known, a score with a closed form."""

import pytest
import torch

from analysis.offtheshelf.fates import DROPPED, alike, diversity, fate, labels_of, sizes_of
from analysis.shared.saliency import salient_patches

LABELS = torch.tensor([[0, 0, 1, DROPPED, 2, 2]])


def test_labels_follow_the_largest_share():
    shares = torch.tensor([[[0.6, 0.0, 0.4, 0.0], [0.0, 0.0, 0.5, 0.5]]])  # two tokens of four patches
    assert labels_of(shares, 4, 1).tolist() == [[0, DROPPED, 1, 1]]
    assert labels_of(None, 3, 2).tolist() == [[0, 1, 2], [0, 1, 2]]


def test_sizes_and_shares():
    assert sizes_of(LABELS, 3).tolist() == [[2, 2, 1, 0, 2, 2]]
    found = fate(LABELS, 3, torch.tensor([[True, True, True, False, False, False]]))
    assert found["kept_salient"].item() == pytest.approx(1 / 3) and found["kept_elsewhere"].item() == 0
    assert found["dropped_elsewhere"].item() == pytest.approx(1 / 3) and found["dropped_salient"].item() == 0


def test_likeness_in_tokens_and_by_chance():
    patches = torch.tensor([[[1.0, 0], [1, 0], [5, 5], [5, 5], [0, 1], [0, 2]]])
    found = alike(LABELS, 3, patches)  # two tokens of two equal directions, at right angles to each other
    assert found["merged_alike"].item() == pytest.approx(1)
    assert found["merged_chance"].item() == pytest.approx(1 / 3)  # of six pairs two are alike
    brute = [torch.cosine_similarity(patches[0, i], patches[0, j], dim=0) for i, j in ((0, 1), (4, 5))]
    assert found["merged_alike"].item() == pytest.approx(float(sum(brute) / 2))


def test_pairs_alone():
    labels = torch.tensor([[0, 0, 1, 1, 1]])
    patches = torch.tensor([[[1.0, 0], [-1, 0], [0, 1], [0, 1], [0, 1]]])
    assert alike(labels, 2, patches, size=(2, 2))["merged_alike"].item() == pytest.approx(-1)
    assert alike(labels, 2, patches)["merged_alike"].item() == pytest.approx((-1 + 3) / 4)


def test_nothing_merged_is_nan():
    assert alike(torch.tensor([[0, 1, DROPPED]]), 2, torch.randn(1, 3, 4))["merged_alike"].isnan().all()


def test_salient_patches_are_those_of_the_brightest_places():
    saliency = torch.zeros(1, 8, 8)
    saliency[0, 4:, 4:] = 1
    assert salient_patches(saliency, (4, 4), 0.25)[0].nonzero()[:, 0].tolist() == [10, 11, 14, 15]


def test_diversity_is_none_of_equal_tokens_and_known_of_two_kinds():
    assert diversity(torch.ones(2, 5, 3)).tolist() == [0, 0]
    tokens = torch.tensor([[[1.0], [1.0], [1.0], [4.0]]])
    assert diversity(tokens).item() == pytest.approx(3 / 7)
