"""Checkpoints with 8 bits a weight: what is lost, what is not, and files that are damaged."""

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import stvit
from stvit.checkpoints import CheckpointError, recast_checkpoint
from stvit.checkpoints.eight_bits import SCALE, pack, unpack


@settings(max_examples=25, deadline=None)
@given(st.integers(8, 20), st.integers(1, 30), st.floats(1e-6, 1e6), st.integers(0, 99))
def test_a_weight_moves_by_half_a_step_of_its_row(rows, columns, size, seed):
    weights = size * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    found = unpack(pack({"w": weights}), "a file")["w"]
    step = weights.abs().amax(dim=1, keepdim=True) / 127
    assert ((found - weights).abs() <= 0.5001 * step).all()
    largest = weights.abs().argmax(dim=1, keepdim=True)
    torch.testing.assert_close(found.gather(1, largest), weights.gather(1, largest))


def test_what_is_no_matrix_keeps_half_precision():
    tensors = {
        "bias": torch.randn(64), "pos_embed": torch.randn(1, 9, 64), "running_var": torch.full((64,), 1e9),
        "count": torch.tensor(3), "zeros": torch.zeros(8, 4), "kernel": torch.randn(16, 3, 4, 4),
    }  # fmt: skip
    found = unpack(pack(tensors), "a file")
    assert found.keys() == tensors.keys()
    for name in ("bias", "pos_embed"):
        assert found[name].equal(tensors[name].half())
    for name in ("running_var", "count", "zeros"):
        assert found[name].equal(tensors[name])
    assert found["kernel"].shape == (16, 3, 4, 4) and found["kernel"].dtype is torch.float32


def test_a_saved_model_is_a_quarter_of_the_size_and_nearly_the_same(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("micro_stvit").eval()
    stvit.save_checkpoint(model, tmp_path / "whole")
    stvit.save_checkpoint(model, tmp_path / "packed", dtype=torch.int8)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "packed")]
    assert sizes[1] < 0.35 * sizes[0]
    images = torch.randn(4, 3, 48, 48)
    expected, found = model(images), stvit.load_checkpoint(tmp_path / "packed").eval()(images)
    assert (found - expected).norm() < 0.03 * expected.norm()
    recast_checkpoint(tmp_path / "packed", torch.float32)  # for timm, which reads no rows and scales
    assert timm.create_model(f"local-dir:{tmp_path / 'packed'}", pretrained=True).eval()(images).equal(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update({"norm.bias" + SCALE: torch.ones(64)}), "belongs to no weights of 8 bits"),
        (lambda t: t.update({"nowhere" + SCALE: torch.ones(64)}), "belongs to no weights of 8 bits"),
        (lambda t: t.update({"head.weight" + SCALE: torch.ones(5)}), r"rows and \(5,\) scales; the file is damaged"),
        (lambda t: t.update({"head.weight" + SCALE: torch.full((12,), torch.nan)}), "NaN or infinite values in head"),
        (lambda t: t.pop("head.weight" + SCALE), "kinds of numbers differ: head.weight is int8"),
    ],
    ids=["a scale of a bias", "a scale of nothing", "too few scales", "a scale that is no number", "no scale"],
)  # fmt: skip
def test_damaged_files_are_refused_and_the_model_is_unchanged(change, message, tmp_path):
    model = timm.create_model("micro_stvit")
    stvit.save_checkpoint(model, tmp_path, dtype=torch.int8)
    tensors = load_file(tmp_path / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        stvit.load_checkpoint(tmp_path, model)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
