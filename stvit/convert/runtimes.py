"""Files of models, run by ONNX Runtime or OpenVINO on the CPU: torch tensors in and out.

run = open_graph("bat.onnx", threads=2)
logits = run(images)  # (B, 3, H, W) → (B, classes)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from stvit.extras import require

Run = Callable[[Tensor], Tensor]


class Runtime(NamedTuple):
    """What runs files with one suffix."""

    title: str
    package: str
    suffix: str
    open: Callable[[Path, int], Run]


def open_graph(path: str | Path, threads: int = 0) -> Run:
    """A file that ``stvit.export`` wrote, as a function; ``threads``: 0 leaves it to the runtime."""
    path = Path(path)
    runtime = runtime_of(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return runtime.open(path, threads)


def runtime_of(path: Path) -> Runtime:
    """The runtime of a file by its suffix; ImportError with the line that installs it where it is missing."""
    for runtime in RUNTIMES.values():
        if path.suffix == runtime.suffix:
            require(runtime.package, f"a {runtime.suffix} file")
            return runtime
    known = " or ".join(f"{runtime.suffix} ({runtime.title})" for runtime in RUNTIMES.values())
    raise ValueError(f"{path.name!r} must end in {known}")


def open_onnx(path: Path, threads: int) -> Run:
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors alone
    options.add_session_config_entry("session.force_spinning_stop", "1")  # between calls others may work
    session = InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in session.get_inputs())

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: images.numpy()})[0])

    return run


def open_openvino(path: Path, threads: int) -> Run:
    import openvino

    settings: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    core = openvino.Core()
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(request.infer([images.numpy()], share_inputs=True)[0].copy())

    return run


RUNTIMES = {
    "onnx": Runtime("ONNX Runtime", "onnxruntime", ".onnx", open_onnx),
    "openvino": Runtime("OpenVINO", "openvino", ".xml", open_openvino),
}
