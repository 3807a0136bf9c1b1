"""DiffRate: differentiable compression rates (Chen et al., ICCV 2023), with the rates that its authors found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from stvit.reduce.about import About
from stvit.reduce.plan import Absorbed, Plan, take
from stvit.reduce.reduction import Reduction, Seen

Rates = tuple[
    tuple[int, ...], tuple[int, ...]
]  # tokens left by pruning and by merging, the class token among them
# Published rates of DeiT at 224 × 224, by size and GFLOPs.
SCHEDULES: dict[str, Rates] = {
    "deit_tiny 0.6": (
        (197, 196, 180, 157, 130, 107, 86, 73, 63, 51, 40, 3),
        (197, 187, 167, 139, 114, 90, 76, 66, 57, 45, 37, 3),
    ),
    "deit_tiny 0.8": (
        (197, 197, 196, 186, 166, 147, 117, 103, 92, 80, 74, 3),
        (197, 196, 190, 172, 154, 125, 107, 96, 84, 78, 70, 3),
    ),
    "deit_small 2.3": (
        (197, 192, 168, 143, 121, 105, 92, 74, 62, 45, 33, 3),
        (197, 180, 156, 127, 109, 98, 80, 66, 52, 37, 31, 3),
    ),
    "deit_small 2.7": (
        (197, 196, 182, 160, 141, 127, 115, 105, 88, 66, 49, 3),
        (197, 188, 170, 147, 131, 119, 109, 96, 76, 54, 45, 3),
    ),
    "deit_small 2.9": (
        (197, 196, 190, 168, 150, 139, 129, 117, 99, 78, 58, 3),
        (197, 194, 176, 156, 141, 133, 121, 107, 88, 64, 56, 3),
    ),
    "deit_base 10.0": (
        (197, 194, 182, 168, 148, 129, 113, 101, 82, 49, 25, 3),
        (197, 186, 174, 156, 137, 117, 105, 90, 66, 31, 19, 3),
    ),
    "deit_base 11.5": (
        (197, 197, 197, 188, 170, 154, 139, 123, 107, 72, 43, 3),
        (197, 197, 192, 178, 158, 145, 127, 111, 94, 50, 35, 3),
    ),
    "dense": ((197,), (197,)),
}


class DiffRate(Reduction):
    """In each layer the least attentive tokens are pruned, and the next ones merged, at rates of its own.

    1. Tokens are sorted by class attention and cut to the layer's first number.
    2. Those beyond its second number go into the most similar of the others (cosine of the tokens), as plain means.
    3. Sizes, those of merged tokens times their similarity, draw attention in proportion.
    """

    about: ClassVar[About] = About(
        paper="DiffRate, Chen et al., ICCV 2023",
        looks_at="class attention, then the tokens",
        keeps="the most attentive tokens, the next ones merged into them",
        origin="OpenGVLab/DiffRate",
        licence="none given",
    )
    needs_class_token: ClassVar[bool] = True
    identity: ClassVar[dict] = {"schedule": "dense"}

    def __init__(
        self,
        dim: int,
        schedule: str | Rates = "deit_small 2.7",
        layer: int = 1,
        depth: int = 12,
        tokens: int = 196,
    ):
        super().__init__()
        if isinstance(schedule, str):
            if schedule not in SCHEDULES:
                raise ValueError(f"unknown schedule {schedule!r}; choose one of {', '.join(SCHEDULES)}")
            schedule = SCHEDULES[schedule]
        pruned, merged = schedule
        if len(pruned) != len(merged) or not len(pruned):
            raise ValueError(f"a schedule has two numbers a layer, not {len(pruned)} and {len(merged)}")
        place = (layer - 1) * len(pruned) // depth
        whole = max(pruned[0], merged[0]) - 1  # the image tokens that the rates were found for
        self.left = tuple((numbers[place] - 1) / whole for numbers in (pruned, merged))

    @staticmethod
    def layers(depth: int) -> tuple[int, ...]:
        return tuple(range(1, depth + 1))

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        kept, stay = (min(max(1, int(left * seen.initial + 0.5)), x.shape[1]) for left in self.left)
        stay = min(stay, kept)
        if stay == x.shape[1]:
            return Plan(mass=seen.mass)
        order = seen.class_attention().argsort(dim=1, descending=True)[:, :kept]
        size = x.new_ones(x.shape[:2]) if seen.mass is None else seen.mass  # (B, N)
        index, sources = order[:, :stay], order[:, stay:]
        likeness, target = cosine_between(take(x, sources), take(x, index)).max(dim=2)  # (B, kept − stay)
        members = torch.ones_like(index, dtype=x.dtype).scatter_add(
            1, target, torch.ones_like(target, dtype=x.dtype)
        )
        share = 1 / members.gather(1, target)
        gain = size.gather(1, sources) * likeness.clamp_min(0)
        mass = size.gather(1, index).scatter_add(1, target, gain)
        return Plan((Absorbed(index, sources, target, share),), mass)

    def key_bias(self, mass: Tensor, prefix: int) -> Tensor | None:
        return F.pad(mass.log(), (prefix, 0))[:, None, None]

    def extra_repr(self) -> str:
        return "prunes to {:.3f}, merges to {:.3f} of the image's tokens".format(*self.left)


def cosine_between(a: Tensor, b: Tensor) -> Tensor:
    """(B, n, C), (B, m, C) → (B, n, m)."""
    return F.normalize(a, dim=2) @ F.normalize(b, dim=2).transpose(1, 2)


def read_schedules(path: str | Path) -> dict[str, Rates]:
    """The schedules in the authors' ``compression_rate.json``, by model and GFLOPs: "ViT-S-DeiT 2.7" and so on.

    Those without pruning numbers (of CAFormer) are left out.
    """
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    schedules = {}
    for model, by_flops in content.items():
        for flops, numbers in by_flops.items():
            read = [
                json.loads(numbers[key].replace("None", "null"))
                for key in ("prune_kept_num", "merge_kept_num")
            ]
            if all(read):
                schedules[f"{model} {flops}"] = tuple(map(tuple, read))
    return schedules
