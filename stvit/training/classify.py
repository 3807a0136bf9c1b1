"""Classification as a task: one label an image, scored by top-1."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from stvit.checkpoints import save_checkpoint
from stvit.data.folders import TimmSource
from stvit.data.opened import kind_of, open_source
from stvit.data.share import Share
from stvit.training import build
from stvit.training.config import TrainConfig
from stvit.training.repeats import repeat_images
from stvit.training.scores import evaluate
from stvit.training.tasks import Source


class Classify:
    """See ``stvit.training.tasks.Task``."""

    headline = "top1"

    def open_source(self, config: TrainConfig, share: Share) -> Source:
        source = open_source(config, share)
        if config.repeats > 1 and isinstance(source, TimmSource):
            repeat_images(source, config.repeats, config.seed)
        self.images, self.class_names = image_settings(config), source.class_names
        return source

    def build_model(self, config: TrainConfig, source) -> nn.Module:
        return build.build_model(config, len(source.class_names))

    def criterion(self, config: TrainConfig, source, model: nn.Module, device: torch.device):
        return build.Criterion(config, len(source.class_names), model, device)

    def evaluate(self, model: nn.Module, source, device: torch.device) -> dict:
        scores = asdict(evaluate(model, source.evaluate(), len(source.class_names), device))
        return {name: value for name, value in scores.items() if name != "confusion"}

    def export(self, model: nn.Module, folder: Path, record: dict) -> None:
        """The model with the size and scale of the images it was trained on, and the names of its classes."""
        *frames, _, _ = model.pretrained_cfg["input_size"][1:]
        size = self.images["input_size"]
        if frames:
            size = (size[0], record["config"]["clip_length"], *size[1:])
        model.pretrained_cfg = {**model.pretrained_cfg, **self.images, "input_size": size}
        save_checkpoint(model, folder, record=record, class_names=self.class_names)


def image_settings(config: TrainConfig) -> dict:
    """How ``config``'s images reach the model, in the words of timm's configurations."""
    size = (3, config.image_size, config.image_size)
    return dict(input_size=size, **kind_of(config.data).pixels)
