"""Methods that decide token by token, so that each image keeps as many as it needs: SPViT, IA-RED²."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor

from stvit.reduce.dynamicvit import Decision, DynamicViT
from stvit.reduce.plan import Plan, standing
from stvit.reduce.reduction import HostBlock, PruningBlock, Reduction, Seen


class Deciding(Reduction):
    """In front of a layer, tokens with a probability of staying of at most ``threshold`` leave.

    In training all tokens stay, decisions are drawn, and those dropped are masked out of everybody's attention but
    their own, as in DynamicViT; ``decisions(model)`` hands them to a loss. In evaluation they leave.
    """

    def __init__(self, threshold: float = 0.5):
        super().__init__()
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold must be a probability, at least 0 and below 1, not {threshold!r}")
        self.threshold = threshold
        self.decide = Decision()

    @property
    def pads(self) -> bool:
        """In training, and without a threshold, all tokens stay."""
        return not self.training and self.threshold > 0

    def staying(self, x: Tensor, seen: Seen) -> Tensor:
        """Each token's probability of staying: (B, N)."""
        raise NotImplementedError

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        if self.threshold == 0:
            return Plan(mass=seen.mass)
        probability = self.staying(x, seen)
        if self.training:
            return Plan(mass=self.draw(probability, seen.mass))
        part = standing(self.stay(probability, seen.mass))
        return Plan((part,), part.valid.to(x.dtype))

    def draw(self, probability: Tensor, before: Tensor | None) -> Tensor:
        odds = torch.stack([probability, 1 - probability], dim=2)
        return self.decide(odds.clamp_min(torch.finfo(odds.dtype).tiny).log(), before)

    def stay(self, probability: Tensor, before: Tensor | None) -> Tensor:
        """(B, N) of True and False; a token that has left, or is padding, stays away."""
        stay = probability > self.threshold
        return stay if before is None else stay & (before > 0)

    def key_bias(self, mass: Tensor, prefix: int) -> Tensor | None:
        """In training, dropped tokens are keys for themselves alone; in evaluation padding is nobody's key: −∞."""
        if self.training:
            return DynamicViT.key_bias(self, mass, prefix)
        return F.pad(mass, (prefix, 0), value=1.0).log()[:, None, None]

    epsilon = DynamicViT.epsilon

    def host(self, block: TimmBlock) -> HostBlock:
        return PruningBlock.from_block(block, self)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}"
