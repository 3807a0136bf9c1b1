"""The heads of one stage of the cascade: a box head (4conv1f), a mask head, and their losses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.ops import generalized_box_iou_loss, roi_align

from stvit.dense.detection.config import DetectorConfig


class BoxHead(nn.Module):
    """Convolutions with BatchNorm and one hidden layer, then classes (background first) and box deltas."""

    def __init__(self, config: DetectorConfig, num_classes: int):
        super().__init__()
        size = (config.channels, config.box_size, config.box_size)
        convs = [config.box_width] * config.box_convs
        self.shared = FastRCNNConvFCHead(size, convs, [config.box_hidden], norm_layer=nn.BatchNorm2d)
        self.classes = nn.Linear(config.box_hidden, num_classes + 1)
        self.deltas = nn.Linear(config.box_hidden, 4 * (1 if config.class_agnostic else num_classes))
        for layer, std in ((self.classes, 0.01), (self.deltas, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C, size, size) → logits (R, 1 + classes) and deltas (R, classes or 1, 4)."""
        x = self.shared(x)  # (R, hidden)
        return self.classes(x).float(), self.deltas(x).float().unflatten(1, (-1, 4))


class MaskHead(nn.Module):
    """Convolutions, one transposed convolution to twice the size, and a mask for each class."""

    def __init__(self, config: DetectorConfig, num_classes: int):
        super().__init__()
        width = config.mask_width
        self.convs = MaskRCNNHeads(config.channels, [width] * config.mask_convs, dilation=1)
        self.upsample = nn.ConvTranspose2d(width if config.mask_convs else config.channels, width, 2, 2)
        self.logits = nn.Conv2d(width, num_classes, 1)
        for layer in (self.upsample, self.logits):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(R, C, size, size) → logits (R, classes, 2·size, 2·size)."""
        return self.logits(self.upsample(self.convs(x)).relu()).float()


def of_class(values: Tensor, classes: Tensor) -> Tensor:
    """(R, K or 1, …) and class numbers from 0 (R,) → each row's own, (R, …)."""
    return values[torch.arange(len(values), device=values.device), classes if values.shape[1] > 1 else 0]


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels) if len(labels) else logits.sum() * 0


def box_loss(predicted: Tensor, truth: Tensor, samples: int) -> Tensor:
    """GIoU of the positive proposals' boxes (P, 4), over the number of all sampled proposals."""
    return generalized_box_iou_loss(predicted, truth, reduction="sum") / max(samples, 1)


def mask_targets(masks: Tensor, boxes: Tensor, index: Tensor, size: int) -> Tensor:
    """The masks (N, H, W) number ``index`` (P,) inside the boxes (P, 4), (P, size, size) of 0 and 1."""
    if not len(boxes):
        return boxes.new_zeros(0, size, size)
    rois = torch.cat([index[:, None].to(boxes), boxes], dim=1)
    return (roi_align(masks[:, None].to(boxes), rois, size, aligned=True)[:, 0] >= 0.5).to(boxes)


def mask_loss(logits: Tensor, targets: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy of each positive proposal's mask of its class; zero, with gradients, where there are none."""
    if not len(targets):
        return logits.sum() * 0
    return F.binary_cross_entropy_with_logits(of_class(logits, classes), targets)
