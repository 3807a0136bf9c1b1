"""Muon's orthogonal updates: float32 products of bfloat16 numbers are timm's bfloat16 products."""

import pytest
import torch
from timm.optim import muon

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
