"""Settings that are trained before they are measured: each student learns to give what the dense model gives.

No labels are needed. Photographs that are learned from are never measured on: one in five is held out.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from analysis.crops import cut
from analysis.offtheshelf import settings
from analysis.offtheshelf.settings import Setting

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stvit.data.photographs import Photograph

HELD_OUT = 5  # of so many photographs one is measured on
BATCH = 100
PRECISION = "bf16"


class TuningBudget(NamedTuple):
    """What each setting is trained for."""

    crops: int
    passes: int

    def __str__(self) -> str:
        return f"{self.passes} {'pass' if self.passes == 1 else 'passes'} over {self.crops:,} crops"


def split(photographs: Sequence[Photograph]) -> tuple[list[Photograph], list[Photograph]]:
    """Those to learn from, and those to measure on."""
    if len(photographs) < 2:
        raise ValueError(
            "--tune distill learns from some images and measures on others, and there is only one"
        )
    held_out = set(range(0, len(photographs), HELD_OUT))
    parts: tuple[list, list] = [], []
    for number, photograph in enumerate(photographs):
        parts[number in held_out].append(photograph)
    return parts


@dataclass
class Tuner:
    """Trains settings of one dense model.

    folder: where a training that is stopped leaves what it has
    test: images (n, 3, H, W) uint8 on which a training tells its score
    """

    dense: nn.Module
    photographs: Sequence[Photograph]
    test: Tensor
    budget: TuningBudget
    device: str
    seed: int
    folder: Path
    kept: dict = field(default_factory=dict)  # number of shared layers → what the dense model said

    def build(self, setting: Setting) -> nn.Module:
        """The dense model with the reductions of ``setting``, trained."""
        from stvit.distill import distill

        student, out = settings.build(self.dense, setting), self.folder / setting.key
        learned, test = self.said(student)
        with contextlib.redirect_stdout(sys.stderr):  # a table may be printed as JSON
            trained = distill(
                student, self.dense, learned, test, out=out, epochs=self.budget.passes, seed=self.seed,
                batch_size=min(BATCH, self.budget.crops), precision=PRECISION,
                device="cpu" if self.device == "cpu" else "auto",
            ).student  # fmt: skip
        shutil.rmtree(out)
        return trained.to("cpu")

    def said(self, student: nn.Module) -> tuple:
        """What the dense model says of the crops, computed once for all students that share as many layers with it."""
        from stvit.training.late_layers import layers_kept
        from stvit.training.taught import ask

        done = layers_kept(student)
        if done not in self.kept:
            cache = self.folder / "said"
            self.kept[done] = tuple(
                ask(self.dense, images, (done,), cache, precision=precision)[done]
                for images, precision in ((self.crops(), PRECISION), (self.test, "no"))
            )
        return self.kept[done]

    def crops(self) -> Tensor:
        """(n, 3, H, W) uint8, drawn from other places than the crops that are measured on."""
        size = self.test.shape[-1]
        return channels_first(cut(self.photographs, self.budget.crops, size, self.seed + 1).images)


def channels_first(images) -> Tensor:
    """(n, H, W, 3) → (n, 3, H, W)."""
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
