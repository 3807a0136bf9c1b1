"""Models in other runtimes, to be timed beside torch: each is exported once in a process for its image size."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from analysis.throughput import specs
from stvit.convert.graphs import write_graph
from stvit.convert.runtimes import RUNTIMES


class Deployed(nn.Module):
    """What a runtime made of a model's file: the same function of images, whose memory nobody here can count."""

    def __init__(self, path: Path, runtime: str, threads: int):
        super().__init__()
        self.run = RUNTIMES[runtime].open(path, threads)

    def forward(self, images: Tensor) -> Tensor:
        return self.run(images)


def deployed(spec: str, size: specs.InputSize, runtime: str) -> Deployed:
    """The model of ``spec`` in a runtime, with as many threads as torch has; ValueError where it has no such form."""
    return Deployed(graph(spec, size), runtime, torch.get_num_threads())


@cache
def graph(spec: str, size: specs.InputSize) -> Path:
    """An ONNX file, which OpenVINO reads as well; its outputs have been compared with the model's."""
    torch.manual_seed(0)
    path = Path(_folder().name) / f"{len(list(Path(_folder().name).glob('*.onnx')))}.onnx"
    write_graph(specs.build(spec, size), path, size)
    return path


@cache
def _folder() -> tempfile.TemporaryDirectory:
    """Removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="stvit-graphs-")
