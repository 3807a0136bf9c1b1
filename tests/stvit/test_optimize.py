"""``stvit.optimize``: the same function to 1e-5, from a model that stays as it was."""

import pytest
import timm
import torch
from micro import MODELS, build, images
from reduced import ROWS as REDUCED
from reduced import build as build_reduced
from reduced import images as reduced_images
from torch import nn

import stvit
from stvit.fast.token_linear import TokenLinear
from stvit.optimize import PackedLinear

NAMES = ["micro_swin", "micro_stvit_swin", "micro_stvit_r_swin", "micro_deit", "micro_stvit", "micro_bat"]


def settled(model: nn.Module) -> nn.Module:
    """Running statistics and affine parameters that are not those of the start."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm) and module.weight is not None:
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


def assert_same(model: nn.Module, x: torch.Tensor) -> None:
    fast = stvit.optimize(model, pack=True)
    with torch.inference_mode():
        slow, quick = model(x), fast(x)
    assert (quick - slow).abs().max() <= 1e-5 * slow.abs().max()


@pytest.mark.parametrize("row", MODELS)
def test_same_function(row):
    model = settled(build(row))
    assert_same(model, images(model))


@pytest.mark.parametrize("row", REDUCED)
def test_same_function_with_fewer_tokens(row):
    assert_same(settled(build_reduced(row)), reduced_images())


@pytest.mark.parametrize("name", NAMES)
def test_same_function_of_registered_models(name):
    model = settled(timm.create_model(name))
    assert_same(model, torch.randn(2, *model.default_cfg["input_size"]))


def test_dense_models_of_timm_too():
    model = timm.create_model("deit_tiny_patch16_224", depth=2)
    assert_same(settled(model), torch.randn(1, 3, 224, 224))
    model = timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1), embed_dim=24)
    assert_same(settled(model), torch.randn(1, 3, 224, 224))


def test_every_linear_layer_is_packed():
    kinds = {type(m) for m in stvit.optimize(timm.create_model("micro_stvit").eval(), pack=True).modules()}
    assert PackedLinear in kinds and not kinds & {nn.Linear, TokenLinear}


@pytest.mark.parametrize("capability, packed", [("AVX2", False), ("AVX512", True), ("DEFAULT", False)])
def test_packed_where_it_pays(capability, packed, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    fast = stvit.optimize(timm.create_model("micro_stvit").eval())
    assert packed == any(isinstance(module, PackedLinear) for module in fast.modules())


def test_the_model_stays_as_it_was():
    model = build("default")
    x, before = images(model), {name: value.clone() for name, value in model.state_dict().items()}
    out = model(x)
    stvit.optimize(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model(x), out)
    model(x).sum().backward()


def test_rows_of_a_packed_layer_are_those_of_the_layer():
    layer, x = nn.Linear(12, 30), torch.randn(2, 5, 12)
    packed, expected = PackedLinear(layer), layer(x).detach()

    def check(first, last):
        torch.testing.assert_close(packed.rows(x, first, last), expected[..., first:last], atol=1e-6, rtol=0)

    check(10, 30)
    assert packed.weight is not None
    check(0, 10)
    assert packed.weight is None and set(packed.packed) == {(0, 10), (10, 30)}  # the weights lie there once
    check(0, 30), check(5, 20), check(0, 10)
    assert set(packed.packed) == {(0, 10), (10, 30)}


def test_a_whole_packed_layer_keeps_its_weights_once():
    layer, x = nn.Linear(12, 30, bias=False), torch.randn(2, 5, 12)
    packed = PackedLinear(layer)
    torch.testing.assert_close(packed(x), layer(x).detach(), atol=1e-6, rtol=0)
    assert packed.weight is None and set(packed.packed) == {(0, 30)}
    torch.testing.assert_close(packed.rows(x, 3, 9), packed(x)[..., 3:9])


def test_maps_are_recorded():
    model = build("default")
    x = images(model)
    with torch.inference_mode(), stvit.record(model) as slow:
        model(x)
    fast = stvit.optimize(model, pack=True)
    with torch.inference_mode(), stvit.record(fast) as quick:
        fast(x)
    assert slow.keys() == quick.keys()
    for name, value in slow.items():
        torch.testing.assert_close(quick[name], value, atol=1e-5, rtol=0)


def test_half_precision():
    model = build("default")
    x = images(model)
    with torch.inference_mode():
        slow = model(x)
        half = stvit.optimize(model.bfloat16(), pack=True)(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), slow, atol=2e-2, rtol=0)


def test_autocast():
    model = build("default")
    fast, x = stvit.optimize(model, pack=True), images(model)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(fast(x).float(), model(x).float(), atol=2e-2, rtol=0)


def test_errors_name_the_remedy():
    model = build("default")
    with pytest.raises(ValueError, match="eval"):
        stvit.optimize(model.train())
