"""From a configuration to what trains: model, loss, optimizer, schedule."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn

from stvit.checkpoints import WEIGHTS, fill, load_checkpoint, read_state_dict
from stvit.models.reduced_vit import decisions
from stvit.record import unwrap
from stvit.reduce.dynamicvit import Decision, ratio_loss
from stvit.training import newton_schulz
from stvit.training.config import TrainConfig


def build_model(config: TrainConfig, num_classes: int) -> nn.Module:
    """The registered model, from seed or from ``config.init``."""
    check_model(config.model)
    args = dict(config.model_args)
    if config.drop_path:
        args["drop_path_rate"] = config.drop_path
    torch.manual_seed(config.seed)
    model = timm.create_model(config.model, **{**args, "num_classes": num_classes})
    if config.keep_rate and not hasattr(model, "set_keep_rate"):
        raise ValueError(f"{config.model} has no keep rate to schedule; leave --keep-rate out")
    if config.init:
        tensors = initial_weights(config.init, num_classes)
        fill(model, without_other_heads(tensors, model), strict=False, source=config.init)
    return model


def check_model(name: str) -> None:
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:6])
        raise ValueError(f"no model {name!r} is registered with timm; {f'near it: {near}' if near else ''}")


def without_other_heads(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Without a classifier of another number of classes; whatever else does not fit is an error later."""
    heads = getattr(model, "pretrained_cfg", {}).get("classifier") or "head"
    prefixes = tuple(f"{name}." for name in ((heads,) if isinstance(heads, str) else heads))
    own = model.state_dict()
    return {
        name: value
        for name, value in tensors.items()
        if not (name.startswith(prefixes) and name in own and own[name].shape != value.shape)
    }


def initial_weights(source: str, num_classes: int) -> dict[str, Tensor]:
    kind, colon, name = source.partition(":")
    if kind == "timm" and colon:
        return timm.create_model(name, pretrained=True, num_classes=num_classes).state_dict()
    path = Path(source)
    return read_state_dict(path / WEIGHTS if path.is_dir() else path)


class Criterion:
    """The loss of a batch: classes, a teacher's opinion, and kept tokens where a model decides on them."""

    def __init__(self, config: TrainConfig, num_classes: int, model: nn.Module, device: torch.device):
        self.config, self.model = config, model
        self.soft = SoftTargetCrossEntropy()
        self.mixup = None
        if config.mixup or config.cutmix:
            self.mixup = Mixup(
                config.mixup, config.cutmix, label_smoothing=config.smoothing, num_classes=num_classes
            )
        self.teacher = load_teacher(config, num_classes, device) if config.distill_from else None
        self.decides = any(isinstance(module, Decision) for module in model.modules())

    def __call__(self, forward, images: Tensor, targets: Tensor) -> Tensor:
        config = self.config
        if self.mixup is not None:
            images, targets = self.mixup(images, targets)
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


def load_teacher(config: TrainConfig, num_classes: int, device: torch.device) -> nn.Module:
    kind, colon, name = config.distill_from.partition(":")
    if kind == "timm" and colon:
        teacher = timm.create_model(name, pretrained=True, num_classes=num_classes)
    else:
        teacher = load_checkpoint(config.distill_from)
    if getattr(teacher, "num_classes", num_classes) != num_classes:
        raise ValueError(f"the teacher tells {teacher.num_classes} classes apart, the data has {num_classes}")
    return teacher.eval().requires_grad_(False).to(device)


def build_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    return newton_schulz.registry().create_optimizer(
        model,
        opt=config.opt,
        lr=config.lr,
        weight_decay=config.weight_decay,
        layer_decay=config.layer_decay or None,
    )


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
