"""Distillation as a task: a sparsified student learns to give its dense teacher's class feature, without labels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stvit.checkpoints import save_checkpoint
from stvit.data.share import Share, ShuffledOrder, in_order
from stvit.data.unlabelled import unlabelled
from stvit.models.reduced_vit import decisions
from stvit.pretrained import pretrained
from stvit.reduce.dynamicvit import Decision, ratio_loss
from stvit.training.adapters import merged
from stvit.training.base import from_checkpoint, resize, sparsified
from stvit.training.config import TrainConfig
from stvit.training.late_layers import LateLayers, check_fit, gives_maps, layers_kept
from stvit.training.taught import Taught, ask


class TaughtSource:
    """Batches of what the teacher said, in an order that seed and epoch decide."""

    class_names = ()

    def __init__(self, train: Taught, held_out: Taught, config: TrainConfig, share: Share):
        self.taught, self.held_out, self.share, self.maps = train, held_out, share, config.map_weight > 0
        self.order = ShuffledOrder(len(train), config.batch_size, config.seed, share)
        self.steps = self.order.steps

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for numbers in self.order.batches(self.order.chance(epoch)):
            yield self.taught.batch(numbers, self.maps)

    def evaluate(self) -> Iterator[tuple[Tensor, Tensor]]:
        for numbers in in_order(len(self.held_out), self.share, self.order.per_process):
            yield self.held_out.batch(numbers, self.maps)


class Distill:
    """See ``stvit.training.tasks.Task``; for a student, its teacher, and what that said of images."""

    headline = "cosine"

    def __init__(
        self, student: nn.Module, teacher: nn.Module, train: Taught, held_out: Taught, full: bool = False
    ):
        check_fit(student, teacher, train.done)
        theirs = {name for name, _ in teacher.named_parameters()}
        self.fresh = {name for name, _ in student.named_parameters()} - theirs
        self.student, self.train, self.held_out, self.full = student, train, held_out, full
        # what is common to all images: (1, C), with maps (2, C), that of the map's tokens too
        self.center = train.features.float().mean(dim=0, keepdim=True)

    def open_source(self, config: TrainConfig, share: Share) -> TaughtSource:
        if config.map_weight:
            check_maps(self.student, self.train, self.held_out)
            mean = self.train.maps.mean(dim=(0, 1), dtype=torch.float32)
            self.center = torch.stack([self.center[0], mean])
        return TaughtSource(self.train, self.held_out, config, share)

    def build_model(self, config: TrainConfig, source: TaughtSource) -> nn.Module:
        torch.manual_seed(config.seed)  # what adapters begin with
        late = LateLayers(
            self.student, self.train.done, self.train.grid, self.full, config.adapters, config.map_weight > 0
        )
        fresh = {name for name, _ in late.named_parameters() if "lora_" in name}  # what peft calls adapters
        late.fresh = fresh | {
            f"student.{name}" for name in self.fresh
        }  # at the full rate: see config.backbone_rate
        return late

    def criterion(self, config: TrainConfig, source: TaughtSource, model: nn.Module, device: torch.device):
        return FeatureLoss(model, self.center.to(device), config.ratio_weight, config.map_weight)

    def evaluate(self, model: nn.Module, source: TaughtSource, device: torch.device) -> dict:
        found = cosines(model, source.evaluate(), self.center.to(device))  # (n, 1), (n, 2) with maps
        values, mean = found[:, 0], found.mean(dim=0).tolist()
        half = 1.96 * float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0
        scores = {
            "cosine": 100 * mean[0],
            "cosine_half": 100 * half,
            "loss": 1 - mean[0],
            "images": len(values),
        }
        return {**scores, "map_cosine": 100 * mean[1]} if len(mean) > 1 else scores

    def export(self, model: nn.Module, folder: Path, record: dict) -> None:
        student = merged(model.student) if record["config"].get("adapters") else model.student
        save_checkpoint(student, folder, record=record)


class NamedDistill(Distill):
    """Teacher, student and images as a configuration names them."""

    def __init__(self):
        """All of it is opened with the source."""

    def open_source(self, config: TrainConfig, share: Share) -> TaughtSource:
        if not (config.base and config.method):
            raise ValueError(
                "--task distill needs the dense model (--base), and the way its student has fewer tokens (--method)"
            )
        numbers = config.train_images, config.eval_images, config.data_seed
        images = unlabelled(config.data, config.image_size, *numbers, config.cache)
        teacher = open_teacher(config)
        torch.manual_seed(config.seed)
        student = sparsified(teacher, config)
        done = layers_kept(student, config.full)
        train, held_out = (
            ask(teacher, part, (done,), config.cache, False, precision, maps=config.map_weight > 0)[done]
            for part, precision in zip(images, (config.precision, "no"), strict=True)
        )
        super().__init__(student, teacher, train, held_out, config.full)
        return super().open_source(config, share)


def check_maps(student: nn.Module, *sets: Taught) -> None:
    """ValueError where there is no map to learn, or to learn from."""
    if not gives_maps(student):
        raise ValueError(
            f"--map-weight is for students that give every place of the image a token, and {type(student).__name__} "
            "ends with few: make it with recovery=True, which is STViT-R"
        )
    if any(one.maps is None for one in sets):
        raise ValueError("the teacher's maps are not among what was asked of it: ask(…, maps=True)")


def open_teacher(config: TrainConfig) -> nn.Module:
    """The dense model with its pretrained weights; without them there is nothing to learn from it."""
    opened = from_checkpoint if Path(config.base).exists() else pretrained
    return resize(opened(config.base), config.image_size).eval()


class FeatureLoss:
    """1 − cosine of the class features, from which the teacher's mean feature is subtracted.

    That mean is common to all images; with it any two features look alike. The same of the map's tokens is added,
    ``map_weight`` times, where the whole map is learned; where a student takes keep decisions (DynamicViT), its own
    loss of their number.
    """

    def __init__(self, model: LateLayers, center: Tensor, ratio_weight: float, map_weight: float = 0.0):
        self.model, self.center, self.ratio_weight = model, center, ratio_weight
        self.weights = torch.tensor([1.0, map_weight], device=center.device)[: len(center)]
        self.decides = any(isinstance(module, Decision) for module in model.modules())

    def __call__(self, forward, inputs: Tensor, targets: Tensor) -> Tensor:
        with decisions(self.model) if self.decides else nullcontext() as kept:
            features = forward(inputs)
        loss = ((1 - likeness(features, targets, self.center).mean(dim=0)) * self.weights).sum()
        if kept:
            rate = next(m.keep_rate for m in self.model.modules() if hasattr(m, "keep_rate"))
            loss = loss + self.ratio_weight * ratio_loss(kept, rate)
        return loss


def cosine(features: Tensor, targets: Tensor, center: Tensor) -> Tensor:
    """(B, C) twice → (B,), of what differs from ``center``."""
    return F.cosine_similarity(features.float() - center, targets.float() - center)


def likeness(found: Tensor, targets: Tensor, center: Tensor) -> Tensor:
    """Of class features (B, C), center (1, C): (B, 1). Of features and maps (B, 1 + N, C), center (2, C): (B, 2)."""
    if found.ndim == 2:
        return cosine(found, targets, center[0])[:, None]
    feature = cosine(found[:, 0], targets[:, 0], center[0])
    places = F.cosine_similarity(found[:, 1:].float() - center[1], targets[:, 1:].float() - center[1], dim=2)
    return torch.stack([feature, places.mean(dim=1)], dim=1)


@torch.no_grad()
def cosines(model: nn.Module, batches, center: Tensor) -> Tensor:
    """For each image of ``batches``, in their order: (n, 1), with maps (n, 2)."""
    return torch.cat([likeness(f, t, center).cpu() for f, t in said(model, batches)])


@torch.no_grad()
def said(model: nn.Module, batches) -> Iterator[tuple[Tensor, Tensor]]:
    """What student and teacher say of each batch."""
    device, mode = next(model.parameters()).device, model.training
    model.eval()
    for inputs, targets in batches:
        yield model(inputs.to(device)), targets.to(device)
    model.train(mode)
