"""Results and their records: no table or figure reaches ``results/`` without saying what made it.

    with Report("complexity", title="What a sparsified transformer costs", command="...") as report:
        report.prose("Plain words, *Markdown* allowed.")
        report.table("table1", frame, caption="...")
        report.figure("growth", fig, caption="...", alt="...")

writes ``results/complexity/{table1.csv, growth.svg, growth.png, record.json}``. The record holds the
command, the configuration, commit, versions, device, seed, seconds, the inputs with their hashes, and
the blocks in the order they were added. ``analysis.page`` derives the results page from records alone.

A run that gives the results of the last one again changes no file (``analysis.kept``): the record stays
that of the run which gave them first, and ``run.json``, which git ignores, says when they were reproduced.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import subprocess
import sys
import time
from datetime import datetime, timezone
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import kept
from analysis.commands import Parser

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
HOME = (
    ROOT if (ROOT / "pyproject.toml").exists() else Path.cwd()
)  # the checkout; of an installed package the folder
RESULTS = HOME / "results"
PAPER = Path(str(files("analysis") / "paper"))  # the papers' printed tables
LARGEST_SVG, LARGEST_PNG = 25_000, 200_000  # bytes; a vector figure beyond this is kept as pixels alone
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "fvcore",
    "matplotlib",
)


class Report:
    """One analysis's tables, figures and prose, written with the record that made them."""

    def __init__(
        self,
        name: str,
        title: str,
        command: str,
        config: dict | None = None,
        seed: int | None = None,
        inputs: list[Path] | tuple[Path, ...] = (),
        out: Path | None = None,
        device: str = "cpu",
    ):
        self.name, self.title, self.command = name, title, command
        self.config, self.seed, self.inputs, self.device = config or {}, seed, list(inputs), device
        self.out = Path(out) if out is not None else output(name)
        self.blocks: list[dict] = []

    def __enter__(self) -> Report:
        self.out.mkdir(parents=True, exist_ok=True)
        self._start = time.perf_counter()
        return self

    def __exit__(self, kind, value, traceback) -> None:
        if kind is None:  # a run that failed leaves the record of the last good one
            kept.write_record(self.out / "record.json", self.record())

    def heading(self, text: str) -> None:
        self.blocks.append({"kind": "heading", "text": text})

    def prose(self, text: str) -> None:
        """A paragraph of plain words, in Markdown."""
        self.blocks.append({"kind": "prose", "text": text})

    def table(self, name: str, frame: pd.DataFrame, caption: str, digits: int = 4) -> None:
        """Write ``name.csv`` with every digit; the page shows ``digits`` significant ones."""
        path = self.out / f"{name}.csv"
        kept.write_table(path, frame.to_csv(index=False, lineterminator="\n"))
        self._add("table", name, [path], caption=caption, digits=digits, rows=len(frame))

    def figure(self, name: str, fig: Figure, caption: str, alt: str) -> None:
        """Write ``name.png`` in the house style, and ``name.svg`` where vectors take less than LARGEST_SVG."""
        from analysis import style

        if Parser.pdf is not None:
            style.write_pdf(fig, Parser.pdf / f"{self.name}-{name}.pdf")
        files = style.render(fig)
        if len(files[".svg"]) > LARGEST_SVG:
            del files[".svg"]
        files[".png"] = style.shrunk(files[".png"], LARGEST_PNG)
        paths = kept.write_figure(self.out / name, files)
        self._add("figure", name, paths, caption=caption, alt=alt)

    def record(self) -> dict:
        seconds = time.perf_counter() - self._start
        return {
            "name": self.name,
            "title": self.title,
            "command": self.command,
            "config": self.config,
            "seed": self.seed,
            "inputs": {_relative(path): digest(path) for path in self.inputs},
            "blocks": self.blocks,
            **environment(self.device),
            "seconds": round(seconds, 2),
        }

    def _add(self, kind: str, name: str, paths: list[Path], **fields) -> None:
        files = {path.name: digest(path) for path in paths}
        self.blocks.append({"kind": kind, "name": name, "files": files, **fields})


def output(name: str) -> Path:
    """Where results are written by default: ``results/NAME`` of the checkout inside it, else of the current folder."""
    here = Path.cwd()
    return (RESULTS if here.is_relative_to(HOME) else here / "results") / name


def environment(device: str = "cpu") -> dict:
    """Where and with what a number was made: date, commit, versions, hardware."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "python": platform.python_version(),
        "versions": versions(),
        "device": device,
        "hardware": f"{_processor()}, {os.cpu_count()} cores",
    }


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def commit() -> str:
    """The commit that the code is at, with ``+changes`` where sources differ from it."""

    def git(*words: str) -> str:
        run = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
        return run.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "stvit", "analysis", "pyproject.toml")
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "not in a git checkout"


def digest(path: Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


# The widest vector instructions of a processor, by which speeds differ under one model name.
VECTORS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 with bfloat16", "avx512f": "AVX-512", "avx2": "AVX2"}


def _processor() -> str:
    if sys.platform != "linux":
        return platform.processor() or platform.machine()
    return processor_of(Path("/proc/cpuinfo").read_text(encoding="utf-8"))


def processor_of(cpuinfo: str) -> str:
    """The processor's name and its widest vector instructions, from Linux's list of processors."""
    pairs = (line.partition(":")[::2] for line in cpuinfo.splitlines())
    known = {key.strip(): value.strip() for key, value in pairs}
    flags = known.get("flags", "").split()
    widest = next((f" ({name})" for flag, name in VECTORS.items() if flag in flags), "")
    return known.get("model name", platform.machine()) + widest


def _relative(path: Path) -> str:
    path = Path(path).resolve()
    return next(
        (str(path.relative_to(home)) for home in (HOME, ROOT) if path.is_relative_to(home)), path.name
    )
