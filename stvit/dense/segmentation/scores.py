"""mIoU by the convention of ADE20K: one confusion matrix over the pixels of all images, then class by class.

Pixels of the label ``IGNORED`` count nowhere. IoU is true positives over the union, in per cent; the mean
goes over the classes that are there or were told at least once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from stvit.dense.segmentation.inference import predict

IGNORED = 255  # the label of pixels that count neither for the loss nor for the score


def create_metrics(num_classes: int) -> MetricCollection:
    settings = dict(num_classes=num_classes, ignore_index=IGNORED, validate_args=False)
    return MetricCollection(
        {
            "iou": MulticlassJaccardIndex(average="none", zero_division=torch.nan, **settings),
            "pixels": MulticlassAccuracy(average="micro", **settings),
        }
    )


def scores(metrics: MetricCollection) -> dict:
    """Percentages; the IoU of a class is None where there was nothing of it."""
    found = metrics.compute()
    each = 100 * found["iou"].double()
    if each.isnan().all():
        raise ValueError(
            f"every pixel of the evaluation images is unlabelled ({IGNORED}), so that there is no mIoU"
        )
    return {
        "miou": float(each.nanmean()),
        "pixel_accuracy": 100 * float(found["pixels"]),
        "iou": [None if value != value else round(value, 4) for value in each.tolist()],
    }


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    num_classes: int,
    device: str | torch.device = "cpu",
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> dict:
    """Scores over all images (B, 3, H, W) with labels (B, H', W'), and over those of all processes."""
    was_training = model.training
    model.eval()
    metrics, count = create_metrics(num_classes).to(device), torch.zeros(1, device=device)
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device).long()
        told = predict(model, images, tuple(labels.shape[1:]), scales, flip).argmax(1)  # (B, H', W')
        metrics.update(told, labels)
        count += len(images)
    model.train(was_training)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(count)
    images = int(count)
    if not images:
        raise ValueError("there are no images to evaluate")
    return {"images": images, **scores(metrics)}
