"""Models as files that run without this package: ONNX, and OpenVINO's format made of it.

    write_graph(model, "bat.onnx")        # one image size, any number of images
    write_graph(model, "bat.xml")         # OpenVINO; its weights lie beside it in bat.bin

The graph has the short cuts of ``stvit.fast`` that hold for every batch, since such files run on CPUs. A file is
written as a whole, and only if a runtime gives the model's own outputs for it.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stvit.checkpoints.errors import first_line
from stvit.convert.runtimes import open_graph, runtime_of
from stvit.extras import require
from stvit.fast.when import in_exports

OPSET = 20  # the first with GELU as one node
EXAMPLE, MANY = 2, 2**16  # images that the graph is traced with, and the most that it takes
TOLERANCE = 1e-4  # of the largest output
IN_ONE_FILE = 2**31 - 2**24  # bytes; protobuf holds no more


class Parity(NamedTuple):
    """How far a runtime's outputs are from the model's: the largest difference, the largest output, the images."""

    difference: float
    largest: float
    images: int

    @property
    def relative(self) -> float:
        return self.difference / self.largest if self.largest > 0 else self.difference


def write_graph(
    model: nn.Module, path: str | Path, size: Sequence[int] | None = None, tolerance: float = TOLERANCE
) -> Parity:
    """Write ``model`` as ``path`` (.onnx or .xml) and return how near a runtime comes to it.

    size: (height, width), or (frames, height, width); default: what the model was made for
    tolerance: the largest difference from the model's own outputs, as a part of the largest of them
    """
    path = Path(path)
    runtime_of(path)  # its suffix and its package, before any work is done
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} to write {path.name} to")
    images = example(model, tuple(size or own_size(model)))
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as scratch:
        graph = Path(scratch) / path.with_suffix(".onnx").name
        trace(model, images, graph)
        made = [
            graph,
            *graph.parent.glob(f"{graph.name}.*"),
        ]  # and the weights beside it, where they are large
        if path.suffix == ".xml":
            made = to_openvino(graph, Path(scratch) / path.name)
        found = parity(model, Path(scratch) / path.name, images.shape[1:])
        if not found.relative <= tolerance:
            raise ValueError(
                f"{path.name} is not written: its outputs are {found.relative:.1e} from the model's, more than "
                f"{tolerance:.0e} of the largest; where tokens are chosen by nearly equal scores, allow more with "
                "--tolerance"
            )
        for file in made:
            os.replace(file, path.parent / file.name)
    return found


def example(model: nn.Module, size: tuple[int, ...]) -> Tensor:
    """Images for tracing; ValueError for a model that gives anything but one tensor in float32."""
    if model.training:
        raise ValueError("only a model in evaluation mode can be exported: call model.eval() first")
    channels = getattr(model, "in_chans", 3)
    images = torch.randn(EXAMPLE, channels, *size, generator=torch.Generator().manual_seed(0))
    weights = next(model.parameters(), images)
    if weights.dtype is not torch.float32 or weights.device.type != "cpu":
        raise ValueError(
            f"the model is in {weights.dtype} on {weights.device}: export model.float().cpu() instead"
        )
    with torch.inference_mode():
        outputs = model(images)
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f"{type(model).__name__} returns a {type(outputs).__name__}; exported models return one tensor"
        )
    return images


def own_size(model: nn.Module) -> tuple[int, ...]:
    """The image size that a model was made for."""
    built = getattr(getattr(model, "patch_embed", None), "img_size", None)
    size = built or getattr(model, "pretrained_cfg", {}).get("input_size", (3, 224, 224))[1:]
    return tuple(size)


def trace(model: nn.Module, images: Tensor, path: Path) -> None:
    """``model`` as an ONNX graph for any number of images; ValueError with the reason where it has no such form."""
    require("onnxscript", "writing an ONNX file")
    batch = torch.export.Dim("batch", min=1, max=MANY)
    large = sum(p.numel() * p.element_size() for p in model.parameters()) > IN_ONE_FILE
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad(), in_exports():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model,
                (images,),
                path,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=({0: batch},),
                input_names=["images"],
                output_names=["outputs"],
                external_data=large,
                verbose=False,
            )
    except Exception as error:  # the exporter, the tracer and the model have errors of their own
        raise ValueError(f"{type(model).__name__} cannot be exported: {reason(error)}") from error
    finally:
        logger.setLevel(level)


def reason(error: BaseException) -> str:
    """The first line of the error that began it all: the exporter's own wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def to_openvino(graph: Path, path: Path) -> list[Path]:
    """An ONNX file as OpenVINO's two files, weights in float32."""
    openvino = require("openvino", "writing OpenVINO's format")
    try:
        network = openvino.Core().read_model(graph)
    except RuntimeError as error:
        raise ValueError(f"OpenVINO does not read this model's graph: {first_line(error)}") from error
    openvino.save_model(network, path, compress_to_fp16=False)
    return [path, path.with_suffix(".bin")]


def parity(model: nn.Module, path: Path, shape: Sequence[int], batches: Sequence[int] = (1, 3)) -> Parity:
    """The model and its file side by side on random images, in batches of several sizes."""
    run, generator = open_graph(path), torch.Generator().manual_seed(1)
    differences, largest = [], []
    for batch in batches:
        images = torch.randn(batch, *shape, generator=generator)
        with torch.inference_mode():
            own = model(images)
        differences.append((run(images) - own).abs().max().item())
        largest.append(own.abs().max().item())
    return Parity(max(differences), max(largest), sum(batches))
