"""Closed forms of the rivals: equal to the count of the real model, and to what public programs were seen to run."""

import pytest
import timm
import torch

import stvit  # noqa: F401 (registers the models)
from analysis.complexity.rival_figures import DIFFRATE, RADII, figures
from analysis.shared.counting import count
from analysis.shared.flops.closed_global import deit
from analysis.shared.flops.closed_reduced import PART
from analysis.shared.flops.closed_rivals import METHODS, rival_vit
from stvit.reduce import METHODS as REDUCTIONS
from stvit.reduce.diffrate import SCHEDULES
from stvit.reduce.mctf import AheadBlock
from stvit.reduce.reduction import HostBlock

RATES = dict(zip(("prune", "merge"), SCHEDULES["deit_small 2.7"], strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_closed_form_is_the_count(method):
    """At 7 × 7 tokens, where the methods that merge in every layer come to their limits, too."""
    with torch.device("meta"):
        model = timm.create_model(f"{method}_deit_tiny_patch16_224", img_size=112).eval()
    counted = count(model, (1, 3, 112, 112))
    choices = {"diffrate": RATES}.get(method, {})
    if method == "shrinking":
        choices = dict(left=within_radii(model, (7, 7)))
    cost = rival_vit(192, method, grid=(7, 7), **choices)
    assert counted.total == cost.total
    assert counted.reductions() == cost.by("part").get(PART, 0)


# Multiply-adds of convolutions and matrix products that public programs were seen to run, DeiT-S, one image.
EXECUTED = {
    "patchmerger": 2_913_682_944,
    "sinkhorn": 2_913_682_944,
    "sit": 2_936_396_544,
    "kmedoids": 2_878_020_096,
    "diffrate": 2_713_106_304,
    "mctf": 2_594_062_080,
    "tofu": 2_706_111_680,
    "pitome": 2_777_271_616,
    "dtem": 2_325_863_936,
    "atc": 2_984_666_240,
}


@pytest.mark.parametrize("method", EXECUTED)
def test_public_programs_run_as_many(method):
    """To the last one where both do the same products; norms are none.

    The others have the class token among the similarities; average by additions where ours is a product (ATC); or
    have an attention map at hand that ours forms beside its fused attention (k-medoids: compared without that).
    """
    cost = rival_vit(384, method, **(RATES if method == "diffrate" else {}))
    products = cost.without("norms") - (cost.by("part")[PART] if method == "kmedoids" else 0)
    if method in ("patchmerger", "sinkhorn", "sit", "pitome", "kmedoids"):
        assert products == EXECUTED[method]
    assert products == pytest.approx(EXECUTED[method], rel=0.007)


def test_layers_and_places_are_the_methods_own():
    for method, known in METHODS.items():
        assert known.layers == REDUCTIONS[method].layers(12)
        model = timm.create_model(f"{method}_deit_tiny_patch16_224", embed_dim=24, num_heads=3)
        (host,) = {type(block) for block in model.blocks if isinstance(block, HostBlock)}
        assert known.where == ("ahead" if host is AheadBlock else host.where)


def test_nothing_reduced_costs_what_the_dense_model_costs():
    for method, choices in {"ats": {}, "sit": {}, "atc": {}, "pitome": {}, "kmedoids": {}}.items():
        assert rival_vit(384, method, keep_rate=1.0, **choices).total == deit(384).total
    assert rival_vit(384, "dtem", r=0).total == deit(384).total


@pytest.mark.parametrize("figure", figures(), ids=lambda figure: figure.method)
def test_printed_figures_are_rebuilt_from_their_own_accounting(figure):
    digits = len(str(figure.printed).split(".")[1])
    assert round(figure.rebuilt, digits) == figure.printed
    whole = figure.counted + figure.reduction
    assert (abs(figure.printed / whole - 1) < 0.01) == (figure.method in ("diffrate", "mctf", "evovit"))


def test_rates_and_radii_are_the_models_own():
    assert DIFFRATE == RATES
    model = timm.create_model("shrinking_deit_tiny_patch16_224")
    assert within_radii(model, (14, 14)) == RADII


def within_radii(model, grid: tuple[int, int]) -> tuple[int, ...]:
    return tuple(len(r.places(grid, r.stage)) for r in model.reductions.values())
