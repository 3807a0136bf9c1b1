"""Misuse of the Python API: one clear line that names the bad value, and the model stays as it was."""

from __future__ import annotations

import copy
import pickle
import threading
from functools import partial

import pytest
import timm
import torch
from micro import build, images
from torch import nn

import stvit
from stvit.fast.token_linear import for_few_tokens
from stvit.optimize import PackedLinear
from stvit.reduce import METHODS, Plan, Reduction, register
from stvit.reduce.plan import Kept


def vit(**choices) -> nn.Module:
    torch.manual_seed(0)
    settings = dict(img_size=48, patch_size=8, embed_dim=48, depth=6, num_heads=3, num_classes=5)
    return timm.create_model("vit_tiny_patch16_224", **{**settings, **choices})


def swin() -> nn.Module:
    return timm.create_model(
        "swin_tiny_patch4_window7_224",
        embed_dim=16,
        depths=(1, 1, 4, 1),
        num_heads=(1, 2, 4, 8),
        num_classes=5,
    )


REFUSED = {  # what sparsify is given, and words of the answer
    "tokens=True": (dict(tokens=True), "whole number, or a grid .* not True"),
    "tokens=False": (dict(tokens=False), "not False"),
    "tokens=4.0": (dict(tokens=4.0), "not 4.0"),
    "tokens=nan": (dict(tokens=float("nan")), "not nan"),
    "tokens=0": (dict(tokens=0), "at least 1, not 0"),
    "tokens=-4": (dict(tokens=-4), "at least 1, not -4"),
    "tokens of a fraction": (dict(tokens=(2.5, 3)), r"not \(2.5, 3\)"),
    "tokens of three sides": (dict(tokens=(2, 2, 2)), r"not \(2, 2, 2\)"),
    "tokens as text": (dict(tokens="16"), "not '16'"),
    "more tokens than patches": (dict(tokens=64), "do not fit a map of 6 × 6"),
    "at=[3]": (dict(at=[3]), r"one layer's number.* not \[3\]"),
    "at=[3, 4]": (dict(at=[3, 4]), r"not \[3, 4\]"),
    "at=(3,)": (dict(at=(3,)), r"not \(3,\)"),
    "at='3'": (dict(at="3"), "not '3'"),
    "at=2.5": (dict(at=2.5), "not 2.5"),
    "at=True": (dict(at=True), "not True"),
    "at=0": (dict(at=0), r"1 ≤ at \(stgm_at\) ≤ 5"),
    "at beyond the last layer": (dict(at=7), r"1 ≤ at \(stgm_at\) ≤ 5"),
    "stgm_layers=0": (dict(stgm_layers=0), "stgm_layers ≥ 1"),
    "stgm_layers=1.5": (dict(stgm_layers=1.5), "not 1.5"),
    "an unknown choice": (dict(foo=1), "stvit has no choice 'foo'; it has tokens, at, stgm_layers"),
    "an unknown pooling": (dict(pooling="median"), "unknown pooling 'median'; choose one of"),
    "an unknown initialization": (dict(initialization="none"), "unknown initialization 'none'"),
    "an unknown position": (dict(position="sine"), "unknown position 'sine'"),
    "an unknown method": (dict(method="bta"), "unknown method 'bta'; choose 'stvit' or one of bat, "),
    "a method that is a number": (dict(method=3), "unknown method 3"),
    "a class that is no method": (dict(method=nn.Linear), "unknown method <class"),
    "evit at=[]": (dict(method="evit", at=[]), r"at=\[\] must be a layer or distinct layers from 1 to 6"),
    "evit at='3'": (dict(method="evit", at="3"), "at='3' must be"),
    "evit at=2.5": (dict(method="evit", at=2.5), "at=2.5 must be"),
    "evit at=[3, 'a']": (dict(method="evit", at=[3, "a"]), "must be"),
    "evit at=[3, 3]": (dict(method="evit", at=[3, 3]), "must be"),
    "evit at=[0]": (dict(method="evit", at=[0]), "must be"),
    "evit at=[True]": (dict(method="evit", at=[True]), "must be"),
    "keep_rate='x'": (
        dict(method="evit", keep_rate="x"),
        "keep_rate must be a number above 0 and at most 1, not 'x'",
    ),
    "keep_rate=None": (dict(method="evit", keep_rate=None), "None says nothing|not None|keep_rate=None"),
    "keep_rate=True": (dict(method="evit", keep_rate=True), "not True"),
    "keep_rate=nan": (dict(method="evit", keep_rate=float("nan")), "not nan"),
    "keep_rate=0": (dict(method="evit", keep_rate=0), "not 0"),
    "keep_rate=1.1": (dict(method="evit", keep_rate=1.1), "not 1.1"),
    "an unknown choice of evit": (dict(method="evit", foo=1), "evit has no choice 'foo'; it has keep_rate"),
    "tome r=1.5": (dict(method="tome", r=1.5), "whole number of at least 0, not 1.5"),
    "tome r=-1": (dict(method="tome", r=-1), "not -1"),
    "tome r=True": (dict(method="tome", r=True), "not True"),
    "bat clusters=-3": (
        dict(method="bat", clusters=-3),
        "clusters must be a whole number of at least 1, not -3",
    ),
    "bat clusters=0": (dict(method="bat", clusters=0), "not 0"),
    "bat clusters=5.0": (dict(method="bat", clusters=5.0), "a fraction between 0 and 1, not 5.0"),
    "bat pairs=-2": (dict(method="bat", pairs=-2), "pairs must be a whole number of at least 0, not -2"),
    "bat neighbors=0": (
        dict(method="bat", neighbors=0),
        "neighbors must be a whole number of at least 1, not 0",
    ),
    "bat neighbors=-1": (dict(method="bat", neighbors=-1), "not -1"),
    "bat, an unknown merger": (dict(method="bat", merger="foo"), "unknown merger 'foo'"),
    "random seed=-1": (dict(method="random", seed=-1), "seed must be a whole number of at least 0, not -1"),
}


