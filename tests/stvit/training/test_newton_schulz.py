"""Muon's orthogonal updates: float32 products of bfloat16 numbers are timm's bfloat16 products."""

import inspect

import pytest
import torch
from timm.optim import create_optimizer_v2, muon

from stvit.training import newton_schulz

SHAPES = [(16, 16), (24, 8), (8, 24), (3, 8, 12), (3, 12, 8)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["quintic", "polar_express"])
def test_equals_timm_to_the_digits_of_bfloat16(shape, name):
    torch.manual_seed(0)
    G, coefficients = torch.randn(shape), muon._COEFFICIENTS[name]
    exact = newton_schulz.timms(G, 7, coefficients, dtype=torch.float32)
    theirs, ours = newton_schulz.timms(G, 7, coefficients), newton_schulz.rounded(G, 7, coefficients)
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    rounding = (theirs.float() - exact).abs().max()
    assert 0 < rounding < 0.05
    assert (ours.float() - exact).abs().max() < 2 * rounding
    assert (ours.float() - theirs.float()).abs().max() < 2 * rounding


def test_no_step_is_the_gradient_normalised():
    G = torch.randn(6, 4)
    found = newton_schulz.rounded(G, 0, muon._COEFFICIENTS["quintic"])
    torch.testing.assert_close(found.float(), G / G.norm(), atol=4e-3, rtol=0)


def test_only_slow_processors_are_helped(monkeypatch):
    G, coefficients = torch.randn(8, 8), muon._COEFFICIENTS["quintic"]
    monkeypatch.setattr(newton_schulz, "bfloat16_products", lambda: True)
    monkeypatch.setattr(newton_schulz, "rounded", None)
    assert torch.equal(newton_schulz.orthogonal(G, 5, coefficients), newton_schulz.timms(G, 5, coefficients))
    exact = newton_schulz.orthogonal(G, 5, coefficients, dtype=torch.float32)
    assert exact.dtype == torch.float32


@pytest.mark.parametrize("opt", ["muon", "nmuon", "adamuon"])
def test_timms_own_optimizer_is_not_touched(opt, monkeypatch):
    """The registry's Muon calls ours, timm's its own; where products are exact, both take the same steps."""
    monkeypatch.setattr(newton_schulz, "bfloat16_products", lambda: True)
    calls = []
    counted = lambda *args, **kwargs: (calls.append(1), newton_schulz.timms(*args, **kwargs))[1]  # noqa: E731
    own = newton_schulz.registry().get_optimizer_class(opt, bind_defaults=False)
    monkeypatch.setitem(inspect.unwrap(own.step).__globals__, "zeropower_via_newtonschulz", counted)
    weights = []
    for create in (newton_schulz.registry().create_optimizer, create_optimizer_v2):
        torch.manual_seed(0)
        layer = torch.nn.Linear(6, 4)
        optimizer = create(layer, opt=opt, lr=0.1)
        for _ in range(3):
            layer(torch.ones(2, 6)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        weights.append(layer.weight)
        assert len(calls) == 3
    assert weights[0].equal(weights[1])
    assert muon.zeropower_via_newtonschulz is newton_schulz.timms


@pytest.mark.parametrize("opt", ["muon", "nmuon"])
@pytest.mark.parametrize("adjust", [None, "match_rms_adamw"])
def test_weights_of_one_shape_step_together_as_timms_do_one_by_one(opt, adjust):
    """Layers of two shapes, one of them alone, and a convolution: the same steps to the digits of bfloat16."""
    shapes = [(12, 8), (12, 8), (8, 12), (12, 8), (8, 4)]
    weights = []
    for create in (newton_schulz.registry().create_optimizer, create_optimizer_v2):
        torch.manual_seed(0)
        layers = [torch.nn.Linear(inputs, outputs) for outputs, inputs in shapes]
        model = torch.nn.ModuleList([*layers, torch.nn.Conv2d(3, 4, 2)])
        optimizer = create(model, opt=opt, lr=0.1, weight_decay=0.1, adjust_lr_fn=adjust)
        for step in range(3):
            for place, parameter in enumerate(model.parameters()):
                chance = torch.Generator().manual_seed(100 * step + place)
                parameter.grad = torch.randn(parameter.shape, generator=chance)
            optimizer.step()
        weights.append([parameter.detach() for parameter in model.parameters()])
    for ours, theirs in zip(*weights, strict=True):
        torch.testing.assert_close(ours, theirs, atol=0.01, rtol=0)


def test_a_stack_is_one_call_of_the_iteration(monkeypatch):
    calls = []
    counted = lambda G, *args, **kwargs: (calls.append(G.shape), newton_schulz.timms(G, *args, **kwargs))[1]  # noqa: E731
    monkeypatch.setattr(newton_schulz, "orthogonal", counted)
    model = torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(6)))
    optimizer = newton_schulz.registry().create_optimizer(model, opt="muon", lr=0.1)
    model(torch.ones(2, 8)).square().sum().backward()
    optimizer.step()
    assert calls == [(6, 8, 8)]
