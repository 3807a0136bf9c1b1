"""Save and load segmenters and detectors: ``model.safetensors``, and ``config.json`` that says how to build it.

    save(model, "runs/mine", record={"miou": 41.2})
    model = load("runs/mine")

A model says how it was built by ``built_from = (kind, arguments)``: what its builder here was called with.
"""

from __future__ import annotations

import json
import os
import tempfile
from importlib import import_module
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from stvit.checkpoints import CONFIG, RECORD, WEIGHTS, CheckpointError, fill, read_state_dict
from stvit.record import unwrap

BUILDERS = {
    "segment": "stvit.dense.segmentation.model:create_segmenter",
    "detect": "stvit.dense.detection.model:create_detector",
}


def save(model: nn.Module, folder: str | Path, record: dict | None = None) -> Path:
    """Write weights, how to build the model and, if given, the training record; a file is replaced as a whole."""
    model, folder = unwrap(model), Path(folder)
    kind, arguments = model.built_from
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as scratch:
        tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        save_file(tensors, Path(scratch, WEIGHTS), metadata={"format": "pt"})
        contents = {CONFIG: {"task": kind, "arguments": arguments}, **({RECORD: record} if record else {})}
        for name, content in contents.items():
            text = json.dumps(content, indent=1, sort_keys=True) + "\n"
            Path(scratch, name).write_text(text, encoding="utf-8")
        for file in sorted(Path(scratch).iterdir()):
            os.replace(file, folder / file.name)
    return folder


def load(folder: str | Path) -> nn.Module:
    """The segmenter or detector that ``save`` wrote there, on the CPU."""
    folder = Path(folder)
    if not (folder / CONFIG).exists():
        raise CheckpointError(f"no {CONFIG} in {folder}, which would say what to build")
    content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if content.get("task") not in BUILDERS:
        raise CheckpointError(
            f"{folder / CONFIG} is none of a dense model: its task is {content.get('task')!r}, not one of "
            f"{', '.join(BUILDERS)}; stvit.load_checkpoint reads classifiers"
        )
    module, name = BUILDERS[content["task"]].split(":")
    model = getattr(import_module(module), name)(**content["arguments"])
    fill(model, read_state_dict(folder / WEIGHTS), source=str(folder))
    return model
