"""Cascade Mask R-CNN (Tables 5 and 9) over any timm backbone, on torchvision's parts.

model = create_detector("stvit_r_swin_small_patch4_window7_224", num_classes=80)
losses = model.train()(images, targets)    # lists: (3, H, W) in [0, 1]; boxes, labels from 1, masks
found = model.eval()(images)               # for each image: boxes, scores, labels, masks (D, 1, H, W)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from stvit.dense.detection.cascade import Cascade
from stvit.dense.detection.config import DetectorConfig
from stvit.dense.detection.pyramid import ProposalHead, Pyramid, StridedAnchors, create_pyramid

PASTED = 1 << 24  # pixels of masks that are drawn at a time


class Resize(GeneralizedRCNNTransform):
    """torchvision's normalising, resizing and padding; masks are drawn into the image where the box is."""

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        image_shapes: list[tuple[int, int]],
        original: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        if self.training:
            return result
        for image, shape, size in zip(result, image_shapes, original, strict=True):
            image["boxes"] = resize_boxes(image["boxes"], shape, size)
            image["masks"] = paste(image["masks"], image["boxes"], size)
        return result


def paste(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Probabilities in boxes (D, 1, m, m) → in images (D, 1, H, W), bilinear, zero outside the box."""
    height, width = size
    step = max(1, PASTED // (height * width))
    parts = [_paste(m, b, height, width) for m, b in zip(masks.split(step), boxes.split(step), strict=True)]
    return torch.cat(parts) if parts else masks.new_zeros(0, 1, height, width)


def _paste(masks: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    left, top, right, bottom = boxes.unsqueeze(2).unbind(1)  # (D, 1) each
    x = torch.arange(width, device=boxes.device) + 0.5
    y = torch.arange(height, device=boxes.device) + 0.5
    x = (x - left) / (right - left).clamp(min=1e-6) * 2 - 1  # (D, W): −1 and 1 are the box's sides
    y = (y - top) / (bottom - top).clamp(min=1e-6) * 2 - 1  # (D, H)
    grid = torch.stack(
        [x[:, None].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=3
    )  # (D, H, W, 2)
    return F.grid_sample(masks, grid.to(masks), align_corners=False)


class CascadeMaskRCNN(GeneralizedRCNN):
    """1. Resize, normalise, pad. 2. Backbone and pyramid. 3. Proposals. 4. The cascade's stages."""

    def __init__(
        self,
        pyramid: Pyramid,
        num_classes: int,
        config: DetectorConfig,
        mean: tuple[float, ...] = (0.485, 0.456, 0.406),
        std: tuple[float, ...] = (0.229, 0.224, 0.225),
    ):
        anchors = StridedAnchors(pyramid.strides, config.anchor_scale, config.anchor_ratios)
        head = ProposalHead(config.channels, len(config.anchor_ratios))
        counts = {"training": config.proposals_train, "testing": config.proposals_test}
        proposals = RegionProposalNetwork(
            anchors, head, 0.7, 0.3, config.rpn_samples, 0.5, counts, counts, nms_thresh=0.7
        )
        resize = Resize(list(config.min_sizes), config.max_size, list(mean), list(std), config.size_divisible)
        cascade = Cascade(config, num_classes, pyramid.strides[:-1])
        super().__init__(pyramid, proposals, cascade, resize)
        self.num_classes, self.config = num_classes, config

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """The backbone's exceptions, by their names here."""
        body = self.backbone.body
        inner, prefix = (body.model, "model.") if hasattr(body, "model") else (body, "")
        names = inner.no_weight_decay() if hasattr(inner, "no_weight_decay") else set()
        return {f"backbone.body.{prefix}{name}" for name in names}


def create_detector(
    backbone: str, num_classes: int, model_args: dict | None = None, preset: str = "swin", **options: object
) -> CascadeMaskRCNN:
    """A detector over the timm backbone of this name; ``options`` are those of ``DetectorConfig``."""
    config = DetectorConfig.of(preset, **options)
    pyramid = create_pyramid(backbone, config, **(model_args or {}))
    body = getattr(pyramid.body, "model", pyramid.body)
    cfg = getattr(body, "pretrained_cfg", {}) or {}
    statistics = {name: tuple(cfg[name]) for name in ("mean", "std") if name in cfg}
    model = CascadeMaskRCNN(pyramid, num_classes, config, **statistics)
    arguments = dict(backbone=backbone, num_classes=num_classes, model_args=model_args or {}, preset=preset)
    model.built_from = ("detect", {**arguments, **options})
    return model
