"""More methods against the outputs of public programs, with the same weights by rule: logits and selections."""

import pytest
import timm
import torch
from fill_rule import fill_state
from oracles import equal_logits, held, oracle, outputs

from stvit.convert.rivals import official_names
from stvit.reduce.ats import SortedATS
from stvit.reduce.topk import TopK

BLOCKS = (3, 6, 9)  # in front of which, or in which, most of the programs reduce


def filled(method: str, **choices):
    model = timm.create_model(f"{method}_deit_small_patch16_224", **choices)
    return fill_state(model, official_names(model))


def kept(plan) -> torch.Tensor:
    """The tokens that stay, −1 for padding."""
    (part,) = plan.parts
    return part.index if not hasattr(part, "valid") else part.index.where(part.valid, -1)


def test_topk():
    """The program keeps ⌊196 · 0.7ⁱ⌋ tokens; at those rates ours is the same."""
    model, reference = filled("topk"), oracle("topk_deit_small_kr070")
    left = [196, 137, 96, 67]
    for reduction, before, after in zip(model.reductions.values(), left[:-1], left[1:], strict=True):
        assert isinstance(reduction, TopK)
        reduction.keep_rate = after / before
    logits, plans = outputs(model)
    equal_logits(logits, reference)
    for block in BLOCKS:
        assert kept(plans[block]).equal(reference[f"idx_block{block}"])


def test_ats():
    reference = oracle("ats_deit_small_kr070")
    logits, plans = outputs(filled("ats"))
    equal_logits(logits, reference)
    for block in BLOCKS:
        assert kept(plans[block]).equal(reference[f"idx_block{block}"])


class AsReleased(SortedATS):
    """Where padding counts as the least significant token."""

    def least(self, running, padding):
        return running[:, :1]


def test_the_authors_ats():
    """In 64 bits: scores are closer to each other than 32 bits tell. Beside another image, the program's numbers."""
    model, reference = filled("ats_sorted").double(), oracle("ats_official_deit_small_b3to11_n197")
    for reduction in model.reductions.values():
        reduction.__class__ = AsReleased
    logits, plans = outputs(model)
    equal_logits(logits, reference)
    for block, plan in plans.items():
        ours, theirs = kept(plan), reference[f"idx_block{block}"]
        assert ours.sort(1).values.equal(theirs.sort(1).values)
    for reduction in model.reductions.values():
        reduction.__class__ = SortedATS
    alone, plans = outputs(model)
    assert (alone - reference["logits"]).abs().max() > 0.1, "an image's tokens depend on the images beside it"


@pytest.mark.parametrize("method", ["patchmerger", "sinkhorn", "sit"])
def test_learned_tokens(method):
    reference = oracle(f"{method}_deit_small_kr070")
    logits, plans = outputs(filled(method))
    equal_logits(logits, reference)
    for block in BLOCKS:
        weights = plans[block].parts[0].weights[:, ::16, ::14]
        torch.testing.assert_close(weights, reference[f"soft_block{block}"], atol=2e-6, rtol=1e-5)


def test_kmedoids():
    reference = oracle("kmedoids_deit_small_kr070")
    logits, plans = outputs(filled("kmedoids"))
    equal_logits(logits, reference)
    for block in BLOCKS:  # the program reduces in front of a layer, by the attention of the one before
        assert kept(plans[block - 1]).equal(reference[f"idx_center_block{block}"])


def test_what_leaves_is_what_the_heuristic_masks():
    reference = oracle("heuristic_deit_small_l1_contig_3_9")
    logits, plans = outputs(filled("shrinking"))
    equal_logits(logits, reference)
    places = torch.arange(196).expand(2, -1)
    for block in range(3, 10):
        places = places.gather(1, kept(plans[block]))
        assert places.equal(reference[f"idx_block{block}"])


@pytest.mark.parametrize(
    ("method", "file", "dtype"),
    [
        ("mctf", "mctf_deit_small_r16", torch.float32),
        ("dtem", "dtem_deit_small_r16", torch.float32),
        ("pitome", "pitome_deit_small_ratio09125", torch.float64),  # its orders are closer than 32 bits tell
    ],
)
def test_merging(method, file, dtype):
    reference = oracle(file)
    logits, plans = outputs(filled(method).to(dtype))
    equal_logits(logits, reference)
    total = held(plans)  # (B, M, N)
    assert (total > 0).sum(2).equal(reference["final_size"][:, 1:].long())
    assert (total.argmax(1) + 1).equal(reference["source_argmax"][:, 1:])


def test_diffrate():
    reference = oracle("diffrate_deit_small_f27")
    logits, plans = outputs(filled("diffrate"))
    equal_logits(logits, reference)
    total = held(plans)
    ends = (total.argmax(1) + 1).where(total.sum(1) > 0, -1)
    assert ends.equal(reference["source_argmax"][:, 1:])
    last = max(plans)
    torch.testing.assert_close(plans[last].mass, reference["final_size"][:, 1:], atol=1e-4, rtol=1e-5)


def test_tofu():
    """Which tokens merge, of those that are not pruned: the program says of the pruned ones whom they were like."""
    reference = oracle("tofu_deit_small_r13")
    logits, plans = outputs(filled("tofu"))
    equal_logits(logits, reference)
    total = held(plans)
    stays = total.sum(1) > 0
    assert stays.sum(1).tolist() == [196 - 7 * 13] * 2
    assert (total.argmax(1) + 1)[stays].equal(reference["source_map"][:, 1:][stays])


def test_atc():
    """The same clusters; how scikit-learn numbers them plays no part in the logits."""
    reference = oracle("atc_deit_small_kr070_average_prop")
    logits, plans = outputs(filled("atc"))
    equal_logits(logits, reference)
    ours = theirs = torch.arange(196).expand(2, -1)  # each image token's token, in our order and in theirs
    for block in BLOCKS:
        ours = plans[block].assignment(ours.max() + 1).argmax(1).gather(1, ours)
        theirs = (reference[f"labels_block{block}"][:, 1:] - 1).gather(1, theirs)
        assert together(ours).equal(together(theirs))


def together(label: torch.Tensor) -> torch.Tensor:
    return label[:, :, None] == label[:, None]
