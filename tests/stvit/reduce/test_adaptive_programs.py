"""Rivals that choose by image or by layer, against the outputs of public programs: logits and choices.

Weights are made by rule under the programs' own names and converted, as a checkpoint's would be.
"""

from functools import partial

import pytest
import timm
import torch
from fill_rule import make_input
from oracles import equal_logits, official_weights, oracle
from torch import nn

from stvit.convert.rival_weights import convert_rival


def filled(file: str, method: str, **choices) -> nn.Module:
    model = timm.create_model(f"{method}_deit_small_patch16_224", **choices).eval()
    model.load_state_dict(convert_rival(official_weights(file), method, list(model.reductions)))
    return model


@torch.no_grad()
def run(model: nn.Module, size: int = 224) -> tuple[torch.Tensor, list]:
    """Logits, and each layer's plan."""
    trace: list = []
    x = model.norm(model.forward_layers(make_input((2, 3, size, size)), trace))
    return model.forward_head(x), [plan for _, plan in trace]


def test_evovit():
    """The mean of all tokens is classified, those among them that waited."""
    reference = oracle("evovit_deit_small_r050")
    logits, plans = run(filled("evovit_deit_small_r050", "evovit", global_pool="avg"))
    equal_logits(logits, reference)
    first, second = reference["order_block4"], reference["order_block8"]
    assert all(plan.computed.index.equal(first[:, :98]) for plan in plans[4:8])
    second = first.gather(1, second)  # numbered as the program has them then, slow tokens first
    assert all(plan.computed.index.equal(second[:, :98]) for plan in plans[8:])


def test_avit():
    reference = oracle("avit_deit_small_s10_c30")
    model = filled("avit_deit_small_s10_c30", "avit")
    heard: list = []
    model.blocks[11].reduction.ponder.register_forward_hook(lambda _, args, rho: heard.append((*args, rho)))
    logits, plans = run(model)
    equal_logits(logits, reference)
    past = [plan.carry.reached < 0.99 for plan in plans[:-1]]  # the class token is among them
    active = torch.stack([torch.full((2,), 197), *(tokens.sum(1) for tokens in past)], dim=1)
    assert active.equal(reference["active_tokens"])
    computed = [plan.computed.valid.sum(1) for plan in plans[1:]]
    assert all(c.equal(t[:, 1:].sum(1)) for c, t in zip(computed, past, strict=True)), (
        "a halted token was computed"
    )
    ((pondering, rho),) = heard
    assert pondering.layers.long().equal(reference["counter_token"])
    torch.testing.assert_close(rho, reference["rho_token"], atol=2e-5, rtol=0)


SHIFTS = (0.18, 0.38, 0.2)  # added to a bias, without which predictors with weights by rule drop every token


def test_spvit():
    reference, weights = oracle("spvit_deit_small_369"), official_weights("spvit_deit_small_369")
    for stage, shift in enumerate(SHIFTS):
        weights[f"score_predictor.{stage}.out_conv.5.4.bias"][0] += shift
    model = timm.create_model("spvit_deit_small_patch16_224").eval()
    model.load_state_dict(convert_rival(weights, "spvit", list(model.reductions)))
    logits, plans = run(model)
    equal_logits(logits, reference)
    places = torch.arange(196).expand(2, -1)
    for packages, block in enumerate((3, 6, 9)):
        part = plans[block].parts[0]
        places = places.gather(1, part.index)
        kept = torch.zeros(2, 196, dtype=torch.long).scatter_reduce(1, places, part.valid.long(), "amax")
        assert kept.equal(reference[f"keep_block{block}"].long())
        assert plans[block].mass.sum(1).equal(reference[f"count_block{block}"] + packages + 1.0)


def test_svite():
    """One zero token counts for all that the program multiplies by zero and keeps."""
    reference = oracle("svite_deit_small_tok100")
    logits, plans = run(filled("svite_deit_small_tok100", "svite", keep_rate=100 / 197))
    equal_logits(logits, reference)
    kept, zero = plans[0].parts
    chosen = torch.zeros(2, 197).scatter(1, kept.index + 1, kept.factor)
    chosen[:, 0] = reference["mask_topk"][:, 0]
    assert chosen.equal(reference["mask_topk"].float()) and chosen.sum(1).tolist() == [100, 100]
    assert plans[0].mass[:, -1].tolist() == [97, 97] and not zero.weights.any()


def test_iared2():
    reference = oracle("iared2_deit_small_g444")
    logits, plans = run(filled("iared2_deit_small_g444", "iared2"))
    equal_logits(logits, reference)
    places = torch.arange(196).expand(2, -1)
    for group, block in enumerate((0, 4, 8)):
        (part,) = plans[block].parts
        places = places.gather(1, part.index)
        kept = torch.zeros(2, 196, dtype=torch.long).scatter_reduce(1, places, part.valid.long(), "amax")
        assert kept.equal(reference["keep"][:, group, 1:].long())


def test_tokenlearner():
    """A Vision Transformer without class token, with the approximate GELU of its framework."""
    reference = oracle("tokenlearner_v11_vit_small_t16_loc9")
    choices = dict(class_token=False, global_pool="avg", fc_norm=False)
    model = filled(
        "tokenlearner_v11_vit_small_t16_loc9",
        "tokenlearner",
        act_layer=partial(nn.GELU, approximate="tanh"),
        **choices,
    )
    heard: list = []
    model.blocks[9].reduction.register_forward_hook(lambda _, args, output: heard.append(output[0]))
    logits, _ = run(model)
    equal_logits(logits, reference)
    torch.testing.assert_close(heard[0][..., ::8], reference["tokens"], atol=1e-5, rtol=0)


def test_dge():
    reference = oracle("dge_deit_small_s124_256")
    model = filled("dge_deit_small_s124_256", "dge", img_size=256)
    logits, plans = run(model, 256)
    equal_logits(logits, reference)
    queries = torch.stack([plan.computed.chosen.valid.sum(1) + 1 for plan in plans], dim=1)
    assert queries.equal(reference["query_tokens"])
    per_split = torch.tensor([16, 4, 1])
    assert queries.equal(per_split[reference["split_index"]].sum(2) + 1)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_tokenlearner_against_the_formulas(version):
    """Version 1.0 has no reference output: both are held against their formulas, written out token by token."""
    torch.manual_seed(0)
    from stvit.reduce.reduction import Seen
    from stvit.reduce.tokenlearner import TokenLearner

    method = TokenLearner(8, num_tokens=3, version=version).double()
    x = torch.randn(1, 12, 8, dtype=torch.float64)
    y, _ = method(x, Seen(12, (3, 4), None, 0, whole=(3, 4)))
    normed = nn.functional.layer_norm(x[0], (8,), method.norm.weight, method.norm.bias, 1e-6)
    if version == "1.1":
        logits = method.mlp.fc2(nn.functional.gelu(method.mlp.fc1(normed), approximate="tanh"))
        weights = logits.exp() / logits.exp().sum(0)
    else:
        image = normed.T.reshape(1, 8, 3, 4)
        for i, conv in enumerate(method.conv):
            image = nn.functional.conv2d(image, conv.weight, padding=1)
            image = nn.functional.gelu(image, approximate="tanh") if i < 3 else 1 / (1 + (-image).exp())
        weights = image.reshape(3, 12).T
    expected = torch.stack([sum(weights[n, m] * x[0, n] for n in range(12)) for m in range(3)])
    torch.testing.assert_close(y[0], expected)
