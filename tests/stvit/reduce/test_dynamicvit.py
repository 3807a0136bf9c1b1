"""DynamicViT's gradients: those of the straight-through estimator, and why finite differences say otherwise."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

import stvit

STEP = 1e-6


class Surrogate(nn.Module):
    """What the straight-through estimator differentiates: a decision's value here, moving as its softmax moves."""

    def __init__(self):
        super().__init__()
        self.offset = None

    def forward(self, log_probabilities, before):
        state = torch.get_rng_state()
        soft = F.gumbel_softmax(log_probabilities, dim=2)[..., 0]
        if self.offset is None:
            torch.set_rng_state(state)  # the same noise
            hard = F.gumbel_softmax(log_probabilities, hard=True, dim=2)[..., 0]
            self.offset = (hard - soft).detach()
        keep = soft + self.offset
        return keep if before is None else keep * before


@pytest.fixture
def model():
    torch.manual_seed(0)
    dense = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=4, num_classes=5)
    return stvit.sparsify(dense, method="dynamicvit", at=(2, 3), keep_rate=0.6).double().train()


@pytest.fixture
def loss(model):
    images, weights = torch.randn(2, 3, 64, 64).double(), torch.randn(2, 5).double()

    def value():
        torch.manual_seed(1)  # the noise of the decisions
        return (model(images) * weights).sum()

    return value


def slope(model, loss, direction):
    """The central difference of the loss along a direction in parameter space."""
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter += sign * STEP * direction[name]
            ends.append(loss().item())
            for name, parameter in model.named_parameters():
                parameter -= sign * STEP * direction[name]
    return (ends[0] - ends[1]) / (2 * STEP)


def test_gradients_are_those_of_the_straight_through_estimator(model, loss):
    loss().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    direction = {name: torch.randn_like(parameter) for name, parameter in model.named_parameters()}
    expected = sum((gradients[name] * direction[name]).sum().item() for name in gradients)
    plain = slope(model, loss, direction)
    for reduction in model.reductions.values():
        reduction.decide = Surrogate()
    loss()  # the decisions at this point
    assert slope(model, loss, direction) == pytest.approx(expected, rel=1e-5)
    assert plain != pytest.approx(expected, rel=1e-5), "decisions of 0 and 1 do not move with the weights"


def test_the_predictor_learns_where_the_loss_is_flat(model, loss):
    """A small step of the predictor changes no decision, hence no output; its gradient is the estimator's alone."""
    loss().backward()
    predictor = {name for name, _ in model.named_parameters() if ".reduction." in name}
    direction = {
        name: torch.randn_like(parameter) * (name in predictor)
        for name, parameter in model.named_parameters()
    }
    assert slope(model, loss, direction) == pytest.approx(0, abs=1e-7)
    assert all(
        parameter.grad.abs().sum() > 0 for name, parameter in model.named_parameters() if name in predictor
    )
