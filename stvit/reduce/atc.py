"""ATC: agglomerative token clustering (Haurum et al., ECCV 2024)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from stvit.reduce.about import About
from stvit.reduce.matching import cosine
from stvit.reduce.plan import Mixed, Plan
from stvit.reduce.reduction import Reduction, Seen, check_rate, staged_count

LINKAGES = ("average", "complete", "single")


class ATC(Reduction):
    """The two nearest clusters of tokens become one, again and again, until ⌊N₀ · keep_rateⁱ⌋ are left.

    Near is 1 − cosine of the keys, averaged over heads; between clusters by ``linkage``. Tokens are weighted by
    how many patches they stand for, and with ``prop_attn`` they attract attention in proportion to it.
    """

    about: ClassVar[About] = About(
        paper="ATC, Haurum et al., ECCV 2024",
        looks_at="keys, averaged over heads",
        keeps="all tokens, as clusters",
        origin="JoakimHaurum/ATC",
        licence="MIT",
    )

    def __init__(
        self,
        dim: int,
        keep_rate: float = 0.7,
        linkage: str = "average",
        prop_attn: bool = True,
        stage: int = 0,
    ):
        super().__init__()
        if linkage not in LINKAGES:
            raise ValueError(f"unknown linkage {linkage!r}; choose one of {', '.join(LINKAGES)}")
        self.keep_rate, self.linkage = check_rate(keep_rate), linkage
        self.prop_attn, self.stage = prop_attn, stage

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        kept = staged_count(seen.initial, self.keep_rate, self.stage)
        if kept >= x.shape[1]:
            return Plan(mass=seen.mass)
        size = x.new_ones(x.shape[:2]) if seen.mass is None else seen.mass  # (B, N)
        label = agglomerate(1 - cosine(seen.mean_keys().float()), kept, self.linkage)  # (B, N)
        members = F.one_hot(label, kept).transpose(1, 2) * size[:, None]  # (B, M, N)
        mass = members.sum(dim=2)
        return Plan((Mixed(None, members / mass[..., None]),), mass)

    def key_bias(self, mass: Tensor, prefix: int) -> Tensor | None:
        return F.pad(mass.log(), (prefix, 0))[:, None, None] if self.prop_attn else None

    def extra_repr(self) -> str:
        return f"keep_rate={self.keep_rate}, linkage={self.linkage!r}, prop_attn={self.prop_attn}"


@torch.no_grad()
def agglomerate(distance: Tensor, clusters: int, linkage: str) -> Tensor:
    """Distances (B, N, N) → each token's cluster (B, N), numbered by their first members.

    All images at once, one merge of each a step: the later of the two clusters goes into the earlier one, whose
    distances become the mean (weighted by members), the larger or the smaller of both.
    """
    batch, count, _ = distance.shape
    image, number = torch.arange(batch, device=distance.device), torch.arange(count, device=distance.device)
    upper = number[:, None] < number
    near = distance.masked_fill(torch.eye(count, dtype=torch.bool, device=distance.device), torch.inf)
    label = number.expand(batch, -1)
    size = distance.new_ones(batch, count)
    for _ in range(count - clusters):
        pair = near.masked_fill(~upper, torch.inf).flatten(1).argmin(dim=1)  # (B,)
        first, second = pair // count, pair % count
        a, b = near[image, first], near[image, second]  # (B, N)
        if linkage == "average":
            m, n = size.gather(1, first[:, None]), size.gather(1, second[:, None])
            joined = (m * a + n * b) / (m + n)
            size = size.scatter_add(1, first[:, None], n)
        else:
            joined = torch.maximum(a, b) if linkage == "complete" else torch.minimum(a, b)
        joined = joined.scatter(1, first[:, None], torch.inf)
        is_first, is_second = number == first[:, None], number == second[:, None]  # (B, N)
        near = torch.where(is_first[:, :, None], joined[:, None], near)
        near = torch.where(is_first[:, None], joined[:, :, None], near)
        near = near.masked_fill(is_second[:, :, None] | is_second[:, None], torch.inf)
        label = torch.where(label == second[:, None], first[:, None], label)
    alone = (label == number).long().cumsum(dim=1) - 1  # the place of each first member among them
    return alone.gather(1, label)
