"""Scores of a classifier over batches: top-1, top-5, loss, confusion and calibration, also over processes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
)


@dataclass
class Scores:
    """Percentages, with half the width of top-1's 95 % interval over images; confusion[true][predicted]."""

    images: int
    top1: float
    top1_half: float
    top5: float
    loss: float
    calibration_error: float
    confusion: list[list[int]]


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    num_classes: int,
    device: str | torch.device = "cpu",
) -> Scores:
    """Scores over all batches, and over those of all processes where there are several."""
    was_training = model.training
    model.eval()
    metrics = create_metrics(num_classes).to(device)
    total = torch.zeros(2, dtype=torch.float64, device=device)  # loss, images
    for images, targets in batches:
        images, targets = images.to(device), targets.to(device)
        logits = predict(model, images)
        metrics.update(logits.softmax(-1), targets)
        loss = nn.functional.cross_entropy(logits, targets, reduction="sum")
        total += torch.stack([loss.double(), torch.tensor(len(targets), dtype=torch.float64, device=device)])
    model.train(was_training)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
    loss, count = total.tolist()
    if not count:
        raise ValueError("there are no images to evaluate")
    found = metrics.compute()
    confusion = found["confusion"]
    top1 = 100 * int(confusion.trace()) / int(count)
    return Scores(
        images=int(count),
        top1=top1,
        top1_half=half_width(top1, int(count)),
        top5=100 * float(found["top5"]),
        loss=loss / count,
        calibration_error=100 * float(found["calibration"]),
        confusion=confusion.tolist(),
    )


def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Logits; of videos in several views (B, views, 3, T, H, W) the logarithm of their mean probabilities."""
    if images.ndim < 6:
        return model(images).float()
    logits = model(images.flatten(0, 1)).float()  # (B·views, classes)
    return logits.log_softmax(-1).unflatten(0, images.shape[:2]).logsumexp(1) - math.log(images.shape[1])


def create_metrics(num_classes: int) -> MetricCollection:
    return MetricCollection(
        {
            "top5": MulticlassAccuracy(num_classes, top_k=min(5, num_classes), average="micro"),
            "calibration": MulticlassCalibrationError(num_classes, n_bins=15),
            "confusion": MulticlassConfusionMatrix(num_classes),
        },
        compute_groups=False,
    )


def half_width(percent: float, images: int) -> float:
    """Half the width of the 95 % interval of a percentage, from the binomial distribution."""
    return 1.96 * (percent * (100 - percent) / images) ** 0.5
