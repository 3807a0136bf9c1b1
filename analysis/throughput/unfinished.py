"""Cells of a suite that was stopped: each is kept when it is measured, so that the next run goes on from there.

A cell is used again on the same machine, with the same code, packages and settings alone. When the suite is whole
and its record written, they are removed: measuring again means measuring anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from analysis.commands import write_text
from analysis.dependencies import needed
from analysis.results import HOME, ROOT, environment, versions

FOLDER = HOME / ".cache" / "throughput"


class Unfinished:
    """The cells of one suite in one folder; ``settings``: what else decides a cell's numbers."""

    def __init__(self, name: str, settings: dict, folder: Path = FOLDER):
        self.folder = folder / name
        facts = [settings, versions(), environment()["hardware"]]
        state = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
        for file in needed("analysis.throughput.measure", ROOT):
            state.update(file.read_bytes())
        self.stamp = state.hexdigest()

    def path(self, cell: object) -> Path:
        key = hashlib.sha256(f"{cell!r}\0{self.stamp}".encode()).hexdigest()[:16]
        return self.folder / f"{key}.json"

    def read(self, cell: object) -> tuple[list[dict], list[str]] | None:
        """The rows and notes of a cell that an earlier run has measured."""
        path = self.path(cell)
        return tuple(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    def keep(self, cell: object, rows: list[dict], notes: list[str]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(json.dumps([rows, notes]), self.path(cell))

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
