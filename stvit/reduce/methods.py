"""The table of methods by name: those of this package, and those that installed packages bring.

A package brings a method by an entry point, in its pyproject.toml:

    [project.entry-points."stvit.methods"]
    largest_norm = "its_module:LargestNorm"

Only names are read when stvit is imported; a package's code runs when its method is first asked for.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, MutableMapping
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path

from stvit.reduce.reduction import Reduction

GROUP = "stvit.methods"


class Methods(MutableMapping):
    """Name → class. A plug-in that cannot be loaded leaves the table with one warning that names it."""

    def __init__(self, known: dict[str, type[Reduction]]):
        self._found: dict[str, type[Reduction] | EntryPoint] = dict(known)
        self._listeners: list[Callable[[str], None]] = []
        self._announced: set[str] = set(known)

    def names(self) -> tuple[str, ...]:
        """All names, without loading what they stand for."""
        return tuple(self._found)

    def loaded(self) -> tuple[str, ...]:
        """The names whose classes are at hand: a plug-in's is once it was asked for."""
        return tuple(name for name, kind in self._found.items() if not isinstance(kind, EntryPoint))

    def offer(self, point: EntryPoint) -> None:
        """Know a plug-in by its name, unless the name is taken."""
        if point.name in (*self._found, "stvit"):
            _warn(point, "the name is taken")
        else:
            self._enter(point.name, point)

    def watch(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with each name that is known, now and later."""
        self._listeners.append(listener)
        for name in self.names():
            listener(name)

    def __getitem__(self, name: str) -> type[Reduction]:
        kind = self._found[name]
        if isinstance(kind, EntryPoint):
            self._resolve(name, kind)
            return self[name]
        return kind

    def __setitem__(self, name: str, kind: type[Reduction]) -> None:
        self._enter(name, kind)

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __iter__(self) -> Iterator[str]:
        """The names of all that can be loaded."""
        for name, kind in list(self._found.items()):
            if isinstance(kind, EntryPoint):
                self._resolve(name, kind)
        return iter(tuple(self._found))

    def __len__(self) -> int:
        return len(tuple(iter(self)))

    def _enter(self, name: str, kind: type[Reduction] | EntryPoint) -> None:
        if name == "stvit":
            raise ValueError("'stvit' is the name of semantic tokens; give your method another name")
        self._found[name] = kind
        if name not in self._announced:
            self._announced.add(name)
            for listener in self._listeners:
                listener(name)

    def _resolve(self, name: str, point: EntryPoint) -> None:
        """Put the plug-in's class into the place of its entry point, or take the name out."""
        try:
            kind = point.load()
        except Exception as error:  # whatever a stranger's module raises
            reason = f"{type(error).__name__}: {error}"
        else:
            if isinstance(kind, type) and issubclass(kind, Reduction):
                self._found[name] = kind
                return
            reason = f"{point.value} is not a class of stvit.reduce.Reduction"
        self._found.pop(name, None)
        _warn(point, reason)


def installed() -> list[EntryPoint]:
    """The entry points of installed packages; a file is parsed only if it has the group's name in it."""
    found: dict[tuple[str, str], EntryPoint] = {}
    for folder in map(Path, dict.fromkeys(sys.path)):
        for kind in ("dist-info", "egg-info"):
            for file in sorted(folder.glob(f"*.{kind}/entry_points.txt")):
                if GROUP.encode() in file.read_bytes():
                    package = Distribution.at(file.parent)
                    for point in package.entry_points.select(group=GROUP):
                        found.setdefault(
                            (package.name, point.name), point
                        )  # the first on the path is imported
    return list(found.values())


def _warn(point: EntryPoint, reason: str) -> None:
    package = point.dist.name if point.dist is not None else point.module
    warnings.warn(
        f"stvit leaves out the method {point.name!r} of the package {package!r}: {reason}", stacklevel=2
    )
