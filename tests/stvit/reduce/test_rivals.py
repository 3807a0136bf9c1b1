"""ToMe's proportional attention and DynamicViT's training path."""

import pytest
import timm
import torch
from reduced import MICRO, build, images, inputs

from stvit.models.reduced_vit import decisions
from stvit.reduce.dynamicvit import DynamicViT, ratio_loss
from stvit.reduce.reduction import ObservedAttention
from stvit.reduce.tome import ToMe


def test_proportional_attention_is_attention_over_copies():
    """A token of size s with + log s draws what s tokens like it would draw."""
    attn = timm.create_model("tome_deit_tiny_patch16_224", **MICRO).blocks[1].attn.eval()
    x, size = torch.randn(1, 5, 48), torch.tensor([[2.0, 1.0, 3.0, 1.0]])
    y = attn(x, ToMe(48).key_bias(size, prefix=1))[0]
    copies = torch.tensor([0, 1, 1, 2, 3, 3, 3, 4])
    z = attn(x[:, copies])[0]
    torch.testing.assert_close(y, z[:, [0, 1, 3, 4, 7]])
    assert isinstance(attn, ObservedAttention)


def test_sizes_add_up_and_weigh():
    x, seen = inputs(20)
    y, plan = ToMe(12, r=6)(x, seen)
    assert y.shape == (2, 14, 12) and plan.mass.sum(1).tolist() == [20, 20]
    torch.testing.assert_close((plan.mass[..., None] * y).sum(1), x.sum(1))
    keys = torch.randn(2, 3, 15, 4)
    y2, plan2 = ToMe(12, r=6)(y, seen._replace(mass=plan.mass, keys=keys))
    torch.testing.assert_close((plan2.mass[..., None] * y2).sum(1), x.sum(1))
    assert plan2.mass.sum(1).tolist() == [20, 20]


def test_equal_tokens_merge_first():
    x, seen = inputs(12)
    seen.keys[:, :, 1 + 7] = seen.keys[:, :, 1 + 2]
    _, plan = ToMe(12, r=1)(x, seen)
    holds = plan.assignment(12)
    assert (holds[:, :, 7] == 0.5).any(1).all() and ((holds[:, :, 7] > 0) == (holds[:, :, 2] > 0)).all()


def test_no_more_than_half_of_the_tokens_merge():
    x, seen = inputs(5)
    assert ToMe(12, r=13)(x, seen)[0].shape == (2, 3, 12)
    with pytest.raises(ValueError, match="must be a whole number of at least 0"):
        ToMe(12, r=-1)


def test_masked_training_is_pruned_inference():
    """With the decisions of inference, attention that masks equals attention over the tokens that stay."""
    model = build("dynamicvit")
    x = images()
    expected = model(x)
    first = model.blocks[1].reduction
    kept = {}

    def listen(stage, reduction):
        def decide(module, args, output):
            scores, before = args
            count = int(64 * 0.7 ** (stage + 1) + 1e-9)
            scores = scores[..., 0] if before is None else scores[..., 0].masked_fill(before == 0, -torch.inf)
            top = torch.zeros_like(scores).scatter(1, scores.topk(count, dim=1).indices, 1.0)
            kept[stage] = top
            return top

        return reduction.decide.register_forward_hook(decide)

    for stage, reduction in enumerate(model.reductions.values()):
        listen(stage, reduction)
    model.train()
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, atol=1e-4, rtol=0)
    assert [int(kept[s][0].sum()) for s in range(3)] == [44, 31, 21] and first.stage == 0


def test_decisions_reach_the_loss_and_the_predictor_learns():
    model = build("dynamicvit").train()
    with decisions(model) as kept:
        logits = model(images())
    assert [k.shape for k in kept] == [(2, 64)] * 3
    assert all(set(k.unique().tolist()) <= {0.0, 1.0} for k in kept)
    assert (kept[1] <= kept[0]).all() and (kept[2] <= kept[1]).all(), "a dropped token came back"
    loss = ratio_loss(kept, 0.7)
    by_hand = sum((k.mean(1) - 0.7 ** (i + 1)).square().mean() for i, k in enumerate(kept)) / 3
    torch.testing.assert_close(loss, by_hand)
    (logits.square().mean() + 2 * loss).backward()
    for reduction in model.reductions.values():
        assert reduction.out_conv[4].weight.grad.any()
    with decisions(model) as kept:
        pass
    assert not model.blocks[1].reduction.decide._forward_hooks and kept == []
    with pytest.raises(ValueError, match="takes no keep decisions"), decisions(build("bat")):
        pass


def test_gradient_of_a_decision_is_that_of_the_masked_softmax():
    """Compare with exp(logits) · policy, normalised, written out."""
    generator = torch.Generator().manual_seed(0)
    logits, value = torch.randn(1, 1, 5, 5, generator=generator), torch.randn(1, 1, 5, 3, generator=generator)
    grads = []
    for written_out in (False, True):
        mass = torch.tensor([[1.0, 0.0, 1.0, 0.0]], requires_grad=True)
        if written_out:
            policy = torch.nn.functional.pad(mass, (1, 0), value=1.0)
            mask = torch.where(torch.eye(5, dtype=torch.bool), 1.0, policy[:, None, None] + 1e-6)
            weights = logits.exp() * mask
            weights = weights / weights.sum(-1, keepdim=True)
        else:
            weights = (logits + DynamicViT(8).key_bias(mass, 1)).softmax(-1)
        (weights @ value).square().sum().backward()
        grads.append(mass.grad)
    torch.testing.assert_close(*grads, atol=1e-4, rtol=1e-4)
    assert grads[0].abs().min() > 0
