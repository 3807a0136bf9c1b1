"""Methods against the outputs of their authors' programs, with the same weights by rule."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from fill_rule import fill_state, make_input
from torch import nn

import stvit
from stvit.reduce.density import density_peaks
from stvit.reduce.plan import Mixed, Plan, compose
from stvit.reduce.reduction import PruningBlock, Reduction
from stvit.surgery import recast

ORACLES = Path(__file__).resolve().parent.parent / "oracles"
HOSTS = (3, 6, 9)


def oracle(name: str) -> dict[str, torch.Tensor]:
    with np.load(ORACLES / f"{name}.npz") as file:
        return {
            key: torch.from_numpy(file[key].astype(np.int64) if file[key].dtype == np.uint8 else file[key])
            for key in file
        }


def rename(model: nn.Module, official: str, inside: str = "") -> dict[str, str]:
    """Own name → the reference's, for models whose reductions are not inside the blocks there."""
    names = {}
    for name in model.state_dict():
        names[name] = name
        for stage, block in enumerate(HOSTS):
            start = f"blocks.{block}.reduction.{inside}"
            if name.startswith(start):
                names[name] = f"{official}.{stage}.{name.removeprefix(start)}"
    return names


def close(model: nn.Module, reference: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    with torch.no_grad(), stvit.record(model, attention=False) as maps:
        logits = model(make_input())
    torch.testing.assert_close(logits, reference["logits"], atol=1e-5, rtol=0)
    return maps


@pytest.mark.parametrize("fuse", [True, False])
def test_evit(fuse):
    reference = oracle(f"evit_deit_small_kr070_{'fuse' if fuse else 'nofuse'}")
    maps = close(fill_state(timm.create_model("evit_deit_small_patch16_224", fuse_token=fuse)), reference)
    for block in HOSTS:
        kept = reference[f"idx_block{block}"]
        assert maps[f"blocks.{block}.assignment"][:, : kept.shape[1]].argmax(2).equal(kept)


def test_dynamicvit():
    model = timm.create_model("dynamicvit_deit_small_patch16_224")
    reference = oracle("dynamicvit_deit_small_r070")
    maps = close(fill_state(model, rename(model, "score_predictor")), reference)
    for block in HOSTS:
        assert maps[f"blocks.{block}.assignment"].argmax(2).equal(reference[f"idx_block{block}"])


def test_tome():
    reference = oracle("tome_deit_small_r13_noprop")
    maps = close(fill_state(timm.create_model("tome_deit_small_patch16_224", prop_attn=False)), reference)
    total = compose([maps[f"blocks.{block}.assignment"] for block in range(12)])  # (B, M, N) without class
    assert (total > 0).sum(2).equal(reference["final_size"][:, 1:].long())
    assert (total.argmax(1) + 1).equal(reference["source_argmax"][:, 1:])


class Clusters(Reduction):
    """DPC-KNN: density peaks alone, in front of a layer, tokens weighted by a learned score."""

    def __init__(self, dim: int, clusters: int):
        super().__init__()
        self.clusters, self.score = clusters, nn.Linear(dim, 1)

    def plan(self, x, seen):
        self.found = density_peaks(x, self.clusters, neighbors=5, denser_centers=False)
        score = self.score(x)[..., 0].exp()
        members = F.one_hot(self.found[1], self.clusters).transpose(1, 2) * score[:, None]
        return Plan((Mixed(None, members / (members.sum(2, keepdim=True) + 1e-6)),))


def test_density_peaks_are_those_of_dpc_knn():
    model = recast(timm.create_model("deit_small_patch16_224"), stvit.ReducedViT)
    blocks = list(model.blocks)
    for block, clusters in zip(HOSTS, (137, 96, 67), strict=True):
        blocks[block] = PruningBlock.from_block(blocks[block], Clusters(384, clusters))
    model.blocks = nn.Sequential(*blocks)
    reference = oracle("dpcknn_deit_small_kr070_nonoise")
    close(fill_state(model, rename(model, "cluster_layers")), reference)
    for block in HOSTS:
        centers, label = model.blocks[block].reduction.found
        assert centers.equal(reference[f"idx_center_block{block}"])
        assert label.equal(reference[f"idx_cluster_block{block}"])
