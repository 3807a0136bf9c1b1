"""MCTF: multi-criteria token fusion with one-step-ahead attention (Lee et al., CVPR 2024)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor

from stvit.fast.groups import in_groups
from stvit.layers.attention import Attention, attention_weights
from stvit.reduce.about import About
from stvit.reduce.plan import Absorbed, Plan, shares, take
from stvit.reduce.reduction import HostBlock, ReducingBlock, Reduction, Seen, check_count
from stvit.reduce.tome import bipartite_matching
from stvit.surgery import recast


class MCTF(Reduction):
    """In all layers but the first, r tokens fuse that are alike, attract little attention and stand for few patches.

    1. Pairs between two alternating sets score by all three; half of them go from the second set to the first, then
       half from the first to what is left of the second.
    2. Tokens are weighted by the attention that they receive and by size; sizes draw attention in proportion.
    3. One step ahead: a layer fuses by its own attention, before the values, and uses the fused map of attention.
    """

    about: ClassVar[About] = About(
        paper="MCTF, Lee et al., CVPR 2024",
        looks_at="the tokens, attention of all tokens, and sizes",
        keeps="all tokens, pairs of similar, unimportant, small ones fused",
        origin="mlvlab/MCTF",
        licence="MIT",
    )
    identity: ClassVar[dict] = {"r": 0}
    fewest: ClassVar[int] = 10  # tokens that stay, the class token among them

    def __init__(self, dim: int, r: int = 16, tau_info: float = 20.0, tau_size: float = 40.0):
        super().__init__()
        self.r = check_count("r, the number of tokens that fuse in a layer,", r)
        self.tau_info, self.tau_size = tau_info, tau_size

    @staticmethod
    def layers(depth: int) -> tuple[int, ...]:
        return tuple(range(2, depth + 1))

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        count = x.shape[1]
        r = min(self.r, count + seen.prefix - self.fewest, count // 2)
        if r <= 0:
            return Plan(mass=seen.mass)
        size = x.new_ones(x.shape[:2]) if seen.mass is None else seen.mass  # (B, N)
        attention = seen.received().detach()  # (B, N)
        score = self.score(x.detach(), attention, size)  # (B, ⌊N/2⌋, ⌈N/2⌉)
        even, odd = torch.arange(1, count, 2, device=x.device), torch.arange(0, count, 2, device=x.device)
        merged, target, stay = bipartite_matching(score, r // 2)  # of the even set
        rest = take(score, stay).transpose(1, 2)  # (B, ⌈N/2⌉, ⌊N/2⌋ − ⌊r/2⌋)
        merged2, target2, stay2 = falling_matching(rest, r - r // 2)  # of the odd set

        place = odd.new_zeros(x.shape[0], len(odd))  # of each of the odd set among the new tokens
        numbers = torch.arange(stay2.shape[1], device=x.device) + stay.shape[1]
        place = place.scatter(1, stay2, numbers.expand_as(stay2)).scatter(1, merged2, target2)
        index = torch.cat([even[stay], odd[stay2]], dim=1)  # (B, N − r)
        sources = torch.cat([even[merged], odd[merged2]], dim=1)  # (B, r)
        target = torch.cat([place.gather(1, target), target2], dim=1)
        weight = attention * size
        share, _ = shares(target, weight.gather(1, sources), weight.gather(1, index))
        mass = size.gather(1, index).scatter_add(1, target, size.gather(1, sources))
        return Plan((Absorbed(index, sources, target, share.to(x.dtype)),), mass)

    def score(self, x: Tensor, attention: Tensor, size: Tensor) -> Tensor:
        """((cos + 1) / 2) · (a_i a_j)^(−1/τ_info) · (s_i s_j)^(−1/τ_size), the class token's set first."""
        z = F.normalize(x, dim=2)
        alike = (z[:, 1::2] @ z[:, ::2].transpose(1, 2) + 1) / 2  # (B, ⌊N/2⌋, ⌈N/2⌉)
        light = attention.pow(-1 / self.tau_info) * size.pow(-1 / self.tau_size)  # (B, N)
        return alike * light[:, 1::2, None] * light[:, None, ::2]

    def key_bias(self, mass: Tensor, prefix: int) -> Tensor | None:
        return F.pad(mass.log(), (prefix, 0))[:, None, None]

    def host(self, block: TimmBlock) -> HostBlock:
        return AheadBlock.from_block(block, self)

    def extra_repr(self) -> str:
        return f"r={self.r}, tau_info={self.tau_info}, tau_size={self.tau_size}"


