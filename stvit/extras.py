"""Optional packages: imported where they are needed, and named with the line that installs them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

# Package as it is imported → the extra of pyproject.toml that has it.
EXTRAS = {
    "transformers": "huggingface", "pycocotools": "dense", "av": "video", "webdataset": "sources",
    "datasets": "sources", "peft": "adapters", "onnx": "real", "onnxruntime": "export", "onnxscript": "export",
    "openvino": "export", "dask": "cluster", "distributed": "cluster", "tensorboard": "track",
}  # fmt: skip


def install_line(package: str) -> str:
    return f"pip install 'stvit[{EXTRAS[package]}]'" if package in EXTRAS else f"pip install {package}"


def require(name: str, what: str) -> ModuleType:
    """The module ``name``; where it is not installed, an ImportError with the line that installs it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise ImportError(
            f"{what} needs {error.name}, which is not installed: {install_line(error.name)}"
        ) from None
