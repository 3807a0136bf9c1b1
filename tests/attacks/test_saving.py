"""Attacks on saving: what cannot be written, or is left by a process that died; what was there before is kept."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from attacked import build, refused, same

import stvit
from stvit.checkpoints import recast_checkpoint
from stvit.checkpoints.saving import to_json

pytestmark = pytest.mark.usefixtures("no_network")
KEY = "blocks.0.attn.proj.weight"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A sound checkpoint."""
    return stvit.save_checkpoint(build(), tmp_path / "model")


def test_a_record_with_nan_is_valid_json(tmp_path):
    record = {"loss": float("nan"), "best": [float("inf"), 1.5], "n": torch.tensor(3), "path": tmp_path, 1: 2}
    stvit.save_checkpoint(build(), tmp_path, record=record)
    found = json.loads((tmp_path / "record.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert found == {"loss": None, "best": [None, 1.5], "n": 3, "path": str(tmp_path), "1": 2}
    assert to_json({"a": (1, 2)}, indent=None) == '{"a": [1, 2]}'


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_follow_the_umask(mask, tmp_path):
    before = os.umask(mask)
    try:
        stvit.save_checkpoint(build(), tmp_path / "model", record={})
    finally:
        os.umask(before)
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "model").iterdir()}
    assert set(modes.values()) == {0o666 & ~mask} and len(modes) == 3


def test_leftovers_of_killed_saves_go_and_those_of_living_ones_stay(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = socket.gethostname()
    dead = tmp_path / f".saving-{host}-{gone.pid}-abc"
    living = tmp_path / f".saving-{host}-{os.getppid()}-abc"
    old, elsewhere = tmp_path / ".saving-xyz", tmp_path / ".saving-other-host-12-abc"
    for leftover in (dead, living, old, elsewhere):
        leftover.mkdir()
        (leftover / "model.safetensors").write_text("half")
    stvit.save_checkpoint(build(), tmp_path)
    assert sorted(file.name for file in tmp_path.glob(".saving-*")) == sorted([living.name, elsewhere.name])


@pytest.mark.parametrize(
    "fault", [OSError(28, "No space left on device"), PermissionError(13, "Permission denied")]
)
def test_a_folder_that_cannot_be_written(fault, folder, monkeypatch):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(fault))
    refused(
        lambda: stvit.save_checkpoint(build(), folder),
        f"cannot save to .*{fault.strerror}; what was there is kept",
    )
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_saving_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    refused(lambda: stvit.save_checkpoint(build(), tmp_path / "file" / "model"), "cannot save to")


def test_packed_models_are_not_saved_over_good_ones(folder):
    before = (folder / "model.safetensors").read_bytes()
    packed = stvit.optimize(build().eval(), pack=True)
    if not any(type(module).__name__ == "PackedLinear" for module in packed.modules()):
        pytest.skip("nothing is packed on this processor")
    refused(lambda: stvit.save_checkpoint(packed, folder), "packed weights")
    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_half_the_size_and_loads_as_float32(dtype, folder):
    whole = (folder / "model.safetensors").stat().st_size
    stvit.save_checkpoint(build(), folder / "half", dtype=dtype)
    recast_checkpoint(folder, dtype)
    for path in (folder, folder / "half"):
        assert (path / "model.safetensors").stat().st_size < 0.75 * whole  # its header is a large part here
        loaded = stvit.load_checkpoint(path).state_dict()
        expected = {
            k: v.to(dtype).to(v.dtype) if v.is_floating_point() else v
            for k, v in build().state_dict().items()
        }
        assert all(loaded[name].equal(value) for name, value in expected.items() if "running_" not in name)
        assert timm.create_model(f"local-dir:{path}", pretrained=True).state_dict()[KEY].equal(expected[KEY])


def test_values_that_a_type_cannot_hold(folder):
    model = build()
    model.norm.bias.data.fill_(1e6)
    refused(
        lambda: stvit.save_checkpoint(model, folder, dtype=torch.float16),
        "cannot hold the values of norm.bias",
    )
    refused(lambda: stvit.save_checkpoint(model, folder, dtype=torch.int16), "floating-point type")
    assert same(stvit.load_checkpoint(folder), build().state_dict())


def test_class_names_and_image_size_come_back(tmp_path):
    model, names = build(), [f"class {i}" for i in range(12)]
    model.pretrained_cfg = {**model.pretrained_cfg, "mean": (0.1, 0.2, 0.3)}
    stvit.save_checkpoint(model, tmp_path, class_names=names)
    loaded = stvit.load_checkpoint(tmp_path)
    assert loaded.pretrained_cfg["label_names"] == tuple(names)
    assert loaded.pretrained_cfg["input_size"] == (3, 24, 24) and loaded.pretrained_cfg["mean"] == (
        0.1,
        0.2,
        0.3,
    )
    stvit.save_checkpoint(loaded, tmp_path / "again")
    assert stvit.load_checkpoint(tmp_path / "again").pretrained_cfg["label_names"] == tuple(names)
    refused(
        lambda: stvit.save_checkpoint(model, tmp_path, class_names=["a"]), "1 class names for a model of 12"
    )