@pytest.mark.parametrize("attack", REFUSED)
def test_sparsify_refuses(attack):
    choices, words = REFUSED[attack]
    model = vit()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=words) as caught:
        stvit.sparsify(model, **choices)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


UNFIT = {
    "a quantised model": (
        lambda: torch.ao.quantization.quantize_dynamic(vit().eval(), {nn.Linear}, dtype=torch.qint8),
        "quantised or replaced",
    ),
    "a sparse model": (lambda: stvit.sparsify(vit(), tokens=4, at=3), "densify"),
    "a reduced model": (lambda: stvit.sparsify(vit(), method="evit"), "densify"),
    "a convolutional network": (lambda: timm.create_model("resnet18"), "not one of timm's plain ViTs"),
    "a Swin with a method that drops tokens": (swin, "only 'stvit' keeps windows"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("attack", UNFIT)
def test_models_that_do_not_fit_are_refused(attack):
    make, words = UNFIT[attack]
    with pytest.raises(ValueError, match=words):
        stvit.sparsify(make(), method="evit")


def packed() -> nn.Module:
    fast = stvit.optimize(
        for_few_tokens(nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 4))).eval(), pack=True
    )
    if not any(isinstance(layer, PackedLinear) for layer in fast):
        pytest.skip("oneDNN packs nothing on this processor")
    with torch.inference_mode():
        fast(torch.zeros(1, 8))
    return fast


PACKED = {
    "copied": copy.deepcopy,
    "optimised again": stvit.optimize,
    "pickled": pickle.dumps,
    "its state dict": lambda model: model.state_dict(),
    "to bfloat16": lambda model: model.to(torch.bfloat16),
    "to float64": lambda model: model.double(),
    "to another device": lambda model: model.to("meta"),
}


@pytest.mark.parametrize("attack", PACKED)
def test_a_packed_model_runs_and_refuses_the_rest(attack):
    model = packed()
    with pytest.raises(RuntimeError, match="a model with packed weights cannot be"):
        PACKED[attack](model)
    assert model.to("cpu").float().eval() is model  # nothing to convert
    with torch.inference_mode():
        assert model(torch.zeros(1, 8)).shape == (1, 4)


