"""Optional packages, asked for where they are used."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

INSTALL = "pip install 'stvit[dense]'"


def require(name: str, what: str, extra: str = "dense") -> ModuleType:
    """The module ``name``; where it is not installed, an ImportError with the line that installs it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        install = INSTALL.replace("dense", extra)
        raise ImportError(f"{what} needs {error.name}, which is not installed: {install}") from None
