"""Weights into a model: all that do, or none. Every loader and converter of the package ends here."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from fnmatch import fnmatch

import torch
from torch import Tensor, nn

from stvit.checkpoints.errors import CheckpointError, first_line, some
from stvit.checkpoints.reading import unusable
from stvit.record import unwrap


def fill(
    model: nn.Module,
    tensors: dict[str, Tensor],
    strict: bool = True,
    source: str = "state dict",
    fresh: Sequence[str] = (),
) -> list[str]:
    """Copy ``tensors`` into ``model``; returns the names of its tensors that stay as they were.

    Where anything does not fit, CheckpointError says what, and the model is unchanged to the bit.

    strict: every tensor of the model must be there and nothing else; otherwise differences are a warning
    source: what the weights are called in messages
    fresh: patterns of names that may be missing without a warning (``"*"``: any)
    """
    target = unwrap(model)
    own = target.state_dict()
    if any(value.is_meta for value in own.values()):
        raise CheckpointError(
            "the model is on the meta device and has no memory for weights: model.to_empty() first"
        )
    tensors = adapt(target, tensors, source)
    missing, differences = compare(target, own, tensors, strict, source, fresh)
    check_values(own, tensors, source)
    if differences:
        warnings.warn(f"{source}: {differences}", stacklevel=3)
    before = {name: own[name].clone() for name in own.keys() & tensors.keys()}
    try:
        target.load_state_dict(tensors, strict=False)
    except Exception as error:
        with torch.no_grad():
            for name, value in before.items():
                own[name].copy_(value)
        raise CheckpointError(f"{source}: {first_line(error)}; the model is unchanged") from error
    return missing


def adapt(model: nn.Module, tensors: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """``tensors`` in the names and layout of ``model``, where the model knows how."""
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise CheckpointError(f"{source}: {type(tensors).__name__} is not a state dict of tensors by name")
    for name, tensor in tensors.items():
        reason = unusable(tensor)
        if reason:
            raise CheckpointError(f"{source}: {name} {reason}; the model is unchanged")
    if not hasattr(model, "adapt_state_dict"):
        return tensors
    try:
        return model.adapt_state_dict(tensors)
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: {first_line(error)}; the model is unchanged") from error


def compare(
    model: nn.Module,
    own: dict[str, Tensor],
    tensors: dict[str, Tensor],
    strict: bool,
    source: str,
    fresh: Sequence[str] = (),
) -> tuple[list[str], str]:
    """Names that are missing, and the differences in words. Looks at names, shapes and kinds alone."""
    missing = sorted(own.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - own.keys())
    if len(unexpected) == len(tensors):
        raise CheckpointError(
            f"{source} holds another model: none of its {len(tensors)} keys ({some(unexpected)}) belongs to "
            f"{type(model).__name__}; the model is unchanged"
        )
    both = sorted(own.keys() & tensors.keys())
    misfits = [
        f"{name} is {tuple(tensors[name].shape)}, the model's {tuple(own[name].shape)}"
        for name in both
        if tensors[name].shape != own[name].shape
    ]
    if misfits:
        raise CheckpointError(f"{source}: shapes differ: {some(misfits, '; ')}; the model is unchanged")
    strangers = [
        f"{name} is {tensors[name].dtype}, the model's {own[name].dtype}"
        for name in both
        if kind(tensors[name].dtype) != kind(own[name].dtype)
    ]
    if strangers:
        what = str(some(strangers, "; ")).replace("torch.", "")
        raise CheckpointError(f"{source}: kinds of numbers differ: {what}; the model is unchanged")
    told = [name for name in missing if not any(fnmatch(name, pattern) for pattern in fresh)]
    differences = ", ".join(
        f"{what} {some(names)}" for what, names in (("missing", told), ("unexpected", unexpected)) if names
    )
    if differences and strict:
        raise CheckpointError(
            f"{source}: {differences}; the model is unchanged (strict=False would accept this)"
        )
    return missing, differences


def kind(dtype: torch.dtype) -> str:
    """Numbers of one kind can be cast into each other without a change of meaning."""
    if dtype is torch.bool:
        return "truth values"
    if dtype.is_complex:
        return "complex"
    return "real" if dtype.is_floating_point else "whole"


def check_values(own: dict[str, Tensor], tensors: dict[str, Tensor], source: str) -> None:
    """CheckpointError for NaN and infinite values, also for those that casting to the model's type makes."""
    damaged = []
    for name, tensor in tensors.items():
        value = tensor.to(own[name].dtype) if name in own else tensor
        if value.dtype.itemsize == 1:
            value = value.float() if value.is_floating_point() else value  # float8 has no isfinite
        if not value.isfinite().all():
            damaged.append(name)
    if damaged:
        raise CheckpointError(f"{source}: NaN or infinite values in {some(damaged)}; the model is unchanged")
