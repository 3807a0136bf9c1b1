"""Models as what differs from their teacher: exact where that is of low rank, refused where it does not fit."""

import pytest
import timm
import torch

import stvit
from stvit.checkpoints import CheckpointError
from stvit.checkpoints.difference import add_difference, read_about, save_difference

VIT = dict(img_size=32, patch_size=8, embed_dim=32, depth=4, num_heads=2, num_classes=0)


@pytest.fixture
def pair():
    torch.manual_seed(0)
    teacher = timm.create_model("vit_tiny_patch16_224", **VIT).eval()
    student = stvit.sparsify(teacher, tokens=4, at=2)
    with torch.no_grad():
        student.blocks[2].mlp.fc1.weight += torch.randn(128, 2) @ torch.randn(2, 32) / 10
        student.blocks[3].norm1.bias += 0.5
    return teacher, student


def test_what_was_learned_comes_back(pair, tmp_path):
    teacher, student = pair
    path = save_difference(student, teacher, tmp_path / "a.safetensors", rank=2, about={"base": "x"})
    assert read_about(path) == {"base": "x"} and path.stat().st_size < 60_000
    torch.manual_seed(9)
    again = add_difference(stvit.sparsify(teacher, tokens=4, at=2), path)
    for (name, one), two in zip(student.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=2e-3, rtol=2e-3, msg=name)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(again(images), student(images), atol=1e-2, rtol=1e-2)


def test_a_smaller_rank_is_nearer_than_nothing(pair, tmp_path):
    teacher, student = pair
    path = save_difference(student, teacher, tmp_path / "a.safetensors", rank=1, about={})
    again = add_difference(stvit.sparsify(teacher, tokens=4, at=2), path)
    wanted, base = student.blocks[2].mlp.fc1.weight, teacher.blocks[2].mlp.fc1.weight
    assert 0 < (again.blocks[2].mlp.fc1.weight - wanted).norm() < 0.9 * (base - wanted).norm()


def test_files_that_do_not_fit(pair, tmp_path):
    teacher, student = pair
    path = save_difference(student, teacher, tmp_path / "a.safetensors", rank=2, about={})
    with pytest.raises(CheckpointError, match="which VisionTransformer has not"):
        add_difference(teacher, path)
    (tmp_path / "b.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="is no file that save_difference wrote"):
        read_about(tmp_path / "b.safetensors")
