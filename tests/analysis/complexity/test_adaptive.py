"""Closed forms of the rivals that choose by image or by layer: equal to the count, and to what public programs ran."""

import pytest
import timm
import torch
from oracles import oracle

import stvit  # noqa: F401 (registers the models)
from analysis.shared.counting import count
from analysis.shared.flops.closed_adaptive import METHODS, adaptive_vit
from analysis.shared.flops.closed_global import deit
from analysis.shared.flops.closed_reduced import PART
from stvit.reduce import METHODS as REDUCTIONS


@pytest.mark.parametrize("method", METHODS)
def test_closed_form_is_the_count(method):
    """At 7 × 7 tokens; on the meta device no image keeps fewer than it could."""
    with torch.device("meta"):
        model = timm.create_model(f"{method}_deit_tiny_patch16_224", img_size=112).eval()
    cost = adaptive_vit(192, method, grid=(7, 7))
    assert count(model, (1, 3, 112, 112)).total == cost.total
    assert METHODS[method].layers == REDUCTIONS[method].layers(12)


def test_evovits_program_runs_as_many():
    """All but its maps, of which ours forms the class token's row beside the fused attention."""
    cost = adaptive_vit(384, "evovit")
    assert cost.without("norms") - cost.by("part")[PART] == 3_033_391_104


def test_dges_program_runs_as_many():
    queries = oracle("dge_deit_small_s124_256")["query_tokens"]  # the mean over its two images
    costs = [adaptive_vit(384, "dge", grid=(16, 16), left=[q - 1 for q in row]) for row in queries.tolist()]
    assert sum(cost.without("norms") for cost in costs) == 2 * 2_894_126_208


def test_nothing_reduced_costs_what_the_dense_model_costs():
    assert (
        adaptive_vit(384, "avit").total == deit(384).total == adaptive_vit(384, "psvit", keep_rate=1.0).total
    )
    assert adaptive_vit(384, "svite", keep_rate=1.0).total == deit(384).total
