"""k-means as a reduction: clusters that are there are found, means weigh patches, no token is lost."""

import torch

from stvit.reduce import Seen
from stvit.reduce.kmeans import KMeans


def seen(count: int, mass=None) -> Seen:
    return Seen(count, None, mass, 1)


def test_far_clusters_become_their_means():
    centers = torch.tensor([[0.0, 0], [100, 0], [0, 100]])
    kind = torch.tensor([0, 0, 1, 1, 2, 2])  # starts at 0, 2 and 4
    x = (centers[kind] + 0.1 * torch.randn(6, 2))[None]
    plan = KMeans(2, keep_rate=0.5).plan(x, seen(6))
    expected = torch.stack([x[0, kind == i].mean(0) for i in range(3)])[None]
    torch.testing.assert_close(plan.merge(x), expected)
    assert plan.mass.tolist() == [[2, 2, 2]]


def test_means_of_means_weigh_the_patches_that_they_stand_for():
    x, mass = torch.tensor([[[0.0], [3.0], [100.0], [102.0]]]), torch.tensor([[1.0, 2, 1, 1]])
    plan = KMeans(1, keep_rate=0.5).plan(x, seen(4, mass))
    assert plan.merge(x)[0, :, 0].tolist() == [2, 101] and plan.mass.tolist() == [[3, 2]]


def test_every_patch_has_a_token_and_equal_tokens_leave_no_empty_cluster():
    for x in (torch.randn(3, 30, 5), torch.ones(3, 30, 5)):
        plan = KMeans(5, keep_rate=0.4).plan(x, seen(30))
        assert plan.merge(x).shape == (3, 12, 5) and plan.merge(x).isfinite().all()
        assert (plan.assignment(30).sum(dim=1) > 0).all()


def test_at_rate_one_all_tokens_stay():
    assert KMeans(5, keep_rate=1.0).plan(torch.randn(1, 7, 5), seen(7)).parts == ()
