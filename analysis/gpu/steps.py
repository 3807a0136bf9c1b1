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
    """share: of the budget; ``words`` (out, seconds, device) are what follows ``python -m``."""

    name: str
    about: str
    share: float

    def words(self, out: Path, seconds: float, device: str) -> list[str]:
        raise NotImplementedError

    def command(self, out: Path, seconds: float, device: str) -> list[str]:
        return [sys.executable, "-m", *self.words(out, seconds, device)]


class Speed(Step):
    def words(self, out: Path, seconds: float, device: str) -> list[str]:
        table = str(out / "speed.csv")
        if device == "cpu":
            rounds = ["--batch-size", "1", "--rounds", "2", "--warmup", "1", "--threads", "1", "--no-memory"]
            return [
                "analysis.throughput",
                "--models",
                TOY_MODELS,
                "--device",
                device,
                *rounds,
                "--csv",
                table,
            ]
        rounds = [
            "--batch-size",
            "1,32,128,1024",
            "--precision",
            "bf16",
            "--compile",
            "--seconds",
            str(seconds / 12),
        ]
        return ["analysis.throughput", "--models", SPEED_MODELS, "--device", device, *rounds, "--csv", table]


class DistilledStep(Step):
    def words(self, out: Path, seconds: float, device: str) -> list[str]:
        scale, minutes = ("toy" if device == "cpu" else "full"), f"{seconds / 60:.2f}"
        places = ["--cells", str(out / "distilled"), "--cache", str(out / "cache")]
        return [
            "analysis.distilled", "run", "--scale", scale, "--device", device, "--minutes", minutes, *places,
        ]  # fmt: skip


STEPS = {
    step.name: step
    for step in (
        Speed("speed", "images a second, eager and compiled", 0.25),
        DistilledStep("distill", "students of the real model at full budget", 0.75),
    )
}
