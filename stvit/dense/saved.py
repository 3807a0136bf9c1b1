"""Save and load segmenters and detectors: ``model.safetensors``, and ``config.json`` that says how to build it.

    save(model, "runs/mine", record={"miou": 41.2})
    model = load("runs/mine")

A model says how it was built by ``built_from = (task, arguments)``: what its builder here was called with. A
configuration may come from a stranger: ``load`` takes known arguments within bounds, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from stvit.checkpoints import (
    CONFIG,
    RECORD,
    WEIGHTS,
    CheckpointError,
    fill,
    read_state_dict,
    replacing,
    write_json,
    write_weights,
)  # fmt: skip
from stvit.checkpoints.configured import (
    Rule,
    architecture_rules,
    check_arguments,
    flag,
    integer,
    model_name,
    number,
    read_json,
    word,
)  # fmt: skip
from stvit.checkpoints.drafts import drafting
from stvit.checkpoints.errors import first_line
from stvit.checkpoints.filling import compare
from stvit.record import unwrap

BUILDERS = {
    "segment": "stvit.dense.segmentation.model:create_segmenter",
    "detect": "stvit.dense.detection.model:create_detector",
}
COMMON: dict[str, Rule] = {"backbone": model_name, "num_classes": integer(1, 100_000), "output_norms": flag}
WIDTH, SIDE = integer(1, 4096), integer(1, 10_000)
RULES: dict[str, dict[str, Rule]] = {
    "segment": {**COMMON, "channels": WIDTH, "auxiliary_channels": WIDTH, "pools": integer(1, 64)},
    "detect": {
        **COMMON, "preset": word, "channels": WIDTH, "anchor_scale": number(0.01, 1e4),
        "anchor_ratios": number(0.01, 100), "rpn_samples": integer(1, 65536), "proposals_train": integer(1, 65536),
        "proposals_test": integer(1, 65536), "stages": number(0, 1e3), "samples": integer(1, 65536),
        "positive_fraction": number(0, 1), "class_agnostic": flag, "box_size": integer(1, 64),
        "box_convs": integer(0, 64), "box_width": WIDTH, "box_hidden": integer(1, 65536), "box_weight": number(0, 1e6),
        "mask_size": integer(1, 64), "mask_convs": integer(0, 64), "mask_width": WIDTH, "mask_weight": number(0, 1e6),
        "finest": number(0.01, 1e6), "sampling": integer(0, 64), "score_threshold": number(0, 1),
        "nms_threshold": number(0, 1), "detections": integer(1, 65536), "min_sizes": SIDE, "max_size": SIDE,
        "size_divisible": integer(1, 1024), "crops": SIDE,
    },
}  # fmt: skip
BACKBONE_ARGUMENTS = {"segment": "backbone_args", "detect": "model_args"}


def save(model: nn.Module, folder: str | Path, record: dict | None = None) -> Path:
    """Write weights, how to build the model and, if given, the training record; a file is replaced as a whole."""
    model, folder = unwrap(model), Path(folder)
    task, arguments = model.built_from
    with replacing(folder) as scratch:
        write_weights(model, scratch / WEIGHTS)
        write_json({"task": task, "arguments": arguments}, scratch / CONFIG)
        if record:
            write_json(record, scratch / RECORD)
    return folder


def load(folder: str | Path) -> nn.Module:
    """The segmenter or detector that ``save`` wrote there, on the CPU."""
    config = Path(folder) / CONFIG
    if not config.exists():
        raise CheckpointError(f"no {CONFIG} in {folder}, which would say what to build")
    task, arguments = read_dense_config(config)
    tensors = read_state_dict(Path(folder) / WEIGHTS)
    module, name = BUILDERS[task].split(":")
    create = getattr(import_module(module), name)
    with drafting():  # what does not fit is known before anything is allocated
        draft = attempt(create, arguments, config)
    compare(draft, draft.state_dict(), tensors, strict=True, source=str(folder))
    model = attempt(create, arguments, config)
    fill(model, tensors, source=str(folder))
    return model


def attempt(create: Callable[..., nn.Module], arguments: dict[str, Any], config: Path) -> nn.Module:
    """The model, or a CheckpointError where the arguments do not go together."""
    try:
        return create(**arguments)
    except ImportError:  # an optional package
        raise
    except Exception as error:  # whatever a constructor says
        raise CheckpointError(
            f"{config}: the model cannot be built as it says: {first_line(error)}"
        ) from error


def read_dense_config(path: Path) -> tuple[str, dict[str, Any]]:
    """The task and the builder's arguments, which are known ones within bounds."""
    content = read_json(path)
    task = content.get("task") if isinstance(content, dict) else None
    if not isinstance(task, str) or task not in BUILDERS:
        raise CheckpointError(
            f"{path} is no configuration of a dense model: its task is {task!r}, not one of {', '.join(BUILDERS)}; "
            "stvit.load_checkpoint reads classifiers"
        )
    arguments, inner = content.get("arguments"), BACKBONE_ARGUMENTS[task]
    if isinstance(arguments, dict):
        given = dict(arguments)
        backbone = check_arguments(given.pop(inner, None) or {}, architecture_rules(), f"{path}: {inner}")
        arguments = {**check_arguments(given, RULES[task], path), inner: backbone}
    else:
        check_arguments(arguments, RULES[task], path)
    missing = [name for name in ("backbone", "num_classes") if arguments.get(name) is None]
    if missing:
        raise CheckpointError(f"{path} does not say the model's {missing[0]}")
    return task, arguments
