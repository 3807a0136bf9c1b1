"""Products under autocast are those of bfloat16 but for rounding, forward and backward."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import timm
import torch
import torch.nn.functional as F

import stvit  # noqa: F401 (registers the models)
from stvit.train import train
from stvit.training import bfloat16
from stvit.training.bfloat16 import RoundedProducts, mixed_precision
from stvit.training.config import TrainConfig

torch.manual_seed(0)
Q, W, X = torch.randn(2, 3, 17, 8), torch.randn(12, 8), torch.randn(2, 5, 8)
PRODUCTS = {
    "linear": lambda: F.linear(X, W, torch.ones(12)),
    "matmul": lambda: X @ W.T,
    "einsum": lambda: torch.einsum("bnc,dc->bnd", X, W),
    "convolution": lambda: F.conv2d(X[:, None], W[None, None, :3, :3]),
    "attention": lambda: F.scaled_dot_product_attention(Q, Q.roll(1, 2), Q.flip(2)),
}


def autocast(rounded: bool):
    """bfloat16 by torch's own kernels, or by rounded products."""
    stack = torch.autocast("cpu", torch.bfloat16)
    return (stack, RoundedProducts()) if rounded else (stack,)


def under(contexts, compute):
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        return compute()


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_are_those_of_bfloat16(name):
    ours, own = (under(autocast(rounded), PRODUCTS[name]) for rounded in (True, False))
    assert ours.dtype == own.dtype == torch.bfloat16
    assert (ours.float() - own.float()).abs().max() <= 2**-7 * own.abs().max()  # a digit of bfloat16
    assert not torch.equal(ours.float(), PRODUCTS[name]()), "float32 would not be rounded"


def test_a_linear_layer_is_its_rounded_product_to_the_bit():
    found = under(autocast(True), PRODUCTS["linear"])
    by_hand = (X.bfloat16().float() @ W.bfloat16().float().T + 1).bfloat16()
    assert torch.equal(found, by_hand)


def test_nothing_changes_without_autocast():
    assert torch.equal(under((RoundedProducts(),), PRODUCTS["linear"]), PRODUCTS["linear"]())
    with mixed_precision("cpu", "no"):
        assert torch.equal(PRODUCTS["linear"](), F.linear(X, W, torch.ones(12)))


def test_gradients_of_a_model_are_those_of_bfloat16():
    torch.manual_seed(1)
    model = timm.create_model("micro_stvit", img_size=24, embed_dim=32, depth=4, num_classes=5)
    images, labels = torch.randn(3, 3, 24, 24), torch.tensor([0, 3, 2])
    gradients = []
    for rounded in (True, False):
        model.zero_grad()
        loss = under(autocast(rounded), lambda: F.cross_entropy(model(images).float(), labels))
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    ours, own = gradients
    assert ours.dtype == torch.float32
    assert F.cosine_similarity(ours, own, dim=0) > 0.995


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("fast", [True, False])
def test_a_processor_rounds_what_its_own_kernels_are_slow_at(monkeypatch, fast, name):
    """With bfloat16 instructions that is attention alone."""
    monkeypatch.setattr(bfloat16, "bfloat16_products", lambda: fast)
    rounds = not fast or name == "attention"
    found = under(
        (torch.autocast("cpu", torch.bfloat16), bfloat16.fast_products("cpu", "bf16")), PRODUCTS[name]
    )
    assert torch.equal(found, under(autocast(rounds), PRODUCTS[name]))


@pytest.mark.parametrize(("device", "precision"), [("cuda", "bf16"), ("cpu", "no"), ("cpu", "fp16")])
def test_nothing_is_rounded_elsewhere(device, precision):
    assert not isinstance(bfloat16.fast_products(device, precision), RoundedProducts)


def test_trainings_of_either_precision_follow_each_other_in_one_process(tmp_path):
    small = dict(recipe="micro", model="micro_deit", image_size=24, train_images=8, eval_images=8, epochs=1,
                 batch_size=4, workers=0, device="cpu", model_args=dict(img_size=24, depth=2))  # fmt: skip
    losses = []
    for number, precision in enumerate(("no", "bf16", "no")):
        config = TrainConfig.of(**small, precision=precision, out=str(tmp_path / str(number)))
        losses.append(train(config)["held_out_loss"])
    assert losses[0] == losses[2] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.05)
