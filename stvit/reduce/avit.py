"""A-ViT: adaptive tokens (Yin et al., CVPR 2022), written from its paper and facts about its program."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn

from stvit.fast.groups import in_groups
from stvit.reduce.about import About
from stvit.reduce.plan import Plan, put, standing
from stvit.reduce.reduction import HostBlock, ReducingBlock, Reduction, Seen

UNSEEN = -1000.0  # added to the logits of tokens that have halted; finite, as an image's tokens can all have


class Pondering(NamedTuple):
    """What one layer hands on to the next, of all tokens, the class token's among them."""

    reached: Tensor  # (B, T), the sum of the halting scores of a token's layers so far
    output: Tensor  # (B, T, C), what they have given so far
    layers: Tensor  # (B, T), how many layers a token has gone through
    remainder: Tensor  # (B, T), the weight of the layer at which it halted


class Ponder(nn.Module):
    """Each token's ponder cost (B, T), its layers and the last one's weight: what a loss keeps small by listening."""

    def forward(self, pondering: Pondering) -> Tensor:
        return pondering.layers + pondering.remainder


class AViT(Reduction):
    """Each token halts by itself; its output is the mean of its layers' outputs, weighted by halting scores.

    1. h = σ(gate_scale · x₀ − gate_center) after each layer, x₀ the token's first channel: no parameters are added.
    2. A token halts where Σh passes 1 − ε; the last layer's weight is what is missing to 1. The class token can too.
    Tokens that have halted are masked in the public program, and still computed; here they leave the computation.
    """

    about: ClassVar[About] = About(
        paper="A-ViT, Yin et al., CVPR 2022",
        looks_at="each token's first channel",
        keeps="all tokens; layers compute with those that have not halted",
        origin="NVlabs/A-ViT, its outputs and facts about it",
        licence="NVIDIA Source Code License-NC",
    )
    identity: ClassVar[dict] = {"gate_center": math.inf}
    fixed_layers: ClassVar[bool] = True
    keeps_all: ClassVar[bool] = True

    def __init__(
        self,
        dim: int,
        gate_scale: float = 10.0,
        gate_center: float = 30.0,
        epsilon: float = 0.01,
        layer: int = 1,
        depth: int = 12,
    ):
        super().__init__()
        self.gate_scale, self.gate_center, self.epsilon = gate_scale, gate_center, epsilon
        self.last = layer == depth
        if self.last:
            self.ponder = Ponder()

    @staticmethod
    def layers(depth: int) -> tuple[int, ...]:
        return tuple(range(1, depth + 1))

    def begin(self, x: Tensor) -> Pondering:
        nothing = x.new_zeros(x.shape[:2], dtype=torch.promote_types(x.dtype, torch.float32))
        return Pondering(nothing, torch.zeros_like(x), nothing, nothing)

    def active(self, pondering: Pondering) -> Tensor:
        """The tokens that have not halted: (B, T)."""
        return pondering.reached < 1 - self.epsilon

    def halting(self, x: Tensor) -> Tensor:
        """h of all tokens: (B, T, C) → (B, T); 1 in the last layer."""
        first = x[..., 0].to(torch.promote_types(x.dtype, torch.float32))
        return torch.ones_like(first) if self.last else (first * self.gate_scale - self.gate_center).sigmoid()

    def update(self, x: Tensor, past: Pondering) -> Pondering:
        """After a layer gave x (B, T, C) at the tokens that were active."""
        active, score = self.active(past), self.halting(x)
        reached = torch.where(active, past.reached + score, past.reached)
        stops = active & (reached >= 1 - self.epsilon)
        weight = torch.where(stops, 1 - past.reached, score) * active  # (B, T)
        output = past.output + torch.where(active[..., None], weight[..., None].to(x.dtype) * x, 0)
        remainder = torch.where(stops, weight, past.remainder)
        return Pondering(reached, output, past.layers + active, remainder)

    def host(self, block: TimmBlock) -> HostBlock:
        return HaltingBlock.from_block(block, self)

    def extra_repr(self) -> str:
        return f"gate_scale={self.gate_scale}, gate_center={self.gate_center}, epsilon={self.epsilon}"


class HaltingBlock(ReducingBlock):
    """A layer that computes with the tokens that have not halted; the last one returns all tokens' outputs."""

    where = "around"

    def forward(self, x: Tensor, seen: Seen) -> tuple[Tensor, Plan]:
        method, lead, image = self.reduction, x[:, : seen.prefix], x[:, seen.prefix :].contiguous()
        past, part = seen.carry or method.begin(x), None
        if seen.carry is None or method.gate_center == math.inf:  # no token has halted
            tokens, _ = self.attend(x, seen)
            x = in_groups(self.feed_forward, tokens)
        else:
            active = method.active(past)
            part = standing(active[:, seen.prefix :])
            seeing = torch.cat([active[:, : seen.prefix], part.valid], dim=1)  # (B, prefix + m)
            bias = torch.where(seeing, 0.0, UNSEEN)[:, None, None].to(x.dtype)
            tokens = torch.cat([lead, part.merge(image)], dim=1)
            tokens, _ = self.attend(tokens, seen.among(part)._replace(bias=bias))
            tokens = in_groups(self.feed_forward, tokens)
            image = put(image, part, tokens[:, seen.prefix :])
            x = torch.cat([tokens[:, : seen.prefix], image], dim=1)
        pondering = method.update(x, past)
        if method.last:
            method.ponder(pondering)
            x = pondering.output
        return x, Plan(computed=part, carry=pondering)
