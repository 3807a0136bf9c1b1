"""The cascade: each stage classifies proposals, moves their boxes, and hands them to a stricter stage."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import clip_boxes_to_image

from stvit.dense.detection.config import DetectorConfig, Stage
from stvit.dense.detection.heads import (
    BoxHead,
    MaskHead,
    box_loss,
    classification_loss,
    mask_loss,
    mask_targets,
    of_class,
)
from stvit.dense.detection.pyramid import RoIMaps

Sizes = list[tuple[int, int]]


class CascadeStage(RoIHeads):
    """One stage: torchvision's matching, sampling, box coding and suppression around heads of its own."""

    def __init__(self, config: DetectorConfig, stage: Stage, num_classes: int):
        super().__init__(
            None, BoxHead(config, num_classes), None,
            fg_iou_thresh=stage.iou, bg_iou_thresh=stage.iou,
            batch_size_per_image=config.samples, positive_fraction=config.positive_fraction,
            bbox_reg_weights=tuple(1 / std for std in stage.stds),
            score_thresh=config.score_threshold, nms_thresh=config.nms_threshold,
            detections_per_img=config.detections,
        )  # fmt: skip
        self.masks = MaskHead(config, num_classes)
        self.weight = stage.weight

    def moved(self, deltas: Tensor, boxes: list[Tensor], classes: Tensor, sizes: Sizes) -> list[Tensor]:
        """Each image's boxes, moved by the deltas (R, K or 1, 4) of their classes (R,) and cut at the border."""
        counts = [len(b) for b in boxes]
        new = self.box_coder.decode_single(of_class(deltas, classes), torch.cat(boxes))  # (R, 4)
        return [clip_boxes_to_image(b, size) for b, size in zip(new.split(counts), sizes, strict=True)]


class Cascade(nn.Module):
    """Stages in a row, in the place of torchvision's ``roi_heads``.

    Training, for each stage:
    1. The true boxes join the proposals; a proposal that overlaps one by the stage's IoU is an object.
    2. A sample of them is classified, its boxes are moved (GIoU) and its masks drawn.
    3. The moved boxes, without the true ones among them, are the next stage's proposals.
    Evaluation: logits are averaged over stages, boxes are the last stage's, masks averaged over stages.
    """

    def __init__(self, config: DetectorConfig, num_classes: int, strides: tuple[int, ...]):
        super().__init__()
        self.config = config
        self.box_maps = RoIMaps(strides, config.box_size, config.finest, config.sampling)
        self.mask_maps = RoIMaps(strides, config.mask_size, config.finest, config.sampling)
        self.stages = nn.ModuleList(CascadeStage(config, stage, num_classes) for stage in config.stages)

    def forward(self, features: dict[str, Tensor], proposals: list[Tensor], sizes: Sizes, targets=None):
        maps = [x for name, x in features.items() if name != "pool"]
        if self.training:
            return [], self.losses(maps, proposals, sizes, targets)
        with torch.no_grad():
            return self.detect(maps, proposals, sizes), {}

    def losses(
        self, maps: list[Tensor], proposals: list[Tensor], sizes: Sizes, targets: list[dict]
    ) -> dict[str, Tensor]:
        result = {}
        for number, stage in enumerate(self.stages):
            own, proposals = self.stage_losses(stage, maps, proposals, sizes, targets)
            result |= {f"stage{number + 1}_{name}": stage.weight * value for name, value in own.items()}
        return result

    def stage_losses(self, stage: CascadeStage, maps, proposals, sizes: Sizes, targets):
        """The losses of one stage, and the proposals of the next."""
        boxes, matched, labels, _ = stage.select_training_samples(proposals, targets)  # by image
        truth = torch.cat([self.matched(t["boxes"], i) for t, i in zip(targets, matched, strict=True)])
        told, counts = torch.cat(labels), [len(b) for b in boxes]
        logits, deltas = stage.box_head(self.box_maps(maps, boxes))  # (R, 1 + K), (R, K or 1, 4)
        likely = logits.detach()[:, 1:].argmax(1)
        classes = torch.where(told > 0, told - 1, likely)  # whose deltas move a box
        moved = stage.box_coder.decode_single(of_class(deltas, classes), torch.cat(boxes))
        positive = told > 0
        losses = {
            "class": classification_loss(logits, told),
            "box": self.config.box_weight * box_loss(moved[positive], truth[positive], len(told)),
            "mask": self.config.mask_weight * self.masks_loss(stage, maps, boxes, matched, labels, targets),
        }
        true_box = positive & (torch.cat(boxes) == truth).all(1)
        following = [
            clip_boxes_to_image(b[~given], size)
            for b, given, size in zip(
                moved.detach().split(counts), true_box.split(counts), sizes, strict=True
            )
        ]
        return losses, following

    def masks_loss(self, stage: CascadeStage, maps, boxes, matched, labels, targets) -> Tensor:
        chosen = [label > 0 for label in labels]
        boxes = [b[c] for b, c in zip(boxes, chosen, strict=True)]
        logits = stage.masks(self.mask_maps(maps, boxes))  # (P, K, 2·size, 2·size)
        truth = torch.cat(
            [
                mask_targets(t["masks"], b, i[c], logits.shape[-1])
                for t, b, i, c in zip(targets, boxes, matched, chosen, strict=True)
            ]
        )
        return mask_loss(logits, truth, torch.cat(labels)[torch.cat(chosen)] - 1)

    @staticmethod
    def matched(boxes: Tensor, index: Tensor) -> Tensor:
        """The true box of each sampled proposal; zeros where the image has none."""
        return boxes[index] if len(boxes) else boxes.new_zeros(len(index), 4)

    def detect(self, maps: list[Tensor], proposals: list[Tensor], sizes: Sizes) -> list[dict[str, Tensor]]:
        scores: list[Tensor] = []
        for stage in self.stages:
            boxes = proposals
            logits, deltas = stage.box_head(self.box_maps(maps, boxes))
            scores.append(logits)
            proposals = stage.moved(deltas, boxes, logits[:, 1:].argmax(1), sizes)
        K = logits.shape[1] - 1
        deltas = deltas.expand(-1, K, 4)  # (R, K, 4)
        deltas = torch.cat([deltas[:, :1], deltas], dim=1).flatten(1)  # a place for the background, unused
        found = stage.postprocess_detections(torch.stack(scores).mean(0), deltas, boxes, sizes)
        result = [{"boxes": b, "scores": s, "labels": c} for b, s, c in zip(*found, strict=True)]
        return self.with_masks(maps, result)

    def with_masks(self, maps: list[Tensor], found: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Each detection's mask in its box, (D, 1, 2·size, 2·size): probabilities."""
        parts = self.mask_maps(maps, [image["boxes"] for image in found])
        classes = torch.cat([image["labels"] for image in found]) - 1
        masks = torch.stack([of_class(stage.masks(parts), classes).sigmoid() for stage in self.stages]).mean(
            0
        )
        counts = [len(image["boxes"]) for image in found]
        return [{**image, "masks": m[:, None]} for image, m in zip(found, masks.split(counts), strict=True)]
