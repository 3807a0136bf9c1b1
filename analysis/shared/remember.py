"""Counts of models that have not changed since they were counted last.

A count takes about a second and depends on nothing but the counter and the modules that it imports, which
``analysis.dependencies`` finds, the versions of the packages, and what was asked for. These make its key in
``.cache/counts``.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from analysis.dependencies import needed
from analysis.results import HOME, ROOT, versions

FOLDER = HOME / ".cache" / "counts"
COUNTER = "analysis.shared.counting"  # with all that it imports, the models among them


def remembered(count: Callable, folder: Path = FOLDER) -> Callable:
    """``count`` of one argument with a good ``repr`` and a JSON-like result, from the folder if it is there."""

    @functools.wraps(count)
    def remember(asked):
        path = folder / f"{_key(repr(asked))}.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        result = count(asked)
        folder.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps(result), encoding="utf-8")
        scratch.replace(path)  # whole or not at all: several processes count at a time
        return result

    return remember


def _key(asked: str) -> str:
    return hashlib.sha256(f"{asked}\0{_stamp()}".encode()).hexdigest()[:24]


@functools.cache
def _stamp() -> str:
    """A hash of everything else that a count depends on: the packages' versions and the sources of the counter."""
    state = hashlib.sha256(json.dumps(versions(), sort_keys=True).encode())
    for file in needed(COUNTER, ROOT):
        state.update(file.read_bytes())
    return state.hexdigest()
