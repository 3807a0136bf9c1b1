"""Attacks on checkpoints: each is answered by one clear CheckpointError, no code runs, nothing is lost or changed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections import OrderedDict
from pathlib import Path

import pytest
import timm
import torch
from attacked import SHAPE, build, refused, same
from safetensors.torch import load_file, save_file
from torch import nn

import stvit
from stvit.checkpoints import fill

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A sound checkpoint; attacks work on copies of it."""
    return stvit.save_checkpoint(build(), tmp_path_factory.mktemp("good") / "model")


@pytest.fixture
def folder(good, tmp_path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "model"))


# ---- config.json --------------------------------------------------------------------------------------------

ARGUMENTS = {  # name, value, words of the answer
    "pretrained": (True, "'pretrained' is not an argument of an architecture"),
    "checkpoint_path": ("/etc/passwd", "'checkpoint_path' is not an argument"),
    "pretrained_cfg": ({"url": "http://127.0.0.1/x"}, "'pretrained_cfg' is not an argument"),
    "pretrained_cfg_overlay": ({"file": "x.pth"}, "is not an argument"),
    "cache_dir": ("/tmp/x", "is not an argument"),
    "features_only": (True, "is not an argument"),
    "foo": (1, "'foo' is not an argument"),
    "depth": (10**9, "depth = 1000000000 is not between"),
    "embed_dim": (10**6, "embed_dim = 1000000 is not between"),
    "num_classes": (10**12, "num_classes = 1000000000000 is not between"),
    "img_size": ([10**6, 10**6], "img_size .* is not between"),
    "num_semantic_tokens": (10**6, "num_semantic_tokens = 1000000 is not between"),
    "patch_size": (0, "patch_size = 0 is not between"),
    "num_heads": ("2", "num_heads = '2' is not a whole number"),
    "mlp_ratio": ("wide", "is not a finite number"),
    "in_chans": (True, "is not a whole number"),
    "drop_rate": ({}, "is not a finite number"),
    "base": ("hf-hub:someone/something", "base .* is not an architecture"),
    "pooling": ("../../etc", "pooling .* is not a short word"),
    "window_size": ([[[[[1]]]]], "nested too deeply"),
    "stgm_at": (list(range(300)), "more than 256 entries"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_a_configuration(name, folder):
    value, words = ARGUMENTS[name]
    change(folder, model_args={**SHAPE, "num_classes": 12, name: value})
    refused(lambda: stvit.load_checkpoint(folder), words)


CONFIGURATIONS = {
    "architecture from the hub": (dict(architecture="hf-hub:a/b"), "names the architecture 'hf-hub:a/b'"),
    "architecture of a folder": (dict(architecture="local-dir:/x"), "names the architecture"),
    "architecture a list": (dict(architecture=["micro_stvit"]), "names the architecture"),
    "architecture a number": (dict(architecture=3), "names the architecture 3"),
    "architecture unknown": (dict(architecture="stvit_of_tomorrow"), "which neither stvit nor this timm knows"),
    "sparsified of itself": (
        dict(architecture="stvit_sparsified", model_args={"base": "stvit_sparsified"}),
        "is itself made from another model",
    ),
    "a giant": (dict(architecture="vit_giant_patch14_dinov2", model_args={}), "shapes differ|missing"),
    "classes at odds": (dict(num_classes=13), "num_classes is 13 at the top, 12 in model_args"),
    "classes a word": (dict(num_classes="x"), "num_classes = 'x' is not a whole number"),
    "classes negative": (dict(num_classes=-5), "num_classes = -5 is not between"),
    "arguments a list": (dict(model_args=[1]), "arguments are list, not a table"),
    "arguments that do not go together": (
        dict(model_args={**SHAPE, "embed_dim": 15}), "cannot be built as it says: "
    ),
    "names of other classes": (dict(label_names=["a"]), "label_names are not 12 names"),
    "names no text": (dict(label_names=[1] * 12), "label_names are not 12 names"),
    "images of no size": (dict(pretrained_cfg={"input_size": [0, -1, 3]}), "input_size .* is not between"),
    "images of one axis": (dict(pretrained_cfg={"input_size": [3]}), r"not \(channels, height, width\)"),
    "settings a list": (dict(pretrained_cfg=[1]), "pretrained_cfg is list"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configurations(name, folder):
    changes, words = CONFIGURATIONS[name]
    change(folder, **changes)
    refused(lambda: stvit.load_checkpoint(folder), words)


TEXTS = {
    "null": "null", "list": "[]", "number": "3", "empty": "", "half": '{"architecture": "micro', "no name": "{}",
    "deep": "[" * 100_000, "huge number": '{"architecture": ' + "9" * 5000 + "}", "not utf-8": "\xff",
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_files_that_are_no_configuration(name, folder):
    (folder / "config.json").write_text(TEXTS[name], encoding="latin-1")
    refused(lambda: stvit.load_checkpoint(folder), "is not a model configuration")


def test_addresses_beside_the_arguments_are_not_followed(folder):
    change(folder, pretrained_cfg={"url": "http://127.0.0.1/x", "hf_hub_id": "a/b", "file": "/etc/passwd"})
    model = stvit.load_checkpoint(folder)
    assert not {"/etc/passwd", "a/b"} & set(map(str, model.pretrained_cfg.values()))


def test_what_is_refused_costs_nothing(folder, monkeypatch):
    """A model that does not fit the weights is never allocated: it is laid out on the meta device alone."""
    change(folder, model_args={**SHAPE, "num_classes": 12, "embed_dim": 4096})
    devices = []
    parameter = nn.Parameter.__new__

    def watch(cls, data=None, *args, **kwargs):
        devices.append(data.device.type)
        return parameter(cls, data, *args, **kwargs)

    monkeypatch.setattr(nn.Parameter, "__new__", watch)
    refused(lambda: stvit.load_checkpoint(folder), "shapes differ")
    assert set(devices) == {"meta"}


def change(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# ---- tensors ------------------------------------------------------------------------------------------------

KEY = "blocks.0.attn.proj.weight"
TENSORS = {  # what stands in place of a weight (16, 16), and words of the answer
    "int8": (lambda w: w.to(torch.int8), "kinds of numbers differ: .* is int8"),
    "bool": (lambda w: w > 0, "kinds of numbers differ: .* is bool"),
    "complex": (lambda w: w.to(torch.complex64), "kinds of numbers differ: .* is complex64"),
    "complex NaN": (lambda w: w * complex("nan"), "kinds of numbers differ"),
    "sparse": (lambda w: w.to_sparse(), "is a sparse or nested tensor"),
    "compressed": (lambda w: w.to_sparse_csr(), "is a sparse or nested tensor"),
    "quantised": (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), "is quantised"),
    "meta": (lambda w: w.to("meta"), "is on the meta device"),
    "expanded": (lambda w: torch.zeros(1, 1).expand(16, 16), "claims the shape"),
    "expanded to terabytes": (lambda w: torch.zeros(1, 1).expand(10**6, 10**6), "claims the shape"),
    "NaN": (lambda w: w * float("nan"), "NaN or infinite values"),
    "infinite as float32": (lambda w: w.double() + 1e300, "NaN or infinite values"),
    "transposed shape": (lambda w: w[:8], "shapes differ"),
    "scalar": (lambda w: w[0, 0], "shapes differ"),
    "empty": (lambda w: w[:0], "shapes differ"),
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("how", ["file", "dict"])
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_no_weights(name, how, tmp_path):
    spoil, words = TENSORS[name]
    model = build()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    tensors = {**model.state_dict(), KEY: spoil(before[KEY])}
    tensors = {key: value + 1 if key == "norm.bias" else value for key, value in tensors.items()}
    if how == "dict":
        refused(lambda: fill(model, tensors), words)
    else:
        torch.save(tensors, tmp_path / "w.pth")
        refused(lambda: stvit.load_checkpoint(tmp_path / "w.pth", model), words)
    assert same(model, before)


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float64", "float8_e4m3fn"])
def test_floating_point_of_any_width_is_cast(name):
    model = build()
    tensors = {
        key: value.to(getattr(torch, name)) if value.ndim == 2 else value
        for key, value in build().state_dict().items()
    }
    fill(model, tensors)
    assert model.state_dict()[KEY].dtype is torch.float32


def test_a_load_that_fails_halfway_leaves_the_model(monkeypatch):
    """Whatever a module's own loading raises, all tensors get their values back."""
    model = build()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    monkeypatch.setattr(model.norm, "_load_from_state_dict", lambda *a, **k: 1 / 0)
    refused(lambda: fill(model, {key: value + 1 for key, value in before.items()}), "division by zero")
    assert same(model, before)


NOT_STATES = {"None": None, "list": [1], "numbers": {"a": 1}, "empty": {}, "text": "x"}


@pytest.mark.parametrize("name", NOT_STATES)
def test_what_is_no_state_dict(name):
    model = build()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    refused(lambda: fill(model, NOT_STATES[name]))
    assert same(model, before)


def test_a_model_without_memory_is_not_filled():
    with torch.device("meta"):
        model = timm.create_model("micro_stvit", **SHAPE)
    refused(lambda: fill(model, build().state_dict()), "meta device")


# ---- files --------------------------------------------------------------------------------------------------


class Evil:
    """Makes a folder if it is ever unpickled."""

    def __init__(self, mark: Path):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


PAYLOADS = {
    "alone": lambda evil, sd: evil,
    "in a dict": lambda evil, sd: {"model": sd, "extra": evil},
    "in arguments": lambda evil, sd: {"state_dict": sd, "args": {"x": [evil]}},
    "as a key's value": lambda evil, sd: {**sd, "evil": evil},
}
LOADERS = {
    "load_checkpoint": lambda path: stvit.load_checkpoint(path, build()),
    "load_released": stvit.load_released,
    "load_swin": lambda path: stvit.load_swin(timm.create_model("micro_stvit_swin"), path),
    "load_video_swin": lambda path: stvit.load_video_swin(timm.create_model("micro_video_swin"), path),
}


@pytest.mark.parametrize("as_path", [str, Path])
@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.filterwarnings("ignore")
def test_payloads_do_not_run(payload, loader, as_path, tmp_path):
    content = PAYLOADS[payload](Evil(tmp_path / "ran"), OrderedDict(build().state_dict()))
    for name, write in {
        "new.pth": torch.save,
        "old.pth": lambda x, f: torch.save(x, f, _use_new_zipfile_serialization=False),
        "plain.bin": lambda x, f: Path(f).write_bytes(pickle.dumps(x)),
    }.items():
        write(content, tmp_path / name)
        refused(lambda name=name: LOADERS[loader](as_path(tmp_path / name)), "Python objects|damaged")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", ["text", "empty", "missing", "folder"])
def test_files_that_are_none(loader, kind, tmp_path):
    path = tmp_path / "w.pth"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_text("no checkpoint" if kind == "text" else "")
    refused(lambda: LOADERS[loader](path))


@pytest.mark.parametrize("loader", ["load_checkpoint", "load_released"])
@pytest.mark.parametrize("style", ["new", "old", "safetensors"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_files(loader, style, tmp_path):
    """Random bytes in the head of a file: refused in one line, or loaded whole."""
    path = tmp_path / ("w.safetensors" if style == "safetensors" else "w.pth")
    model = build()
    if style == "safetensors":
        save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=style == "new")
    sound, chance = path.read_bytes(), torch.Generator().manual_seed(0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    load = (
        (lambda: stvit.load_checkpoint(path, model))
        if loader == "load_checkpoint"
        else (lambda: stvit.load_released(path))
    )
    for _ in range(40):
        spoiled = bytearray(sound)
        for place in torch.randint(min(len(sound), 8192), (4,), generator=chance).tolist():
            spoiled[place] = int(torch.randint(256, (1,), generator=chance))
        path.write_bytes(bytes(spoiled))
        try:
            load()
        except stvit.CheckpointError as error:
            assert "\n" not in str(error)
            assert same(model, before)
        fill(model, before)


def test_an_old_folder_loads_without_a_model(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert same(stvit.load_checkpoint(folder), build().state_dict())


def test_none_and_other_sources_of_weights():
    refused(lambda: stvit.load_swin(timm.create_model("micro_stvit_swin"), None), "weights come from")
    refused(
        lambda: stvit.load_swin(timm.create_model("micro_stvit_swin"), "no_such_model"), "no checkpoint at"
    )


def test_swin_weights_with_nan_change_nothing():
    model, given = timm.create_model("micro_stvit_swin"), timm.create_model("micro_swin").state_dict()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    refused(
        lambda: stvit.load_swin(model, {key: value * float("nan") for key, value in given.items()}),
        "NaN|kinds",
    )
    assert same(model, before)
