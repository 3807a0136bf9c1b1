"""A run's progress on disk: one JSON object a line, and the curves as a picture."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from stvit.checkpoints.saving import plain, scratch_prefix
from stvit.training.tasks import LABELS

LOG, CURVES = "log.jsonl", "curves.png"


class Journal:
    """``log.jsonl`` in a folder. A run that resumes drops the lines that it will write again."""

    def __init__(self, folder: Path, epoch: int = 0, enabled: bool = True):
        self.path, self.enabled = folder / LOG, enabled
        if not enabled:
            return
        kept = [line for line in read(self.path) if line["epoch"] < epoch]
        scratch = folder / f"{scratch_prefix()}{LOG}"
        scratch.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        os.replace(scratch, self.path)

    def write(self, **values) -> None:
        if self.enabled:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(plain(values), allow_nan=False) + "\n")

    def last(self, name: str) -> dict:
        """The last line that has ``name``; empty if there is none."""
        lines = [line for line in read(self.path) if name in line] if self.enabled else []
        return lines[-1] if lines else {}

    def draw(self, score: str = "top1") -> Path | None:
        return draw(self.path.parent, score) if self.enabled else None


def read(path: Path) -> list[dict]:
    """The complete lines; one that a killed run did not finish, or that is damaged, is left out."""
    lines = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                lines.append(json.loads(line))
    return [line for line in lines if isinstance(line, dict) and "epoch" in line]


def draw(folder: Path, score: str = "top1") -> Path:
    """Loss by step, and the score by epoch, as ``curves.png``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = read(folder / LOG)
    steps = [line for line in lines if "loss" in line]
    epochs = [line for line in lines if score in line]
    fig = Figure(figsize=(7, 2.6), layout="constrained")
    FigureCanvasAgg(fig)
    left, right = fig.subplots(1, 2)
    left.plot([line["step"] for line in steps], [line["loss"] for line in steps], color="#0072B2")
    left.set(xlabel="step", ylabel="training loss")
    right.plot(
        [line["epoch"] + 1 for line in epochs], [line[score] for line in epochs], "o-", color="#D55E00"
    )
    right.set(xlabel="epoch", ylabel=f"{LABELS.get(score, score)} (%)")
    for ax in (left, right):
        ax.grid(color="#e3e3e3", lw=0.5)
        ax.spines[["top", "right"]].set_visible(False)
    fig.savefig(folder / CURVES, dpi=150)
    return folder / CURVES
