"""SPViT: soft token pruning (Kong et al., ECCV 2022), written from its paper and facts about its program."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from stvit.reduce.about import About
from stvit.reduce.deciding import Deciding
from stvit.reduce.plan import Kept, Mixed, Plan, standing
from stvit.reduce.reduction import Seen


class SPViT(Deciding):
    """A predictor that judges each head's channels drops tokens, and packs what it drops into one package token.

    1. The heads share one small network: local and global features of 64 channels → stay or leave.
    2. The judgements' logarithms are averaged with weights that an excitation network gives each token's heads.
    3. The package is the sum of the tokens that leave at this stage, weighted by their probability of staying; it
       comes last and never leaves.
    The public program draws decisions at random in evaluation too, and masks; here the likelier decision is taken
    and tokens leave.
    """

    about: ClassVar[About] = About(
        paper="SPViT, Kong et al., ECCV 2022",
        looks_at="each head's channels, by a learned predictor",
        keeps="tokens above a threshold, and one package of the others a stage",
        origin="PeiyanFlying/SPViT, its outputs, facts about it, and its predictor's constructor, read",
        licence="none stated",
    )
    identity: ClassVar[dict] = {"threshold": 0.0}

    def __init__(self, dim: int, threshold: float = 0.5, heads: int = 1):
        super().__init__(threshold)
        self.heads, channels = heads, dim // heads
        self.excitation = nn.Sequential(
            nn.Linear(heads, max(1, heads // 2)),
            nn.GELU(),
            nn.Linear(max(1, heads // 2), heads),
            nn.Sigmoid(),
        )
        self.in_conv = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, channels), nn.GELU())
        self.out_conv = nn.Sequential(
            nn.Linear(channels, channels // 2),
            nn.GELU(),
            nn.Linear(channels // 2, channels // 4),
            nn.GELU(),
            nn.Linear(channels // 4, 2),
        )

    def staying(self, x: Tensor, seen: Seen) -> Tensor:
        parts = x.unflatten(2, (self.heads, -1))  # (B, N, heads, channels)
        local, everywhere = self.in_conv(parts).chunk(2, dim=3)
        if seen.mass is None:
            everywhere = everywhere.mean(dim=1, keepdim=True)  # (B, 1, heads, channels / 2)
        else:
            weights = seen.mass / seen.mass.sum(dim=1, keepdim=True)
            everywhere = torch.einsum("bn,bnhc->bhc", weights, everywhere)[:, None]
        logits = self.out_conv(torch.cat([local, everywhere.expand_as(local)], dim=3))  # (B, N, heads, 2)
        importance = self.excitation(parts.mean(dim=3))[..., None]  # (B, N, heads, 1)
        score = (importance * logits.log_softmax(dim=3)).sum(dim=2) / importance.sum(dim=2)  # (B, N, 2)
        return score.softmax(dim=2)[..., 0]

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        if self.threshold == 0:
            return Plan(mass=seen.mass)
        (packages,) = seen.carry or (0,)  # as many of the last tokens, which never leave
        count = x.shape[1] - packages
        present = x.new_ones(x.shape[:2]) if seen.mass is None else seen.mass
        probability = self.staying(x, seen)[:, :count]
        keep = (
            self.draw(probability, present[:, :count])
            if self.training
            else self.stay(probability, present[:, :count])
        )
        leaving = (present[:, :count] - keep.to(x.dtype)) * probability
        package = Mixed(None, nn.functional.pad(leaving, (0, packages))[:, None])
        number = torch.arange(x.shape[1], device=x.device).expand(x.shape[0], -1)
        if self.training:
            parts, mass = (Kept(number),), keep
        else:
            part = standing(keep)
            parts, mass = (part, Kept(number[:, count:])), part.valid.to(x.dtype)
        mass = nn.functional.pad(mass, (0, packages + 1), value=1.0)
        return Plan((*parts, package), mass, carry=(packages + 1,))
