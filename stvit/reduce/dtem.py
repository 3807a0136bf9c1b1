"""DTEM: learning to merge tokens via decoupled embedding (Lee and Hong, NeurIPS 2024)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stvit.reduce.about import About
from stvit.reduce.plan import Mixed, Plan, take
from stvit.reduce.reduction import Seen
from stvit.reduce.tome import ToMe


class DTEM(ToMe):
    """ToMe's merging by a metric that is learned for it: a linear layer on what the attention is given.

    1. In inference, ToMe with that metric: r tokens merge in every layer.
    2. In training nothing leaves. The r merges are a relaxed top-r over pairs, which the metric can learn from: a
       token hands shares of itself to its ``partners`` nearest, and what it keeps is its mass in what follows.
    """

    about: ClassVar[About] = About(
        paper="DTEM, Lee and Hong, NeurIPS 2024",
        looks_at="a learned embedding of the tokens",
        keeps="all tokens, pairs of similar ones merged",
        origin="movinghoon/DTEM, its outputs, and its training rule, read",
        licence="none given",
    )

    def __init__(
        self,
        dim: int,
        r: int = 16,
        prop_attn: bool = True,
        features: int = 64,
        partners: int = 3,
        temperature: float = 0.1,
        stage: int = 0,
    ):
        super().__init__(dim, r, prop_attn)
        self.embed = nn.Linear(dim, features)
        self.partners, self.temperature, self.stage = partners, temperature, stage

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        return self.soft_plan(x, seen) if self.training else super().plan(x, seen)

    def metric(self, seen: Seen) -> Tensor:
        """It learns from merging alone: nothing flows back into the trunk."""
        return self.embed(seen.inputs[:, seen.prefix :].detach())

    def soft_plan(self, x: Tensor, seen: Seen) -> Plan:
        """All tokens; as many as inference would have take part, and go on with the heaviest first."""
        count = self.present(seen.initial)  # in inference
        r = min(self.r, count // 2)
        if r == 0:
            return Plan(mass=seen.mass)
        mass = x.new_ones(x.shape[:2]) if seen.mass is None else seen.mass  # (B, N)
        z = F.normalize(self.metric(seen)[:, :count], dim=2)
        given = self.relaxed_top(z[:, ::2] @ z[:, 1::2].transpose(1, 2), r)  # (B, ⌈n/2⌉, ⌊n/2⌋)
        kept = (1 - given.sum(dim=2)).clamp_min(torch.finfo(given.dtype).eps)
        left = torch.cat([(mass[:, :count:2] * kept), mass[:, 1:count:2], mass[:, count:]], dim=1)
        evens = torch.cat(
            [torch.arange(0, count, 2), torch.arange(1, count, 2), torch.arange(count, x.shape[1])]
        )
        amounts = torch.diag_embed(
            left[:, evens.argsort().to(x.device)]
        )  # (B, N, N): how much of which is where
        amounts = amounts.clone()
        amounts[:, 1:count:2, :count:2] = (given * mass[:, :count:2, None]).transpose(1, 2)
        new = amounts.sum(dim=2)
        order = torch.arange(x.shape[1], device=x.device).expand(x.shape[0], -1)
        order = torch.cat([new[:, :count].argsort(dim=1, descending=True), order[:, count:]], dim=1)
        new = new.gather(1, order)
        return Plan((Mixed(None, take(amounts, order) / new[..., None]),), new)

    def present(self, count: int) -> int:
        """How many of ``count`` tokens inference would have in this layer."""
        for _ in range(self.stage):
            count -= min(self.r, count // 2)
        return count

    def relaxed_top(self, similarity: Tensor, r: int) -> Tensor:
        """r pairs of (B, n, m), chosen softly one after another, no token much more than once."""
        best, partner = similarity.topk(min(self.partners, similarity.shape[2]), dim=2)
        logits, chosen = best / self.temperature, torch.zeros_like(best)
        for _ in range(r):
            pick = (logits / self.temperature).flatten(1).softmax(dim=1).unflatten(1, best.shape[1:])
            chosen = chosen + pick
            free = (1 - pick.sum(dim=2, keepdim=True)).clamp_min(torch.finfo(pick.dtype).eps)
            logits = logits + free.log()
        chosen = chosen / chosen.sum(dim=2, keepdim=True).detach().clamp_min(1)
        return torch.zeros_like(similarity).scatter(2, partner, chosen)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, partners={self.partners}, temperature={self.temperature}"
