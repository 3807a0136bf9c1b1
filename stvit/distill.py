"""Turn a dense model into one of few tokens without labels: the student learns to give what its teacher gives.

    teacher = stvit.pretrained("dinov2_small", img_size=126)
    student = stvit.sparsify(teacher, tokens=16, at=5)
    student, scores = stvit.distill(student, teacher, images)      # (N, 3, 126, 126) uint8, or a folder of images
    scores["cosine"]                                              # of held-out images, in per cent

The student's first layers are its teacher's and stay frozen, so that the teacher's tokens behind them and its class
feature are computed once for each image and kept in half precision; only the later layers are trained, on few
tokens. ``python -m stvit.train --task distill`` is the same from the command line.
"""

from __future__ import annotations

import copy
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from timm.models import is_model
from torch import Tensor, nn

from stvit.data.unlabelled import unlabelled
from stvit.training.adapters import merged
from stvit.training.config import TrainConfig
from stvit.training.distill import Distill
from stvit.training.late_layers import check_fit, layers_kept
from stvit.training.taught import Taught, ask


class Distilled(NamedTuple):
    """The trained student, in evaluation mode, and its scores on held-out images."""

    student: nn.Module
    scores: dict


def distill(
    student: nn.Module,
    teacher: nn.Module,
    images: Tensor | Taught | str | Path,
    held_out: Tensor | Taught | None = None,
    full: bool = False,
    out: str | Path | None = None,
    cache: str | Path = "",
    **options,
) -> Distilled:
    """A trained copy of ``student``; a run that is in ``out`` and was stopped goes on.

    images: (N, 3, H, W) uint8; or what the teacher said of them before (``stvit.training.taught.ask``); or a folder,
        "photographs" (of installed packages), "scenes" or the name of a small set, as ``--data`` takes them
    held_out: images that are not learned from (default: the last tenth of ``images``; of a folder one in five)
    full: all layers learn, not only those after the base
    out: folder of checkpoint and journal (default: none is kept)
    cache: folder for the teacher's tokens, where they are too many for the memory
    options: of ``TrainConfig``, such as epochs, batch_size, lr, precision, seed; map_weight=1 learns the teacher's map
        too, for a student that has one (``sparsify(…, recovery=True)``)
    """
    from stvit.train import (
        train,  # a command of its own, which ``import stvit`` must not have imported before it runs
    )

    done = layers_kept(student, full)
    check_fit(student, teacher, done)
    if isinstance(images, (str, Path)):
        images, held_out = named_images(str(images), teacher, options)
    taught, test = asked(teacher, images, held_out, done, cache, options.get("map_weight", 0) > 0)
    student = copy.deepcopy(student)
    architecture = getattr(student, "pretrained_cfg", {}).get("architecture", "")
    named = {"model": architecture} if architecture and is_model(architecture) else {}
    with tempfile.TemporaryDirectory() if out is None else nullcontext(out) as folder:
        given = {"task": "distill", **named, "out": str(folder), **options}
        config = TrainConfig.of(**given)
        scores = train(config, Distill(student, teacher, taught, test, full))
    trained = merged(student) if config.adapters else student
    return Distilled(trained.requires_grad_(True).eval(), scores)


def named_images(data: str, teacher: nn.Module, options: dict) -> tuple[Tensor, Tensor]:
    """Images to learn from and to test on, at the teacher's size."""
    size = teacher.patch_embed.img_size[0]
    counts = {"train_images": 10000, "eval_images": 2000, "data_seed": 0, **options}
    return unlabelled(data, size, counts["train_images"], counts["eval_images"], counts["data_seed"])


def asked(teacher, images, held_out, done: int, cache, maps: bool = False) -> tuple[Taught, Taught]:
    """What the teacher says of both sets, after the layers that the student shares with it."""
    if held_out is None:
        if isinstance(images, Taught):
            raise ValueError("name held_out too: what the teacher said of images that are not learned from")
        if len(images) < 2:
            raise ValueError(
                f"{len(images)} images cannot be split into some to learn from and others to test on"
            )
        cut = len(images) - max(1, len(images) // 10)
        images, held_out = images[:cut], images[cut:]
    sets = [
        given if isinstance(given, Taught) else ask(teacher, given, (done,), cache, maps=maps)[done]
        for given in (images, held_out)
    ]
    for given in sets:
        if given.done != done:
            raise ValueError(
                f"the teacher's tokens are those after layer {given.done}, and this student reads them after layer "
                f"{done}: ask for layers=({done},)"
            )
    return sets[0], sets[1]
