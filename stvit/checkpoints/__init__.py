"""Save and load models: ``model.safetensors`` and ``config.json``, as timm's hub loader reads them.

    stvit.save_checkpoint(model, "runs/stvit-s", record={"seed": 0, "top1": 79.8})
    model = stvit.load_checkpoint("runs/stvit-s")
    model = timm.create_model("local-dir:runs/stvit-s", pretrained=True)  # the same

Loading takes what training leaves behind (wrappers' prefixes, nesting, half precision, ``.pth`` files) and
refuses, before it touches the model, what would not fit, is damaged, or asks for more than an architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch
from timm.models import create_model
from timm.models._hub import save_config_for_hf
from torch import Tensor, nn

from stvit.checkpoints.configured import read_config, read_json
from stvit.checkpoints.drafts import drafting
from stvit.checkpoints.errors import CheckpointError, first_line
from stvit.checkpoints.filling import adapt, compare, fill
from stvit.checkpoints.reading import WEIGHTS, find_weights, read_state_dict, strip_wrappers
from stvit.checkpoints.saving import replacing, write_json, write_tensors, write_weights
from stvit.hosts.huggingface import takes_huggingface
from stvit.optimize import PackedLinear
from stvit.record import unwrap

__all__ = [
    "CONFIG", "RECORD", "WEIGHTS", "CheckpointError", "config_beside", "fill", "find_weights", "load_checkpoint",
    "read_config", "read_state_dict", "recast_checkpoint", "replacing", "save_checkpoint", "strip_wrappers",
    "write_json", "write_weights",
]  # fmt: skip

CONFIG, RECORD = "config.json", "record.json"
LARGEST_MODEL = 20_000_000_000  # numbers; timm's largest has a third of it


def save_checkpoint(
    model: nn.Module,
    folder: str | Path,
    record: dict | None = None,
    dtype: torch.dtype | None = None,
    class_names: Sequence[str] = (),
) -> Path:
    """Write weights, configuration and, if given, the training record; a file is replaced as a whole.

    dtype: the type of the written weights, such as torch.float16, or torch.int8 for rows of whole numbers with a
        scale, which timm does not read; ``load_checkpoint`` casts them back
    class_names: what the classes are called, in their order; without them, those the model was loaded with
    """
    model, folder = unwrap(model), Path(folder)
    if not getattr(model, "pretrained_cfg", {}).get("architecture"):
        if takes_huggingface(model):
            raise CheckpointError(f"{type(model).__name__} is saved by stvit.save_pretrained(model, folder)")
        raise CheckpointError(
            f"{type(model).__name__} was not built by timm.create_model or stvit.sparsify, so that no configuration "
            "can say how to build it again; save its state_dict with safetensors instead"
        )
    if any(isinstance(module, PackedLinear) for module in model.modules()):
        raise CheckpointError(
            "an optimised model has packed weights that are not saved; save the model it was made from"
        )
    names = tuple(class_names) or model.pretrained_cfg.get("label_names")
    if names and len(names) != model.num_classes:
        raise CheckpointError(f"{len(names)} class names for a model of {model.num_classes} classes")
    with replacing(folder) as scratch:
        write_weights(model, scratch / WEIGHTS, dtype)
        _write_config(model, scratch / CONFIG, names or ())
        if record is not None:
            write_json(record, scratch / RECORD)
    return folder


def _write_config(model: nn.Module, path: Path, names: Sequence[str]) -> None:
    """timm's configuration, with the length of clips, which timm leaves out of the size of its inputs."""
    save_config_for_hf(model, str(path), {"label_names": list(names)} if names else None)
    if len(model.pretrained_cfg["input_size"]) == 4:
        content = read_json(path)
        content["pretrained_cfg"]["input_size"] = model.pretrained_cfg["input_size"]
        write_json(content, path)


def recast_checkpoint(folder: str | Path, dtype: torch.dtype) -> None:
    """Write a checkpoint's weights again in another type; its other files stay."""
    tensors = read_state_dict(folder)
    with replacing(folder) as scratch:
        write_tensors(tensors, scratch / WEIGHTS, dtype)


def load_checkpoint(
    path: str | Path, model: nn.Module | None = None, strict: bool = True, ema: bool = False
) -> nn.Module:
    """The model saved at ``path``, or ``model`` with the weights from there.

    path: a folder that ``save_checkpoint`` wrote, or a .safetensors, .pth, .pt or .bin file
    model: filled in place; needed where no config.json says what to build
    strict: every parameter must be there and nothing else; otherwise differences are a warning
    ema: take the averaged weights where a training checkpoint has both
    """
    weights = find_weights(path)
    tensors = read_state_dict(weights, ema)
    if model is None:
        model = _build(config_beside(weights), tensors, strict)
    fill(model, tensors, strict, source=str(path))
    return model


def config_beside(weights: Path) -> Path:
    """The configuration beside a file of weights: ``config.json``, or the file's own name with ``.json``."""
    places = (weights.parent / CONFIG, weights.with_suffix(".json"))
    if weights.name not in (WEIGHTS, "pytorch_model.bin"):
        places = places[::-1]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise CheckpointError(
            f"{places[0]} does not exist, which would say what to build; pass the model to load into"
        )
    return found


def _build(config: Path, tensors: dict[str, Tensor], strict: bool) -> nn.Module:
    """The model that ``config`` describes, once ``tensors`` are known to fit it: nothing is allocated before."""
    name, arguments, settings = read_config(config)
    try:
        with drafting():
            draft = create_model(name, **arguments)
        own = draft.state_dict()
        compare(draft, own, adapt(draft, tensors, str(config)), strict, str(config))
        size = sum(value.numel() for value in chain(draft.parameters(), draft.buffers()))
        if size > LARGEST_MODEL:
            raise CheckpointError(
                f"{config} describes a model of {size:,} numbers, more than any that is known"
            )
        model = create_model(name, **arguments)
    except CheckpointError:
        raise
    except Exception as error:  # whatever a constructor says to arguments that do not go together
        raise CheckpointError(f"{config}: {name} cannot be built as it says: {first_line(error)}") from error
    if len(settings.get("input_size", ())) != len(model.pretrained_cfg["input_size"]):
        settings.pop("input_size", None)  # written by an older version, which lost the length of clips
    model.pretrained_cfg = {**model.pretrained_cfg, **settings}
    return model
