"""Optional packages: imported where they are needed, and named with the line that installs them."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

# Package as it is imported → the extra of pyproject.toml that has it.
EXTRAS = {
    "transformers": "huggingface", "pycocotools": "dense", "av": "video", "webdataset": "sources",
    "datasets": "sources", "peft": "adapters", "onnx": "real", "onnxruntime": "export", "onnxscript": "export",
    "openvino": "export", "dask": "cluster", "distributed": "cluster", "tensorboard": "track",
    "accelerate": "train", "torchmetrics": "train", "sklearn": "train", "matplotlib": "train", "psutil": "train",
}  # fmt: skip


def install_line(package: str) -> str:
    return f"pip install 'stvit[{EXTRAS[package]}]'" if package in EXTRAS else f"pip install {package}"


def need(extra: str, what: str) -> None:
    """Stop where a package of ``extra`` is not installed, with one line: of a command that is all that is printed."""
    missing = [package for package, has in EXTRAS.items() if has == extra and not is_installed(package)]
    if not missing:
        return
    line = f"{what} needs {', '.join(missing)}, not installed: pip install 'stvit[{extra}]'"
    command = getattr(sys.modules["__main__"], "__spec__", None)
    if command is not None and command.name.startswith("stvit."):
        raise SystemExit(line)
    raise ImportError(line)


def is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


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
