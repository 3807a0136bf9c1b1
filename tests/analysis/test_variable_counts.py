"""The three ways to run images of different numbers of tokens compute the same, and their table says so."""

import pandas as pd
import pytest
import timm
import torch

import stvit
from analysis import variable_counts

SIZES = dict(img_size=64, patch_size=8, embed_dim=48, depth=6, num_heads=3, num_classes=7)


@pytest.fixture(scope="module")
def dense():
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", **SIZES).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def images(count: int) -> torch.Tensor:
    return torch.linspace(0.2, 4, count)[:, None, None, None] * torch.randn(count, 3, 64, 64)


@torch.no_grad()
@pytest.mark.parametrize("method", ["ats", "ats_sorted", "iared2"])
def test_the_ways_compute_the_same(dense, method):
    x = images(8)
    ways = variable_counts.ways_of(stvit.sparsify(dense, method=method).eval())
    expected = ways.pop("padded")(x)
    for model in ways.values():
        torch.testing.assert_close(model(x), expected, atol=2e-5, rtol=1e-5)


def test_table(dense):
    frame = variable_counts.compute(dense, images(4), [2, 4], 1, (("ats", dict(keep_rate=0.5)),))
    assert list(frame.batch) == [2, 4] and (frame["fewest tokens"] <= frame["most tokens"]).all()
    assert frame["padding %"].between(0, 100).all() and (frame.filter(like=", s") > 0).all(axis=None)
    assert variable_counts.share(pd.Series([0.5, 1.25])) == "50 to 125 %"
