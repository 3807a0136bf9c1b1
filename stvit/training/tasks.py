"""What is trained for: a task names its batches, its model, its loss and its scores; the loop is the same.

    task = create_task(config.task)                     # classify, segment, detect or distill
    source = task.open_source(config, share)            # .steps, .class_names, .train(epoch), .evaluate()
    model = task.build_model(config, source)
    loss = task.criterion(config, source, model, device)(model, images, targets)
    scores = task.evaluate(model, source, device)       # {"miou": …, "images": …}, as JSON can hold it
    task.export(model, folder, record)

Images and targets may be tensors, or lists and dicts of them: ``Trainer`` moves what is nested to the
device. A task is imported when it is asked for, so that its extra packages are needed only then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from stvit.training.config import check_model
from stvit.training.recipes import DENSE

if TYPE_CHECKING:
    from stvit.data.share import Share
    from stvit.training.config import TrainConfig

TASKS = {
    "classify": "stvit.training.classify:Classify",
    "segment": "stvit.dense.segmentation.task:Segment",
    "detect": "stvit.dense.detection.task:Detect",
    "distill": "stvit.training.distill:NamedDistill",
}
PRECISIONS = ("no", "bf16", "fp16")
LABELS = {
    "top1": "top-1",
    "miou": "mIoU",
    "ap": "AP",
    "cosine": "centred cosine",
}  # how people write a headline

CLASSIFICATION_ALONE = (
    "smoothing", "mixup", "cutmix", "auto_augment", "reprob", "distill_from", "keep_rate", "base", "annotator",
)  # fmt: skip
LABELS_ALONE = tuple(name for name in CLASSIFICATION_ALONE if name not in ("base", "keep_rate"))
DISTILLATION_ALONE = ("full", "adapters", "map_weight")

Loss = Callable[[Callable, Any, Any], Tensor]  # of (forward, images, targets)


class Source(Protocol):
    """Batches of this process; those of all processes together are what one process would have had."""

    steps: int
    class_names: tuple[str, ...]

    def train(self, epoch: int) -> Iterator[tuple[Any, Any]]: ...

    def evaluate(self) -> Iterator[tuple[Any, Any]]: ...


Images = TypeVar("Images", bound=Source)


class Task(Protocol[Images]):
    """What a training is for. ``headline`` is the score, in per cent, that progress and records show.

    evaluate: scores over the images of all processes: the headline and ``images``, with the headline's
        half width as ``<headline>_half`` and the ``loss`` on these images where the task has them
    export: the trained model as the task's loader reads it, with the record of what made it
    """

    headline: str

    def open_source(self, config: TrainConfig, share: Share) -> Images: ...

    def build_model(self, config: TrainConfig, source: Images) -> nn.Module: ...

    def criterion(
        self, config: TrainConfig, source: Images, model: nn.Module, device: torch.device
    ) -> Loss: ...

    def evaluate(self, model: nn.Module, source: Images, device: torch.device) -> dict: ...

    def export(self, model: nn.Module, folder: Path, record: dict) -> None: ...


def create_task(name: str) -> Task:
    """The task of this name; an ImportError says what to install where it needs more than stvit does."""
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; choose one of {', '.join(TASKS)}")
    module, attribute = TASKS[name].split(":")
    return getattr(import_module(module), attribute)()


def check_options(config: TrainConfig) -> None:
    """ValueError where an option would silently do nothing, or cannot be."""
    if config.device not in ("auto", "cpu"):
        raise ValueError(
            f"--device is auto (a GPU where there is one) or cpu, not {config.device!r}; CUDA_VISIBLE_DEVICES chooses "
            "a GPU"
        )
    if not config.base:
        check_model(config.model)
    if config.precision not in PRECISIONS:
        raise ValueError(f"unknown precision {config.precision!r}; choose one of {', '.join(PRECISIONS)}")
    refuse_idle(config)


def refuse_idle(config: TrainConfig) -> None:
    """ValueError for an option of another task."""
    elsewhere = {"distill": LABELS_ALONE, **dict.fromkeys(DENSE, CLASSIFICATION_ALONE)}.get(config.task, ())
    idle = [name for name in elsewhere if getattr(config, name)]
    if idle:
        raise ValueError(
            f"--{idle[0].replace('_', '-')} is for classification, --task {config.task} has no use for it; leave it out"
        )
    idle = [name for name in DISTILLATION_ALONE if config.task != "distill" and getattr(config, name)]
    if idle:
        raise ValueError(f"--{idle[0]} is to distill, --task {config.task} has no use for it; leave it out")
