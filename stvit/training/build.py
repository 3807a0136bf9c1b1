"""From a configuration to what trains: model, loss, optimizer, schedule."""

from __future__ import annotations

from contextlib import nullcontext

import timm
import torch
import torch.nn.functional as F
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn

from stvit.checkpoints import fill, load_checkpoint, read_state_dict
from stvit.models.reduced_vit import decisions
from stvit.record import unwrap
from stvit.reduce.dynamicvit import Decision, ratio_loss
from stvit.training import newton_schulz
from stvit.training.base import head_names, open_base, without_other_heads
from stvit.training.config import TrainConfig, check_model
from stvit.training.token_labels import TokenLabels


def build_model(config: TrainConfig, num_classes: int) -> nn.Module:
    """The registered model from seed or from ``config.init``, or what ``config.base`` and ``config.method`` make."""
    torch.manual_seed(config.seed)
    model = open_base(config, num_classes) if config.base else create(config, num_classes)
    if config.keep_rate and not hasattr(model, "set_keep_rate"):
        raise ValueError(f"{config.model} has no keep rate to schedule; leave --keep-rate out")
    if config.init:
        tensors = initial_weights(config.init, num_classes)
        fill(model, without_other_heads(tensors, model), strict=False, source=config.init)
    return model


def create(config: TrainConfig, num_classes: int) -> nn.Module:
    check_model(config.model)
    args = dict(config.model_args)
    if config.drop_path:
        args["drop_path_rate"] = config.drop_path
    return timm.create_model(config.model, **{**args, "num_classes": num_classes})


def initial_weights(source: str, num_classes: int) -> dict[str, Tensor]:
    name = timm_name(source)
    if name:
        return timm.create_model(name, pretrained=True, num_classes=num_classes).state_dict()
    return read_state_dict(source)


def soft_labels(targets: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Class numbers (B,) as smoothed distributions (B, K); distributions as they are."""
    if targets.ndim == 2:
        return targets
    return F.one_hot(targets, num_classes).float() * (1 - smoothing) + smoothing / num_classes


def timm_name(source: str) -> str:
    """NAME of ``timm:NAME``; empty for a path."""
    kind, colon, name = source.partition(":")
    if kind == "timm" and colon:
        check_model(name)
        return name
    return ""


def open_model(source: str, num_classes: int, role: str) -> nn.Module:
    """A trained model that gives its opinion and does not learn: ``timm:NAME`` or a checkpoint."""
    name = timm_name(source)
    model = (
        timm.create_model(name, pretrained=True, num_classes=num_classes) if name else load_checkpoint(source)
    )
    if getattr(model, "num_classes", num_classes) != num_classes:
        raise ValueError(f"the {role} knows {model.num_classes} classes, the data has {num_classes}")
    return model.eval().requires_grad_(False)


class Criterion:
    """The loss of a batch: classes, a teacher's opinion, and kept tokens where a model decides on them."""

    def __init__(self, config: TrainConfig, num_classes: int, model: nn.Module, device: torch.device):
        self.config, self.num_classes, self.model = config, num_classes, model
        self.soft = SoftTargetCrossEntropy()
        self.mixup = None
        if config.mixup or config.cutmix:
            self.mixup = Mixup(
                config.mixup, config.cutmix, label_smoothing=config.smoothing, num_classes=num_classes
            )
        self.teacher = None
        if config.distill_from:
            self.teacher = open_model(config.distill_from, num_classes, "teacher").to(device)
        self.token_labels = None
        if config.annotator:
            annotator = open_model(config.annotator, num_classes, "annotator").to(device)
            self.token_labels = TokenLabels(model, annotator, config.token_weight)
        self.decides = any(isinstance(module, Decision) for module in model.modules())

    def __call__(self, forward, images: Tensor, targets: Tensor) -> Tensor:
        config = self.config
        if self.mixup is not None:
            images, targets = self.mixup(images, targets)
        if self.token_labels is not None:
            return self.token_labels(
                forward, images, soft_labels(targets, self.num_classes, config.smoothing)
            )
        with decisions(unwrap(self.model)) if self.decides else nullcontext() as kept:
            logits = forward(images)
        if targets.ndim == 2:
            loss = self.soft(logits, targets)
        else:
            loss = F.cross_entropy(logits, targets, label_smoothing=config.smoothing)
        if self.teacher is not None:
            loss = torch.lerp(loss, self.distillation(logits, images), config.distill_weight)
        if kept:
            rate = next(m.keep_rate for m in self.model.modules() if hasattr(m, "keep_rate"))
            loss = loss + config.ratio_weight * ratio_loss(kept, rate)
        return loss

    def distillation(self, logits: Tensor, images: Tensor) -> Tensor:
        """KL(teacher ‖ student) at a temperature, times its square, so that gradients keep their size."""
        t = self.config.distill_temperature
        with torch.no_grad():
            opinion = (self.teacher(images) / t).log_softmax(-1)
        student = (logits / t).log_softmax(-1)
        return F.kl_div(student, opinion, reduction="batchmean", log_target=True) * t**2


def build_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """timm's optimizer of this name; ``config.backbone_rate`` scales the rate of all but the classifier."""
    optimizer = newton_schulz.registry().create_optimizer(
        model,
        opt=config.opt,
        lr=config.lr,
        weight_decay=config.weight_decay,
        layer_decay=config.layer_decay or None,
        **({"fused": True} if config.task == "distill" and config.opt == "adamw" else {}),
    )
    if config.backbone_rate != 1:
        fresh = {id(p) for name, p in model.named_parameters() if is_fresh(name, model)}
        optimizer.param_groups[:] = [
            part for group in optimizer.param_groups for part in split(group, fresh, config.backbone_rate)
        ]
    return optimizer


def is_fresh(name: str, model: nn.Module) -> bool:
    """Is it of the classifier, or of a distilled student what it does not have from its teacher?"""
    return name in model.fresh if hasattr(model, "fresh") else name.startswith(head_names(model))


def split(group: dict, fresh: set[int], rate: float) -> list[dict]:
    """A group's fresh parameters, and the others with their learning rate scaled."""
    parts = []
    for is_new, factor in ((True, 1.0), (False, rate)):
        params = [p for p in group["params"] if (id(p) in fresh) is is_new]
        parts.append({**group, "params": params, "lr_scale": group.get("lr_scale", 1.0) * factor})
    return [part for part in parts if part["params"]]


def build_schedule(config: TrainConfig, optimizer: torch.optim.Optimizer, steps: int):
    """timm's schedule by update; warm-up may be a part of an epoch."""
    given = (
        {"decay_milestones": [float(e) for e in config.milestones.split(",")]} if config.milestones else {}
    )
    schedule, _ = create_scheduler_v2(
        optimizer,
        sched=config.sched,
        num_epochs=config.epochs,
        warmup_epochs=config.warmup_epochs,
        warmup_lr=config.warmup_lr,
        min_lr=config.min_lr,
        decay_rate=config.decay_rate,
        **given,
        step_on_epochs=False,
        updates_per_epoch=steps,
    )
    return schedule
