"""Save and load models: ``model.safetensors`` and ``config.json``, as timm's hub loader reads them.

    stvit.save_checkpoint(model, "runs/stvit-s", record={"seed": 0, "top1": 79.8})
    model = stvit.load_checkpoint("runs/stvit-s")
    model = timm.create_model("local-dir:runs/stvit-s", pretrained=True)  # the same

Loading takes what training leaves behind (wrappers' prefixes, nesting, half precision, ``.pth``
files) and refuses, before it touches the model, what would not fit or is damaged.
"""

from __future__ import annotations

import json
import os
import pickle
import tempfile
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import create_model, is_model, save_for_hf
from torch import Tensor, nn

from stvit.record import unwrap

WEIGHTS, CONFIG, RECORD = "model.safetensors", "config.json", "record.json"
NESTINGS = ("state_dict", "model", "model_state_dict", "module")
EMA_NESTINGS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel and torch.compile
SHOWN = 4  # keys that an error spells out


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, and why."""


def save_checkpoint(model: nn.Module, folder: str | Path, record: dict | None = None) -> Path:
    """Write weights, configuration and, if given, the training record; a file is replaced as a whole."""
    model, folder = unwrap(model), Path(folder)
    if not getattr(model, "pretrained_cfg", {}).get("architecture"):
        raise CheckpointError(
            f"{type(model).__name__} was not built by timm.create_model or stvit.sparsify, so that no configuration "
            "can say how to build it again; save its state_dict with safetensors instead"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as scratch:
        save_for_hf(model, scratch, safe_serialization=True)
        if record is not None:
            Path(scratch, RECORD).write_text(
                json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8"
            )
        for file in sorted(Path(scratch).iterdir()):
            os.replace(file, folder / file.name)
    return folder


def load_checkpoint(
    path: str | Path, model: nn.Module | None = None, strict: bool = True, ema: bool = False
) -> nn.Module:
    """The model saved at ``path``, or ``model`` with the weights from there.

    path: a folder that ``save_checkpoint`` wrote, or a .safetensors, .pth, .pt or .bin file
    model: filled in place; needed where no config.json says what to build
    strict: every parameter must be there and nothing else; otherwise differences are a warning
    ema: take the averaged weights where a training checkpoint has both
    """
    path = Path(path)
    weights = _weights_file(path)
    tensors = read_state_dict(weights, ema)
    if model is None:
        model = _build(weights)
    fill(model, tensors, strict, source=str(path))
    return model


def fill(
    model: nn.Module, tensors: dict[str, Tensor], strict: bool = True, source: str = "state dict"
) -> None:
    """Copy ``tensors`` into ``model``, or raise CheckpointError and leave it as it was."""
    target = unwrap(model)
    if hasattr(target, "adapt_state_dict"):
        tensors = target.adapt_state_dict(tensors)
    own = target.state_dict()
    missing = sorted(own.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - own.keys())
    misfits = [
        f"{key} is {tuple(tensors[key].shape)}, the model's {tuple(own[key].shape)}"
        for key in own.keys() & tensors.keys()
        if tensors[key].shape != own[key].shape
    ]
    damaged = [
        key for key in tensors if tensors[key].is_floating_point() and not tensors[key].isfinite().all()
    ]
    if damaged:
        raise CheckpointError(f"{source}: NaN or infinite values in {_some(damaged)}; the model is unchanged")
    if len(unexpected) == len(tensors):
        raise CheckpointError(
            f"{source} holds another model: none of its {len(tensors)} keys ({_some(unexpected)}) belongs to "
            f"{type(target).__name__}; the model is unchanged"
        )
    if misfits:
        raise CheckpointError(
            f"{source}: shapes differ: {_some(sorted(misfits), '; ')}; the model is unchanged"
        )
    differences = ", ".join(
        f"{what} {_some(keys)}" for what, keys in (("missing", missing), ("unexpected", unexpected)) if keys
    )
    if differences and strict:
        raise CheckpointError(
            f"{source}: {differences}; the model is unchanged (strict=False would accept this)"
        )
    if differences:
        warnings.warn(f"{source}: {differences}", stacklevel=3)
    target.load_state_dict(tensors, strict=False)


def read_state_dict(path: str | Path, ema: bool = False) -> dict[str, Tensor]:
    """The tensors of a checkpoint file on the CPU, without nesting and wrappers' prefixes."""
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint at {path}") from None
    except pickle.UnpicklingError as error:
        if "Unsupported global" not in str(error) and "Unsupported class" not in str(error):
            raise CheckpointError(f"{path} is damaged or not a checkpoint: no pickle of tensors") from None
        raise CheckpointError(
            f"{path} holds Python objects besides tensors, which are not loaded because unpickling them can run code; "
            "save its state_dict alone where the file comes from"
        ) from None
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged or not a checkpoint: {_first_line(error)}") from None
    return strip_wrappers(_unnest(content, path, ema))


def strip_wrappers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys without the prefixes of DistributedDataParallel and torch.compile."""
    while tensors and all(key.startswith(WRAPPERS) for key in tensors):
        tensors = {key.split(".", 1)[1]: value for key, value in tensors.items()}
    return tensors


def _unnest(content, path: Path, ema: bool) -> dict[str, Tensor]:
    order = (*EMA_NESTINGS, *NESTINGS) if ema else (*NESTINGS, *EMA_NESTINGS)
    while isinstance(content, dict) and not _is_state_dict(content):
        inner = next((content[name] for name in order if isinstance(content.get(name), dict)), None)
        if inner is None:
            raise CheckpointError(
                f"{path} holds no state dict; its entries are {_some(list(map(str, content)))}"
            )
        content = inner
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path} holds {type(content).__name__}, not a state dict")
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}


def _is_state_dict(content: dict) -> bool:
    """Flat from names to tensors; averaged weights may have a counter among them."""
    return any(isinstance(value, Tensor) for value in content.values()) and not any(
        isinstance(value, dict) for value in content.values()
    )


def _weights_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in (WEIGHTS, "pytorch_model.bin"):
        if (path / name).exists():
            return path / name
    raise CheckpointError(
        f"no {WEIGHTS} in the folder {path}; it holds {_some(sorted(os.listdir(path))) or 'nothing'}"
    )


def _build(weights: Path) -> nn.Module:
    config = weights.parent / CONFIG if weights.name == WEIGHTS else weights.with_suffix(".json")
    if not config.exists():
        raise CheckpointError(
            f"{config} does not exist, which would say what to build; pass the model to load into"
        )
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        name = content["architecture"]
    except (ValueError, KeyError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{config} is not a model configuration: {_first_line(error)}") from None
    if not is_model(name):
        raise CheckpointError(
            f"{config} names the architecture {name!r}, which neither stvit nor this timm knows"
        )
    args = {"num_classes": content.get("num_classes"), **content.get("model_args", {})}
    return create_model(name, **args)


def _some(items: list[str], separator: str = ", ") -> str:
    rest = len(items) - SHOWN
    return separator.join(items[:SHOWN]) + (f"{separator}and {rest} more" if rest > 0 else "")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
