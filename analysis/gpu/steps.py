"""The steps: each a command of another analysis, which writes what it has as it goes, so that a stop loses one cell."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

SPEED_MODELS = ("deit_small_patch16_224,stvit_deit_small_patch16_224,evit_deit_small_patch16_224,"
                "bat_deit_small_patch16_224,tome_deit_small_patch16_224,dynamicvit_deit_small_patch16_224")  # fmt: skip
TOY_MODELS = "deit_tiny_patch16_224,stvit_deit_tiny_patch16_224"


@dataclass(frozen=True)
class Step:
    """share: of the budget, in proportion; ``words`` (out, seconds, device) are what follows ``python -m``."""

    name: str
    about: str
    share: float

    def words(self, out: Path, seconds: float, device: str, folder: str = "") -> list[str]:
        raise NotImplementedError

    def command(self, out: Path, seconds: float, device: str, folder: str = "") -> list[str]:
        return [sys.executable, "-m", *self.words(out, seconds, device, folder)]


class Speed(Step):
    def words(self, out: Path, seconds: float, device: str, folder: str = "") -> list[str]:
        if device == "cpu":
            models, how = TOY_MODELS, "--batch-size 1 --rounds 2 --warmup 1 --threads 1 --no-memory"
        else:
            models = SPEED_MODELS
            how = f"--batch-size 1,32,128,1024 --precision bf16 --compile --seconds {seconds / 12:.1f}"
        where = ["--device", device, "--csv", str(out / "speed.csv")]
        return ["analysis.throughput", "--models", models, *how.split(), *where]


class DistilledStep(Step):
    def words(self, out: Path, seconds: float, device: str, folder: str = "") -> list[str]:
        scale, minutes = ("toy", "0.1") if device == "cpu" else ("full", f"{seconds / 60:.2f}")
        places = ["--cells", str(out / "distilled"), "--cache", str(out / "cache"), "--folder", folder]
        return [
            "analysis.distilled",
            "run",
            "--scale",
            scale,
            "--device",
            device,
            "--minutes",
            minutes,
            *places,
        ]


class RealLabels(Step):
    def words(self, out: Path, seconds: float, device: str, folder: str = "") -> list[str]:
        toy = ["--seeds", "1", "--training", "epochs=1", "train_images=640"]
        given = toy if device == "cpu" else ["--device", "auto", "--jobs", "8"]
        places = ["--cells", str(out / "real_labels"), "--minutes", f"{seconds / 60:.2f}"]
        return ["analysis.real_labels", "run", *given, *places]


STEPS = {
    step.name: step
    for step in (
        Speed("speed", "images a second, eager and compiled", 0.25),
        DistilledStep("distill", "students of the real model at full budget", 0.75),
        RealLabels("labels", "the tables on Fashion-MNIST, from scratch", 0.5),
    )
}
