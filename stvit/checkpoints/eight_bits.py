"""Weights in 8 bits: each row of a matrix as whole numbers from −127 to 127 and one scale.

A quarter of float32's bytes, for models that ship with a repository. A matrix ``name`` is stored as int8 beside
``name.row_scale`` in float32; what is no matrix is stored in half precision. ``read_state_dict`` gives float32 back.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stvit.checkpoints.errors import CheckpointError

SCALE = ".row_scale"
FEWEST_ROWS = 8  # position embeddings and single rows keep half precision
LARGEST = 127


def pack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels in 8 bits a weight, other floating-point tensors in half precision."""
    packed = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or "running_" in name:  # of a range wider than that of weights
            packed[name] = tensor
        elif tensor.dim() < 2 or tensor.shape[0] < FEWEST_ROWS:
            packed[name] = tensor.half()
        else:
            rows = tensor.float().flatten(1)  # (out, in · kernel)
            scale = rows.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / LARGEST
            packed[name] = (rows / scale).round().to(torch.int8).reshape(tensor.shape)
            packed[name + SCALE] = scale.flatten()
    return packed


def unpack(tensors: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Rows of whole numbers times their scales; all other tensors as they are."""
    scales = {name: tensor for name, tensor in tensors.items() if name.endswith(SCALE)}
    unpacked = {name: tensor for name, tensor in tensors.items() if name not in scales}
    for name, scale in scales.items():
        name = name.removesuffix(SCALE)
        rows = unpacked.get(name)
        if rows is None or rows.dtype is not torch.int8 or not scale.is_floating_point():
            raise CheckpointError(f"{source}: {name}{SCALE} belongs to no weights of 8 bits")
        if scale.shape != rows.shape[:1]:
            raise CheckpointError(
                f"{source}: {name} has {tuple(rows.shape[:1])} rows and {tuple(scale.shape)} scales; the file is "
                "damaged"
            )
        unpacked[name] = rows.float() * scale.float().reshape(-1, *[1] * (rows.dim() - 1))
    return unpacked
