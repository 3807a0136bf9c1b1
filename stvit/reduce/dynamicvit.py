"""DynamicViT: dynamic token sparsification (Rao et al., NeurIPS 2021)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn

from stvit.reduce.about import About
from stvit.reduce.plan import Kept, Plan
from stvit.reduce.reduction import HostBlock, PruningBlock, Reduction, Seen, check_rate, staged_count


class Decision(nn.Module):
    """The keep decisions of training, (B, N) of 0 and 1, differentiable by Gumbel-softmax.

    Gradients are the straight-through estimator's, so they differ from finite differences, under which decisions
    do not move. A token that was dropped stays dropped. A module of its own, so that a loss can listen to it.
    """

    def forward(self, log_probabilities: Tensor, before: Tensor | None) -> Tensor:
        keep = F.gumbel_softmax(log_probabilities, hard=True, dim=2)[..., 0]
        return keep if before is None else keep * before


class DynamicViT(Reduction):
    """A predictor in front of a layer scores the tokens; the i-th keeps ⌊N₀ · keep_rateⁱ⌋ of them.

    In training all tokens stay and those dropped are masked out of everybody's attention but their
    own, so that shapes are static and the predictor learns; the decisions are the tokens' mass.
    In evaluation the lowest scores leave and nothing is masked.
    """

    about: ClassVar[About] = About(
        paper="DynamicViT, Rao et al., NeurIPS 2021",
        looks_at="tokens, by a learned predictor",
        keeps="the tokens with the highest scores",
        origin="raoyongming/DynamicViT",
        licence="MIT",
    )
    epsilon: ClassVar[float] = 1e-6

    def __init__(self, dim: int, keep_rate: float = 0.7, stage: int = 0):
        super().__init__()
        self.keep_rate, self.stage = check_rate(keep_rate), stage
        self.in_conv = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
        self.out_conv = nn.Sequential(
            nn.Linear(dim, dim // 2),
            nn.GELU(),
            nn.Linear(dim // 2, dim // 4),
            nn.GELU(),
            nn.Linear(dim // 4, 2),
            nn.LogSoftmax(dim=-1),
        )
        self.decide = Decision()

    def scores(self, x: Tensor, mass: Tensor | None) -> Tensor:
        """Log-probabilities (B, N, 2) of staying and of leaving, from local and global features."""
        local, everywhere = self.in_conv(x).chunk(2, dim=2)  # (B, N, C/2) each
        if mass is None:
            everywhere = everywhere.mean(dim=1, keepdim=True)  # (B, 1, C/2)
        else:
            weights = mass / (mass.sum(dim=1, keepdim=True) + self.epsilon)
            everywhere = weights[:, None] @ everywhere
        return self.out_conv(torch.cat([local, everywhere.expand_as(local)], dim=2))

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        if self.training:
            return Plan(mass=self.decide(self.scores(x, seen.mass), seen.mass))
        kept = staged_count(seen.initial, self.keep_rate, self.stage)
        if kept >= x.shape[1]:
            return Plan()
        return Plan((Kept(self.scores(x, None)[..., 0].topk(kept, dim=1).indices),))

    def key_bias(self, mass: Tensor, prefix: int) -> Tensor | None:
        """Dropped tokens are keys for themselves alone: log of the decisions, 0 on the diagonal."""
        policy = F.pad(mass, (prefix, 0), value=1.0)  # (B, prefix + N)
        own = torch.eye(policy.shape[1], dtype=torch.bool, device=mass.device)
        logits = (policy + self.epsilon).log()[:, None, :].expand(-1, policy.shape[1], -1)
        return logits.masked_fill(own, 0.0)[:, None]  # (B, 1, prefix + N, prefix + N)

    def host(self, block: TimmBlock) -> HostBlock:
        return PruningBlock.from_block(block, self)

    def extra_repr(self) -> str:
        return f"keep_rate={self.keep_rate}, stage={self.stage}"


def ratio_loss(decisions: list[Tensor], keep_rate: float) -> Tensor:
    """How far each stage's share of kept tokens is from keep_rateⁱ, squared, the mean over images and stages."""
    gaps = [keep.mean(dim=1) - keep_rate ** (i + 1) for i, keep in enumerate(decisions)]
    return torch.stack(gaps).square().mean()
