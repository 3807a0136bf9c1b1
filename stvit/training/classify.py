"""Classification as a task: one label an image, scored by top-1."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from stvit.checkpoints import save_checkpoint
from stvit.data.opened import SceneSource, Share, TimmSource, open_source
from stvit.training import build
from stvit.training.config import TrainConfig
from stvit.training.scores import evaluate


class Classify:
    """See ``stvit.training.tasks.Task``."""

    headline = "top1"

    def open_source(self, config: TrainConfig, share: Share) -> SceneSource | TimmSource:
        return open_source(config, share)

    def build_model(self, config: TrainConfig, source) -> nn.Module:
        return build.build_model(config, len(source.class_names))

    def criterion(self, config: TrainConfig, source, model: nn.Module, device: torch.device):
        return build.Criterion(config, len(source.class_names), model, device)

    def evaluate(self, model: nn.Module, source, device: torch.device) -> dict:
        scores = asdict(evaluate(model, source.evaluate(), len(source.class_names), device))
        return {name: value for name, value in scores.items() if name != "confusion"}

    def export(self, model: nn.Module, folder: Path, record: dict) -> None:
        save_checkpoint(model, folder, record=record)
