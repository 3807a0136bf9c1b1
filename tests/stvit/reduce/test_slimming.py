"""Patch slimming: what ``slim`` promises of the places that it chooses, and what the method makes of them."""

import pytest
import timm
import torch
from reduced import MICRO, images

import stvit
from stvit.reduce.psvit import layer_error, slim, spread


@pytest.fixture(scope="module")
def dense():
    torch.manual_seed(0)
    return timm.create_model("deit_tiny_patch16_224", **MICRO).eval()


def layer_inputs(dense, x):
    found, hooks = [], []
    for block in dense.blocks:
        hooks.append(block.register_forward_pre_hook(lambda _, args: found.append(args[0])))
    dense(x)
    for hook in hooks:
        hook.remove()
    return found


@torch.no_grad()
def test_each_layer_is_within_the_tolerance_and_with_none_nothing_is_lost(dense):
    x = images(4)
    whole = slim(dense, x, tolerance=0.0)
    model = stvit.sparsify(dense, method="psvit", reach=whole)
    torch.testing.assert_close(model(x), dense(x), atol=1e-5, rtol=0)

    reach = slim(dense, x, tolerance=0.02, step=2)
    assert len(reach) == 64 and max(reach) == 6 and reach.count(6) == 1, (
        "one place is left after the last layer"
    )
    inputs = layer_inputs(dense, x)
    for layer in range(2, 7):
        rows = [0, *(1 + p for p, last in enumerate(reach) if last >= layer)]
        keys = [0, *(1 + p for p, last in enumerate(reach) if last >= layer - 1)]
        assert layer_error(dense.blocks[layer - 1], inputs[layer - 1], rows, keys) <= 0.02


@torch.no_grad()
def test_a_larger_tolerance_leaves_fewer_places_and_files_hold_them(dense, tmp_path):
    x = images(4)
    reaches = [slim(dense, x, tolerance) for tolerance in (0.005, 0.02, 0.1)]
    sums = [sum(reach) for reach in reaches]
    assert sums[0] > sums[1] > sums[2]
    models = [stvit.sparsify(dense, method="psvit", reach=reach).eval() for reach in reaches]
    errors = [float((model(x) - dense(x)).norm()) for model in models]
    assert errors[0] < errors[2]
    model = models[1]
    stvit.save_checkpoint(model, tmp_path)
    assert stvit.load_checkpoint(tmp_path).eval()(x).equal(model(x))
    with pytest.raises(ValueError, match="reach speaks of 64 places, and the image has 48"):
        timm.create_model("psvit_deit_tiny_patch16_224", **MICRO, reach=reaches[1])(images(1, (64, 48)))


def test_slimming_follows_a_class_token():
    model = timm.create_model("deit_tiny_patch16_224", **MICRO, class_token=False, global_pool="avg")
    with pytest.raises(ValueError, match="has none"):
        slim(model, images(), 0.1)


def test_places_without_a_choice_lie_evenly():
    """Any quarter of the grid holds its share of the first places, to within three."""
    order = sorted(range(196), key=lambda place: spread(place, (14, 14)))
    for kept in (20, 60, 100):
        rows = torch.tensor([[p // 14 // 7, p % 14 // 7] for p in order[:kept]])
        counts = (rows[:, 0] * 2 + rows[:, 1]).bincount(minlength=4)
        assert (counts - kept / 4).abs().max() <= 3
