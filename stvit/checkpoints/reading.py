"""Tensors out of a checkpoint file, without running code that may be in it and without wrappers' prefixes."""

from __future__ import annotations

import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stvit.checkpoints.eight_bits import unpack
from stvit.checkpoints.errors import CheckpointError, first_line, some

WEIGHTS, OLD_WEIGHTS = "model.safetensors", "pytorch_model.bin"
NESTINGS = ("state_dict", "model", "model_state_dict", "module")
EMA_NESTINGS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel and torch.compile
FOREIGN = re.compile(r"[Uu]nsupported (?:global|class)", re.IGNORECASE)
CLASS = re.compile(r"GLOBAL (\S+)")


def find_weights(path: str | Path) -> Path:
    """The file of weights that ``path`` means: itself, or the one in a folder."""
    path = Path(path)
    if not path.is_dir():
        return path
    for name in (WEIGHTS, OLD_WEIGHTS):
        if (path / name).exists():
            return path / name
    if (path / "model" / WEIGHTS).exists():
        hint = f"; a run of stvit.train keeps its model in {path / 'model'}"
    else:
        hint = f"; it holds {some(sorted(os.listdir(path))) or 'nothing'}"
    raise CheckpointError(f"no {WEIGHTS} in the folder {path}{hint}")


def read_state_dict(
    path: str | Path, ema: bool = False, inert: Sequence[str] = (), nestings: Sequence[str] = NESTINGS
) -> dict[str, Tensor]:
    """The tensors of a checkpoint file (or of the one in a folder) on the CPU.

    ema: take the averaged weights where a training checkpoint has both
    inert: classes in the file that become plain dictionaries; they are not imported
    nestings: entries of the file that may hold the state dict
    """
    path = find_weights(path)
    if not path.exists():
        raise CheckpointError(f"no checkpoint at {path}")
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            with torch.serialization.safe_globals([(OrderedDict, name) for name in inert]):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_unpickling(path, error)) from None
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or not a checkpoint: {first_line(error)}") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise CheckpointError(f"{path} is damaged or not a checkpoint: {first_line(error)}") from None
    tensors = strip_wrappers(_unnest(content, path, ema, nestings))
    for name, tensor in tensors.items():
        reason = unusable(tensor)
        if reason:
            raise CheckpointError(f"{path}: {name} {reason}")
    return unpack(tensors, str(path))


def unusable(tensor: Tensor) -> str | None:
    """Why a tensor cannot be a weight, or None. Looks at what it is alone, not at its values."""
    if tensor.is_nested or tensor.layout is not torch.strided:
        return "is a sparse or nested tensor; save it dense (tensor.to_dense())"
    if tensor.is_quantized:
        return "is quantised; save it as floating point (tensor.dequantize())"
    if tensor.is_meta:
        return "is on the meta device and has no values"
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return f"claims the shape {tuple(tensor.shape)} but stores fewer numbers; save it with .contiguous()"
    return None


def strip_wrappers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys without the prefixes of DistributedDataParallel and torch.compile."""
    while tensors and all(key.startswith(WRAPPERS) for key in tensors):
        tensors = {key.split(".", 1)[1]: value for key, value in tensors.items()}
    return tensors


def _unpickling(path: Path, error: Exception) -> str:
    if not FOREIGN.search(str(error)):
        return f"{path} is damaged or not a checkpoint: no pickle of tensors"
    found = CLASS.search(str(error))
    what = f"Python objects besides tensors ({found[1]})" if found else "Python objects besides tensors"
    return (
        f"{path} holds {what}, which are not loaded because unpickling them can run code; "
        "save its state_dict alone where the file comes from"
    )


def _unnest(content, path: Path, ema: bool, nestings: Sequence[str]) -> dict[str, Tensor]:
    order = (*EMA_NESTINGS, *nestings) if ema else (*nestings, *EMA_NESTINGS)
    for _ in range(10):  # nestings; more are an attempt to keep us busy
        if not isinstance(content, dict) or _is_state_dict(content):
            break
        inner = next((content[name] for name in order if isinstance(content.get(name), dict)), None)
        if inner is None:
            raise CheckpointError(
                f"{path} holds no state dict; its entries are {some(list(map(str, content)))}"
            )
        content = inner
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path} holds {type(content).__name__}, not a state dict")
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def _is_state_dict(content: dict) -> bool:
    """Flat from names to tensors; averaged weights may have a counter among them."""
    return any(isinstance(value, Tensor) for value in content.values()) and not any(
        isinstance(value, dict) for value in content.values()
    )
