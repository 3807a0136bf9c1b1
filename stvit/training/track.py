"""Curves in TensorBoard or Weights & Biases, through accelerate's trackers; the journal is written in any case."""

from __future__ import annotations

import math
from pathlib import Path

from accelerate import Accelerator

from stvit.extras import require
from stvit.training.config import TrainConfig

PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb"}
PROJECT = "stvit"


def trackers(config: TrainConfig) -> list[str]:
    """The trackers that ``--track`` names, each installed."""
    names = [name.strip() for name in config.track.split(",") if name.strip()]
    for name in names:
        if name not in PACKAGES:
            raise ValueError(f"--track is {name!r}; choose from {', '.join(PACKAGES)}")
        require(PACKAGES[name], f"--track {name}")
    return names


def begin(accelerator: Accelerator, config: TrainConfig) -> None:
    """Open the trackers with the options of the run; TensorBoard's files are in ``OUT/stvit``."""
    if not accelerator.log_with:
        return
    options = {
        k: v if isinstance(v, (int, float, str, bool)) else str(v) for k, v in config.identity().items()
    }
    name = {"wandb": {"name": Path(config.out).name, "dir": config.out}}
    accelerator.init_trackers(PROJECT, options, {k: v for k, v in name.items() if k in config.track})


def write(accelerator: Accelerator, step: int, **values) -> None:
    """The finite numbers among ``values``, at ``step``."""
    if accelerator.log_with:
        numbers = {k: v for k, v in values.items() if isinstance(v, (int, float)) and math.isfinite(v)}
        accelerator.log(numbers, step=step)
