"""Files that are replaced as a whole, records that are valid JSON, and nothing left of a save that was killed."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from stvit.checkpoints.eight_bits import pack
from stvit.checkpoints.errors import CheckpointError, first_line, some

SCRATCH = ".saving-"
DAY = 86400


@contextmanager
def replacing(folder: str | Path) -> Iterator[Path]:
    """A scratch folder whose files replace those in ``folder`` at the end of the block, each as a whole.

    An error leaves ``folder`` as it was. Scratch folders of saves that were killed are removed.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clear_scratch(folder)
        with tempfile.TemporaryDirectory(dir=folder, prefix=scratch_prefix()) as scratch:
            yield Path(scratch)
            for file in sorted(Path(scratch).iterdir()):
                _flush(file)
                os.replace(file, folder / file.name)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise CheckpointError(f"cannot save to {folder}: {reason}; what was there is kept") from error


def scratch_prefix() -> str:
    """The beginning of scratch names, which tells who is writing."""
    return f"{SCRATCH}{socket.gethostname()}-{os.getpid()}-"


def clear_scratch(folder: Path) -> None:
    """Remove what killed processes were writing in ``folder``; what a living one writes stays."""
    for leftover in folder.glob(f"{SCRATCH}*"):
        if not _in_use(leftover):
            shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(
                missing_ok=True
            )


def _in_use(leftover: Path) -> bool:
    host, _, rest = leftover.name.removeprefix(SCRATCH).rpartition("-")[0].rpartition("-")
    if host == socket.gethostname() and rest.isdecimal():
        return int(rest) != os.getpid() and _is_running(int(rest))
    if not host:  # of an older version, which did not say where it ran
        return False
    try:
        return time.time() - leftover.stat().st_mtime < DAY
    except FileNotFoundError:
        return False


def _is_running(process: int) -> bool:
    if os.name != "posix":  # signal 0 asks nothing elsewhere: what may be in use stays
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _flush(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def write_json(content: Any, path: Path) -> None:
    """JSON that any parser reads: numbers that are not finite become null."""
    path.write_text(to_json(content) + "\n", encoding="utf-8")


def to_json(content: Any, **options: Any) -> str:
    return json.dumps(plain(content), allow_nan=False, **{"indent": 1, "sort_keys": True, **options})


def plain(value: Any) -> Any:
    """Values that JSON has: scalars of numpy and torch as numbers, paths as text, NaN and infinity as None."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # arrays and tensors
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_weights(model: nn.Module, path: Path, dtype: torch.dtype | None = None) -> None:
    """``model``'s tensors as a file, floating-point ones as ``dtype``."""
    write_tensors(model.state_dict(), path, dtype)


def write_tensors(tensors: dict[str, Tensor], path: Path, dtype: torch.dtype | None = None) -> None:
    """Tensors as a .safetensors file, floating-point ones as ``dtype``; its mode follows the umask.

    BatchNorm's running statistics, whose range is wider than that of weights, keep their type.
    """
    if dtype is not None and not dtype.is_floating_point and dtype is not torch.int8:
        raise CheckpointError(
            f"weights are saved in a floating-point type such as torch.float16, or in torch.int8, not {dtype}"
        )
    cast = (
        pack(tensors) if dtype is torch.int8 else {name: _cast(name, t, dtype) for name, t in tensors.items()}
    )
    written = {name: tensor.contiguous() for name, tensor in cast.items()}
    lost = [
        name
        for name, tensor in written.items()
        if tensor.isinf().any() and not (name in tensors and tensors[name].isinf().any())
    ]
    if lost:
        raise CheckpointError(
            f"{dtype} cannot hold the values of {some(lost)}; save in torch.bfloat16 or as they are"
        )
    path.touch()  # which follows the umask
    mode = path.stat().st_mode
    save_file(written, path, metadata={"format": "pt"})
    path.chmod(mode)


def _cast(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    keeps = dtype is None or not tensor.is_floating_point() or "running_" in name
    return tensor if keeps else tensor.to(dtype)