def test_saving_a_packed_model_leaves_a_good_checkpoint_alone(tmp_path):
    model = timm.create_model("micro_deit").eval()
    stvit.save_checkpoint(model, tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    fast = stvit.optimize(model, pack=True)
    if any(isinstance(layer, PackedLinear) for layer in fast.modules()):
        with pytest.raises((RuntimeError, ValueError), match="packed"):
            stvit.save_checkpoint(fast, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("wrong", [None, "micro_deit", torch.zeros(1)])
def test_only_models_are_optimised(wrong):
    with pytest.raises(TypeError, match=r"takes a model"):
        stvit.optimize(wrong)
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        stvit.optimize(vit().train())


def test_layers_in_evaluation_mode_stay_in_it():
    model = vit().train()
    model.blocks[3].eval()
    sparse = stvit.sparsify(model, tokens=4, at=3)
    assert sparse.training and sparse.blocks[0].training and sparse.initial.training
    assert not any(part.training for part in sparse.blocks[3].attn.modules())
    assert not sparse.blocks[3].training and not stvit.sparsify(model.eval(), tokens=4, at=3).initial.training


@pytest.mark.parametrize("method", ["stvit", *METHODS])
def test_a_batch_of_none(method):
    model = stvit.sparsify(
        vit(dynamic_img_size=True), method=method, **(dict(tokens=4) if method == "stvit" else {})
    )
    with pytest.raises(ValueError, match=r"the batch holds no images: its shape is \(0, 3, 48, 48\)"):
        model(torch.zeros(0, 3, 48, 48))


@pytest.mark.parametrize("method", [None, "evit", "tome"])
def test_dinos_usual_call(method):
    model = vit().eval()
    sparse = stvit.sparsify(model, tokens=4, at=3) if method is None else stvit.sparsify(model, method=method)
    x = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        last, classes = sparse.get_intermediate_layers(x, n=1, return_prefix_tokens=True)[0]
        assert last.shape[0] == classes.shape[0] == 2
        if method != "tome":  # which reduces in the first layer already
            first = sparse.get_intermediate_layers(x, n=[0])[0]
            assert torch.equal(first, model.get_intermediate_layers(x, n=[0])[0])
        with pytest.raises(ValueError, match="attention masks are not supported"):
            sparse.get_intermediate_layers(x, attn_mask=torch.zeros(37, 37))


class FirstTokens(Reduction):
    """Keeps the first half of the tokens."""

    def __init__(self, dim: int, keep_rate: float = 0.5):
        super().__init__()
        self.keep_rate = keep_rate

    def plan(self, x, seen) -> Plan:
        kept = max(1, int(self.keep_rate * x.shape[1]))
        return Plan() if kept == x.shape[1] else Plan((Kept(torch.arange(kept).expand(len(x), -1)),))


@pytest.fixture
def clean_methods():
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


def test_a_class_is_a_method(clean_methods, tmp_path):
    model = vit().eval()
    sparse = stvit.sparsify(model, method=FirstTokens, keep_rate=0.5).eval()
    x = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        assert sparse.method == "first_tokens" and METHODS["first_tokens"] is FirstTokens
        again = stvit.load_checkpoint(stvit.save_checkpoint(sparse, tmp_path)).eval()
        assert torch.equal(again(x), sparse(x)) and torch.equal(stvit.densify(sparse)(x), model(x))
    with pytest.raises(ValueError, match="'bat' is BAT already"):
        register(FirstTokens, "bat")
    assert register(FirstTokens) is FirstTokens and register(FirstTokens, "mine") is METHODS["mine"]


def test_each_thread_records_its_own_forward():
    model = build("default")
    inputs = [images(model) + i for i in range(4)]
    with torch.no_grad():
        expected = []
        for x in inputs:
            with stvit.record(model) as maps:
                model(x)
            expected.append(maps)
    found, errors = [None] * 4, []

    def work(i: int) -> None:
        try:
            for _ in range(5):
                with torch.no_grad(), stvit.record(model) as maps:
                    model(inputs[i])
                found[i] = maps
        except Exception as error:  # a thread's error would be lost
            errors.append(error)

    threads = [threading.Thread(target=partial(work, i)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for maps, own in zip(found, expected, strict=True):
        assert maps.keys() == own.keys() and all(torch.allclose(maps[k], own[k], atol=1e-5) for k in own)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_forward_mode_derivatives_need_unfused_attention():
    """torch's fused kernel has no forward-mode derivative, in dense models either; timm's switch is the remedy."""
    model = build("default").double()
    x, v = images(model).double(), torch.randn(images(model).shape).double()
    with pytest.raises(NotImplementedError):
        torch.func.jvp(model, (x,), (v,))
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    _, slope = torch.func.jvp(model, (x,), (v,))
    with torch.no_grad():
        step = 1e-6
        numeric = (model(x + step * v) - model(x - step * v)) / (2 * step)
    torch.testing.assert_close(slope, numeric, atol=1e-6, rtol=1e-4)
