"""Pruning: some tokens are kept, the others dropped. By class attention, or at random as a control."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from stvit.reduce.about import About
from stvit.reduce.plan import Kept, Plan
from stvit.reduce.reduction import Reduction, Seen, check_count, check_rate, kept_count


class TopK(Reduction):
    """The ⌈keep_rate · N⌉ tokens with the highest class attention are kept, in descending order."""

    about: ClassVar[About] = About(
        paper="EViT's control",
        looks_at="class attention",
        keeps="the most attentive tokens",
        origin="JoakimHaurum/TokenReduction",
        licence="MIT",
    )
    needs_class_token: ClassVar[bool] = True

    def __init__(self, dim: int, keep_rate: float = 0.7):
        super().__init__()
        self.keep_rate = check_rate(keep_rate)

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        kept = kept_count(x.shape[1], self.keep_rate)
        if kept == x.shape[1]:
            return Plan()
        return Plan((Kept(seen.class_attention().topk(kept, dim=1).indices),))

    def extra_repr(self) -> str:
        return f"keep_rate={self.keep_rate}"


class RandomTokens(TopK):
    """As many tokens, chosen at random: anew each time in training, else fixed by ``seed``.

    The fixed choice is one of places, the same for all images, so that a model in evaluation is a
    function of its input; repeat it over seeds.
    """

    about: ClassVar[About] = About(
        paper="control",
        looks_at="nothing",
        keeps="tokens at random places",
        origin="ours",
        licence="MIT",
    )
    needs_class_token: ClassVar[bool] = False
    period: ClassVar[int] = 4096

    def __init__(self, dim: int, keep_rate: float = 0.7, seed: int = 0):
        super().__init__(dim, keep_rate)
        self.seed = check_count("seed", seed)
        draw = torch.rand(self.period, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("draw", draw, persistent=False)

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        batch, total = x.shape[:2]
        kept = kept_count(total, self.keep_rate)
        if kept == total:
            return Plan()
        if self.training:
            draw = torch.rand(batch, total, device=x.device)
        else:
            draw = self.draw[torch.arange(total, device=x.device) % self.period].expand(batch, -1)
        return Plan((Kept(draw.topk(kept, dim=1).indices.sort(dim=1).values),))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, seed={self.seed}"
