"""Detection as a task of ``stvit.train``: Cascade Mask R-CNN over the model named, scored by AP."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from stvit.checkpoints import fill
from stvit.data.share import Share
from stvit.dense.detection.config import DetectorConfig
from stvit.dense.detection.evaluate import evaluate
from stvit.dense.detection.model import CascadeMaskRCNN, create_detector
from stvit.dense.detection.source import DetectionSource, detection_source
from stvit.dense.saved import save
from stvit.training.build import initial_weights
from stvit.training.config import TrainConfig


class Detect:
    """See ``stvit.training.tasks.Task``.

    ``model_args`` are the backbone's; those of the detector stand in ``detector`` among them, as
    ``--model-args units=[[4,2,5,1]] detector={"channels":64}``. Micro models have the preset "micro".
    """

    headline = "ap"

    def open_source(self, config: TrainConfig, share: Share) -> DetectionSource:
        return detection_source(config, share, DetectorConfig.of(**options_of(config)).crops)

    def build_model(self, config: TrainConfig, source: DetectionSource) -> CascadeMaskRCNN:
        args = {name: value for name, value in config.model_args.items() if name != "detector"}
        if config.drop_path:
            args["drop_path_rate"] = config.drop_path
        torch.manual_seed(config.seed)
        model = create_detector(config.model, len(source.class_names), args, **options_of(config))
        if config.init:
            start_from(model, config.init)
        return model

    def criterion(self, config: TrainConfig, source: DetectionSource, model: nn.Module, device: torch.device):
        return lambda forward, images, targets: sum(forward(images, targets).values())

    def evaluate(self, model: nn.Module, source: DetectionSource, device: torch.device) -> dict:
        return evaluate(model, source.evaluate(), source.sizes, device)

    def export(self, model: nn.Module, folder: Path, record: dict) -> None:
        save(model, folder, record)


def options_of(config: TrainConfig) -> dict:
    preset = "micro" if config.model.startswith("micro") else "swin"
    return {"preset": preset, **config.model_args.get("detector", {})}


def start_from(model: CascadeMaskRCNN, source: str) -> None:
    """A classifier's weights for the backbone, or a whole detector's."""
    tensors = initial_weights(source, 0)
    if any(name.startswith("roi_heads.") for name in tensors):
        fill(model, tensors, source=source)
        return
    body = getattr(model.backbone.body, "model", model.backbone.body)
    own = body.state_dict()
    fill(body, {name: value for name, value in tensors.items() if name in own}, strict=False, source=source)
