"""What single rivals promise beyond the table: clusters as scikit-learn's, mass that adds up, lengths that are kept."""

import pytest
import torch
from reduced import inputs
from sklearn.cluster import AgglomerativeClustering

from stvit.reduce.atc import LINKAGES, agglomerate
from stvit.reduce.dtem import DTEM
from stvit.reduce.matching import cosine
from stvit.reduce.mctf import fused
from stvit.reduce.patchmerger import PatchMerger
from stvit.reduce.pitome import PiToMe
from stvit.reduce.plan import Absorbed, Plan, shares
from stvit.reduce.sinkhorn import Sinkhorn
from stvit.reduce.tofu import Prolonged


@pytest.mark.parametrize("linkage", LINKAGES)
def test_clusters_are_scikit_learns(linkage):
    z = torch.randn(3, 40, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    distance = 1 - cosine(z)
    for clusters in (39, 17, 2):
        ours = agglomerate(distance, clusters, linkage)
        for i in range(3):
            sklearn = AgglomerativeClustering(clusters, metric="precomputed", linkage=linkage)
            theirs = torch.from_numpy(sklearn.fit_predict(distance[i].numpy()))
            assert (ours[i][:, None] == ours[i]).equal(theirs[:, None] == theirs)
        firsts = [[row.tolist().index(k) for k in range(clusters)] for row in ours]
        assert all(places == sorted(places) for places in firsts)


def test_dtem_hands_mass_on_in_training_and_loses_none():
    x, seen = inputs(20)
    torch.manual_seed(0)
    model = DTEM(12, r=4, features=8).train()
    y, plan = model(x, seen)
    assert y.shape == x.shape and (plan.mass > 0).all()
    torch.testing.assert_close(plan.mass.sum(1), torch.full((2,), 20.0))
    torch.testing.assert_close((plan.mass[..., None] * y).sum(1), x.sum(1), atol=1e-4, rtol=1e-4)
    assert (plan.mass.diff(dim=1) <= 0).all(), "heaviest first"
    later = DTEM(12, r=4, features=8, stage=1).train()
    assert [later.present(20), DTEM(12, r=16, stage=3).present(20)] == [16, 3]
    _, plan2 = later(y, seen._replace(mass=plan.mass))
    assert (plan2.assignment(20)[:, 16:, 16:] == torch.eye(4)).all(), "the lightest take no part any more"


def test_fused_tokens_are_as_long_as_the_longest():
    """mean · max ‖x_j‖ / ‖x_t‖."""
    x = torch.randn(1, 6, 5, generator=torch.Generator().manual_seed(0))
    index, sources, target = (
        torch.tensor([[0, 3]]),
        torch.tensor([[1, 2, 4, 5]]),
        torch.tensor([[0, 0, 1, 1]]),
    )
    share, _ = shares(target, torch.ones(1, 4), torch.ones(1, 2))
    y = Prolonged(Absorbed(index, sources, target, share)).merge(x)
    for new, members in enumerate(([0, 1, 2], [3, 4, 5])):
        scale = x[0, members].norm(dim=1).max() / x[0, members[0]].norm()
        torch.testing.assert_close(y[0, new], x[0, members].mean(0) * scale)


def test_sinkhorn_shares_out_each_token_whole():
    x, seen = inputs(30)
    _, plan = Sinkhorn(12, keep_rate=0.5, tokens=30)(x, seen)
    weights = plan.parts[0].weights
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 30))
    even = Sinkhorn(12, keep_rate=0.5, iterations=200, tokens=30).weights_of(x).sum(2)
    torch.testing.assert_close(even, torch.full((2, 15), 2.0), atol=1e-4, rtol=0)


def test_learned_tokens_are_fixed_in_number():
    x, seen = inputs(30)
    merger = PatchMerger(12, keep_rate=0.5, tokens=60)
    assert not merger.plan(x, seen).parts and merger(x, seen)[0] is x, "30 tokens are not made of 30"
    assert merger(*inputs(50))[0].shape == (2, 30, 12)


def test_pitome_protects_what_is_alone():
    """In the second half of the layers, tokens of low energy stay as they are."""
    x, seen = inputs(24)
    seen.keys[:, :, 1:13] = seen.keys[:, :, 1:2] + 0.01 * seen.keys[:, :, 1:13]  # twelve alike
    _, plan = PiToMe(12, keep_rate=0.8, layer=9)(x, seen)
    holds = plan.assignment(24)
    assert holds.shape[1] == 20 and (holds[:, :, 12:].amax(1) == 1).all()


def test_fused_maps_are_rows_averaged_and_columns_added():
    maps = torch.rand(1, 2, 5, 5).softmax(-1)
    share = torch.tensor([[0.25]])
    part = Absorbed(torch.tensor([[0, 1, 3]]), torch.tensor([[2]]), torch.tensor([[1]]), share)
    small = fused(maps, Plan((part,)), 1)
    merge = torch.eye(5)[[0, 1, 2, 4]]
    rows, columns = merge.clone(), merge.clone()
    rows[2, 2:4], columns[2, 3] = torch.tensor([0.75, 0.25]), 1.0
    torch.testing.assert_close(small, rows @ maps @ columns.T)
    torch.testing.assert_close(small.sum(-1), torch.ones(1, 2, 4))