def falling_matching(similarity: Tensor, r: int) -> tuple[Tensor, Tensor, Tensor]:
    """As ``bipartite_matching``, but the sources that stay are in descending order of their best edge."""
    best, target = similarity.max(dim=2)  # (B, n)
    order = best.argsort(dim=1, descending=True)
    return order[:, :r], target.gather(1, order[:, :r]), order[:, r:]


class AheadAttention(Attention):
    """Attention in two steps: the maps of all tokens, and what they make of fewer ones' values."""

    def forward(self, x: Tensor, bias: Tensor | None = None, angles: Tensor | None = None) -> Tensor:
        """The maps (B, heads, N, N)."""
        q, k = self._heads(x, 0, 2)  # (B, heads, N, head_dim) each
        q, k = self.q_norm(q), self.k_norm(k)
        if angles is not None:
            q, k = self.turn(q, angles), self.turn(k, angles)
        return attention_weights(q, k, self.scale, bias)

    weights = forward

    def apply_to(self, maps: Tensor, x: Tensor) -> Tensor:
        """(B, heads, M, M), (B, M, C) → (B, M, C)."""
        (v,) = self._heads(x, 2, 3)
        y = F.dropout(maps, self.attn_drop.p if self.training else 0.0) @ v
        y = self.norm(y.transpose(1, 2).flatten(2))  # (B, M, C)
        if self.gate is not None:
            y = y * self.gate(x).sigmoid()
        return self.proj_drop(self.proj(y))


class AheadBlock(ReducingBlock):
    """The reduction within the attention: x fused, + fused maps · its values, + FFN."""

    @classmethod
    def from_block(cls, block: TimmBlock, reduction: Reduction) -> HostBlock:
        self = super().from_block(block, reduction)
        if reduction.r:
            self.attn = recast(block.attn, AheadAttention)
        return self

    def forward(self, x: Tensor, seen: Seen) -> tuple[Tensor, Plan]:
        if not self.reduction.r:
            return super().forward(x, seen)
        bias = self.attn.bias_among(seen.bias, seen.angles)
        maps = self.attn(self.norm1(x), bias, seen.angles)  # (B, heads, prefix + N, prefix + N)
        x, plan = self.reduce(x, seen._replace(maps=maps))  # (B, prefix + M, C)
        y = self.attn.apply_to(fused(maps, plan, seen.prefix), self.norm1(x))
        return in_groups(self.feed_forward, x + self.drop_path1(self.ls1(y))), plan


def fused(maps: Tensor, plan: Plan, prefix: int) -> Tensor:
    """The maps of fused tokens: rows are weighted means, as tokens are; columns add up."""
    if not plan.parts:
        return maps
    (part,) = plan.parts
    rows = maps.permute(0, 2, 1, 3).flatten(2)  # (B, N, heads · N)
    rows = torch.cat([rows[:, :prefix], part.merge(rows[:, prefix:])], dim=1)
    columns = rows.unflatten(2, maps.shape[1::2]).permute(0, 3, 1, 2).flatten(2)  # (B, N, M · heads)
    image = columns[:, prefix:]
    gain = take(image, part.sources)
    image = take(image, part.index).scatter_add(1, part.target[..., None].expand_as(gain), gain)
    columns = torch.cat([columns[:, :prefix], image], dim=1)  # (B, M, M · heads)
    return columns.unflatten(2, (rows.shape[1], maps.shape[1])).permute(0, 3, 2, 1)
