"""What converters take their weights from: a model, a state dict, a file, or the name of a timm model."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from timm.models import create_model, is_model
from torch import Tensor, nn

from stvit.checkpoints import CheckpointError, read_state_dict

Source: TypeAlias = nn.Module | dict[str, Tensor] | str | Path


def weights_of(source: Source) -> dict[str, Tensor]:
    """The state dict that ``source`` means. Files are read as tensors alone, so that nothing in them can run."""
    if isinstance(source, nn.Module):
        return source.state_dict()
    if isinstance(source, str) and is_model(source):
        return create_model(source, pretrained=True).state_dict()
    if isinstance(source, (str, Path)):
        return read_state_dict(source)
    if isinstance(source, dict):
        return source
    raise CheckpointError(
        f"weights come from a model, a state dict, a checkpoint's path or a timm model's name, not {source!r}"
    )
