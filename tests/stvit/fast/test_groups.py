"""Batches in groups of images: the same outcome, and nobody who looks can tell."""

import pytest
import timm
import torch
from micro import MODELS, build, images
from reduced import ROWS
from reduced import build as build_reduced
from reduced import images as reduced_images

from stvit.fast import groups

SWINS = ["micro_swin", "micro_stvit_swin", "micro_stvit_r_swin"]


@pytest.fixture
def one_image(monkeypatch):
    """Groups of one image, whatever its size."""
    monkeypatch.setattr(groups, "GROUP", 1)


@torch.inference_mode()
def whole_and_grouped(model, x, monkeypatch):
    whole = model(x)
    monkeypatch.setattr(groups, "GROUP", 1)
    return whole, model(x)


@pytest.mark.parametrize("row", MODELS)
def test_groups_change_nothing(row, monkeypatch):
    model = build(row)
    whole, grouped = whole_and_grouped(model, images(model, batch=5), monkeypatch)
    torch.testing.assert_close(grouped, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("row", [row for row in ROWS if row != "random"])  # chance goes on in its own order
def test_groups_change_nothing_with_fewer_tokens(row, monkeypatch):
    whole, grouped = whole_and_grouped(build_reduced(row), reduced_images(batch=3), monkeypatch)
    torch.testing.assert_close(grouped, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SWINS)
def test_groups_change_nothing_in_windows(name, monkeypatch):
    model = timm.create_model(name).eval()
    whole, grouped = whole_and_grouped(model, torch.randn(3, 3, 72, 60), monkeypatch)
    torch.testing.assert_close(grouped, whole, atol=1e-5, rtol=0)


def test_size_of_a_group():
    layer, x = torch.nn.Identity(), torch.zeros(64, 196, 384)
    with torch.inference_mode():
        assert groups.GROUP // (4 * 196 * 384 * 4) == 13
        assert groups.group_size(layer, x) == 13  # 13, 13, 13, 13 and 12
        assert groups.group_size(layer, x[:16]) == 8  # not 13 and 3
        assert groups.group_size(layer, x[:13]) is None  # they fit
        assert groups.group_size(layer, x.bfloat16()) == 22  # 27 would fit: 22, 22 and 20
        assert groups.group_size(layer, x, groups.POOLING) == 3
        assert groups.group_size(layer, torch.zeros(2, 10**7)) == 1


def test_whole_batch_under_gradients(one_image):
    layer, x = torch.nn.Identity(), torch.zeros(64, 196, 384)
    assert groups.group_size(layer, x) is None
    with torch.no_grad():
        assert groups.group_size(layer, x) == 1


def test_hooks_see_the_whole_batch(one_image):
    model = build("default")
    x, seen, calls = images(model, batch=5), [], []
    with torch.inference_mode():
        mlp = model.blocks[0].mlp
        forward = mlp.forward
        mlp.forward = lambda x: calls.append(len(x)) or forward(x)
        model(x)
        assert calls == [1] * 5
        mlp.register_forward_hook(lambda module, given, out: seen.append(len(out)))
        model(x)
    assert seen == [5] and calls == [1] * 5 + [5]
