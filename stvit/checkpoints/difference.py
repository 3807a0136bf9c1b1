"""A model as what differs from another one: small files that stand beside public weights.

    save_difference(student, teacher, "stvit_16.safetensors", rank=16, about={"base": "dinov2_small", …})
    about = read_about("stvit_16.safetensors")
    add_difference(fresh, "stvit_16.safetensors")    # onto a student that was just made of the teacher

A matrix that both have is kept as two of low rank, which is exact where an adapter of that rank made the difference;
what only the student has, and vectors, are kept whole. All in half precision.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from stvit.checkpoints.errors import CheckpointError, first_line

DOWN, UP, WHOLE = "down.", "up.", "whole."
ABOUT = "about"


def save_difference(student: nn.Module, teacher: nn.Module, path: str | Path, rank: int, about: dict) -> Path:
    """Write what ``student`` has and ``teacher`` has not; ``about`` is JSON that says what it is."""
    known, path = teacher.state_dict(), Path(path)
    tensors: dict[str, Tensor] = {}
    for name, value in student.state_dict().items():
        base = known.get(name)
        if base is None or base.shape != value.shape or value.ndim < 2:
            if base is None or base.shape != value.shape or not torch.equal(value, base):
                tensors[WHOLE + name] = value.half().contiguous()
        elif not torch.equal(value, base):
            tensors[UP + name], tensors[DOWN + name] = factors(value - base, rank)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={ABOUT: json.dumps(about, sort_keys=True)})
    return path


def factors(gap: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(out, in) → (out, rank) and (rank, in), whose product is the nearest matrix of that rank."""
    left, sizes, right = torch.linalg.svd(gap.float().flatten(1), full_matrices=False)
    root = sizes[:rank].sqrt()
    return (left[:, :rank] * root).half().contiguous(), (root[:, None] * right[:rank]).half().contiguous()


def read_about(path: str | Path) -> dict:
    """What ``save_difference`` was told."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {})[ABOUT])
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is no file that save_difference wrote ({first_line(error)})") from None


@torch.no_grad()
def add_difference(model: nn.Module, path: str | Path) -> nn.Module:
    """Add what ``path`` holds to ``model`` in place; a name that it does not have is an error, and nothing changes."""
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (no mapping)
    wanted = {name.partition(".")[2] for name in tensors}
    if not wanted <= own.keys():
        raise CheckpointError(
            f"{path} changes {min(wanted - own.keys())}, which {type(model).__name__} has not"
        )
    for name in wanted:
        if WHOLE + name in tensors:
            own[name].copy_(tensors[WHOLE + name])
        else:
            own[name].add_((tensors[UP + name] @ tensors[DOWN + name]).reshape(own[name].shape))
    return model
