"""Segmentation as a task of ``stvit.train``: UperNet on the model named, scored by mIoU."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from stvit.checkpoints import fill
from stvit.data.share import Share
from stvit.dense.saved import save
from stvit.dense.segmentation.model import PRESETS, create_segmenter
from stvit.dense.segmentation.scores import IGNORED, evaluate
from stvit.dense.segmentation.source import SegmentationSource, segmentation_source
from stvit.training.build import check_model, initial_weights
from stvit.training.config import TrainConfig


class Segment:
    """See ``stvit.training.tasks.Task``.

    ``model_args`` are the backbone's; those of the heads stand in ``segmenter`` among them, as
    ``--model-args units=[[4,2,5,1]] segmenter={"channels":64}``. Micro models have the preset "micro".
    """

    headline = "miou"

    def open_source(self, config: TrainConfig, share: Share) -> SegmentationSource:
        return segmentation_source(config, share)

    def build_model(self, config: TrainConfig, source: SegmentationSource) -> nn.Module:
        check_model(config.model)
        args = {"drop_path_rate": config.drop_path, **config.model_args}
        options = {
            **PRESETS["micro" if config.model.startswith("micro") else "swin"],
            **args.pop("segmenter", {}),
        }
        torch.manual_seed(config.seed)
        model = create_segmenter(config.model, len(source.class_names), args, **options)
        if config.init:
            start_from(model, config.init)
        return model

    def criterion(
        self, config: TrainConfig, source: SegmentationSource, model: nn.Module, device: torch.device
    ):
        return loss

    def evaluate(self, model: nn.Module, source: SegmentationSource, device: torch.device) -> dict:
        return evaluate(model, source.evaluate(), len(source.class_names), device)

    def export(self, model: nn.Module, folder: Path, record: dict) -> None:
        save(model, folder, record)


def loss(forward, images: Tensor, classes: Tensor) -> Tensor:
    """Cross entropy on the labelled pixels, the auxiliary head's at 0.4; 0 where no pixel is labelled."""
    if (classes != IGNORED).any():
        return forward(images, labels=classes).loss
    return 0 * forward(images, labels=torch.zeros_like(classes)).loss


def start_from(model: nn.Module, source: str) -> None:
    """A classifier's weights for the backbone, or a whole segmenter's."""
    tensors = initial_weights(source, 0)
    if any(name.startswith("decode_head.") for name in tensors):
        fill(model, tensors, source=source)
        return
    body = model.backbone._backbone.model
    own = body.state_dict()
    fill(body, {name: value for name, value in tensors.items() if name in own}, strict=False, source=source)
