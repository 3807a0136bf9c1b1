"""Evo-ViT: slow-fast token evolution (Xu et al., AAAI 2022), as its public DeiT program computes it."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor

from stvit.fast.groups import in_groups
from stvit.reduce.about import About
from stvit.reduce.plan import Kept, Plan, put
from stvit.reduce.reduction import HostBlock, ReducingBlock, Reduction, Seen, check_rate


class Evolution(NamedTuple):
    """What one layer hands on to the next."""

    score: Tensor | None  # (B, N), the moving average of class attention, summed over heads
    slow: Tensor | None  # (B, m), the tokens that layers compute with


class EvoViT(Reduction):
    """The most attentive tokens go through the layers; the others wait unchanged and come back after each stage.

    1. Class attention, averaged over the layers so far, is each token's score; tokens that wait keep theirs.
    2. At the beginning of each stage (layers 5 and 9 of 12) the ⌊keep_rate · N⌋ tokens with the highest scores become
       slow: the stage's layers compute with them and the class token alone.
    The paper's representative token, which updates the others fast, is not in the program and not here.
    """

    about: ClassVar[About] = About(
        paper="Evo-ViT, Xu et al., AAAI 2022",
        looks_at="class attention, averaged over layers",
        keeps="all tokens; layers compute with the most attentive",
        origin="YifanXu74/Evo-ViT",
        licence="MIT",
    )
    needs_class_token: ClassVar[bool] = True
    keeps_all: ClassVar[bool] = True

    def __init__(
        self,
        dim: int,
        keep_rate: float = 0.5,
        tradeoff: float = 0.5,
        stage: int = 0,
        layer: int = 1,
        depth: int = 12,
    ):
        super().__init__()
        self.keep_rate, self.tradeoff = check_rate(keep_rate), tradeoff
        period = max(1, depth // 3)
        self.begins = (stage - 1) % period == 0  # the first of its layers only looks
        self.looks = (
            layer + period - (stage - 1) % period <= depth
        )  # whether a later layer sorts by what it sees

    @staticmethod
    def layers(depth: int) -> tuple[int, ...]:
        """From the layer in front of the first stage: 4 to 12 of 12."""
        return tuple(range(max(1, depth // 3), depth + 1))

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        """Which tokens the layer computes with; all of them before any score is known."""
        kept = max(1, int(self.keep_rate * x.shape[1] + 1e-9))
        if kept == x.shape[1]:
            return Plan()
        past = seen.carry or Evolution(None, None)
        slow = past.slow
        if past.score is not None and (self.begins or slow is None):
            slow = past.score.argsort(dim=1, descending=True)[:, :kept]
        return Plan(computed=None if slow is None else Kept(slow), carry=Evolution(past.score, slow))

    def look(self, plan: Plan, seen: Seen) -> Plan:
        """The plan with the scores that the layer's attention gives; ``seen`` is of the tokens it computed with."""
        if plan.carry is None or not self.looks:
            return plan
        new, (score, slow) = seen.class_rows().sum(dim=1), plan.carry
        if score is not None:
            old = score if slow is None else score.gather(1, slow)
            new = (1 - self.tradeoff) * old + self.tradeoff * new
        if slow is not None:
            new = score.scatter(1, slow, new)
        return plan._replace(carry=Evolution(new, slow))

    def host(self, block: TimmBlock) -> HostBlock:
        return SlowFastBlock.from_block(block, self)

    def extra_repr(self) -> str:
        return f"keep_rate={self.keep_rate}, tradeoff={self.tradeoff}"


class SlowFastBlock(ReducingBlock):
    """A layer that computes with the slow tokens alone."""

    where = "around"

    def forward(self, x: Tensor, seen: Seen) -> tuple[Tensor, Plan]:
        lead, image = x[:, : seen.prefix], x[:, seen.prefix :].contiguous()
        plan = self.reduction.plan(image, seen)
        slow = plan.computed
        tokens = x if slow is None else torch.cat([lead, slow.merge(image)], dim=1)  # (B, prefix + m, C)
        tokens, seen = self.attend(tokens, seen if slow is None else seen.among(slow))
        tokens = in_groups(self.feed_forward, tokens)
        plan = self.reduction.look(plan, seen)
        if slow is None:
            return tokens, plan
        image = put(image, slow, tokens[:, seen.prefix :])
        return torch.cat([tokens[:, : seen.prefix], image], dim=1), plan
