"""The one interface of all reductions, and the layers that host them.

A reduction is a module that plans which tokens are kept, merged and dropped:

    plan = reduction.plan(x, seen)     x: image tokens (B, N, C); seen: what the attention knew

It sees image tokens alone; class and register tokens stay in front of them and are never touched.
``ReducingBlock`` puts one between a layer's attention and its MLP, ``PruningBlock`` in front of the
layer, ``ClosingBlock`` after it. All return the new tokens and the plan, and the trunk hands the plan's mass on.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import ClassVar, NamedTuple

import torch
from timm.layers import Attention as TimmAttention
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn

from stvit.fast.groups import in_groups
from stvit.layers.attention import Attention, attend, attention_weights
from stvit.layers.windows import Grid
from stvit.reduce.about import About
from stvit.reduce.plan import Part, Plan, shares_of
from stvit.surgery import recast


class Seen(NamedTuple):
    """What a reduction may know besides the tokens themselves.

    initial: how many image tokens the model began with
    grid: the image tokens' grid, None where a reduction has broken it up
    mass: what each image token counts for, (B, N), None before the first reduction
    prefix: how many class and register tokens stand in front of the image tokens
    queries, keys, values: of all tokens, (B, heads, prefix + N, head_dim); None in front of a layer
    bias: what is added to the attention's logits, (B, 1, 1 or prefix + N, prefix + N)
    inputs: what the attention was given, all tokens after the first norm, (B, prefix + N, C)
    whole: the grid of all image tokens that the model began with
    maps: the attention's maps, (B, heads, prefix + N, prefix + N), where a layer forms them anyway
    lead: the class and register tokens themselves, as they stand where the reduction stands, (B, prefix, C)
    carry: what the method's last layer handed on, see ``Plan``
    angles: where each image token lies, (1 or B, N, …), for attention that asks for it: what rotary positions turn it
        by, see ``stvit.layers.rotary``, or its shares of the map's places; None in plain ViTs
    """

    initial: int
    grid: Grid | None
    mass: Tensor | None
    prefix: int
    queries: Tensor | None = None
    keys: Tensor | None = None
    bias: Tensor | None = None
    values: Tensor | None = None
    inputs: Tensor | None = None
    whole: Grid | None = None
    maps: Tensor | None = None
    lead: Tensor | None = None
    carry: tuple | None = None
    angles: Tensor | None = None

    def after(self, plan: Plan, reduction: Reduction) -> Seen:
        """What the next layer may know."""
        return self._replace(
            grid=None if plan.parts else self.grid,
            mass=plan.mass,
            bias=None if plan.mass is None else reduction.key_bias(plan.mass, self.prefix),
            carry=plan.carry,
            angles=self.angles_of(plan.parts),
        )

    def among(self, *parts: Part) -> Seen:
        """What a layer may know that computes with ``parts`` of the tokens alone."""
        return self._replace(angles=self.angles_of(parts))

    def angles_of(self, parts: tuple[Part, ...]) -> Tensor | None:
        """The angles of new tokens: the mean, by their shares, of the tokens that they are made of."""
        if self.angles is None or not parts:
            return self.angles
        shares = shares_of(parts, self.angles.shape[1])  # (B, M, N)
        return shares.to(self.angles.dtype) @ self.angles  # (B, M, head_dim)

    def class_rows(self) -> Tensor:
        """Each head's Attn_cls = Softmax(q_cls · Kᵀ / √d) at the image tokens: (B, heads, N).

        One row of the attention map, formed beside the fused attention of all rows: N·C multiply-adds.
        """
        scale = self.keys.shape[-1] ** -0.5
        bias = None if self.bias is None else self.bias[:, :, :1]
        row = attention_weights(self.queries[:, :, :1], self.keys, scale, bias)  # (B, heads, 1, prefix + N)
        return row[:, :, 0, self.prefix :]

    def class_attention(self) -> Tensor:
        """Attn_cls, the mean over heads: (B, N)."""
        return self.class_rows().mean(dim=1)

    def received(self) -> Tensor:
        """The attention that each image token gets from all tokens, the sum over heads: (B, N).

        Where the layer has no maps they are formed beside its fused attention: N²·C multiply-adds.
        """
        maps = self.maps
        if maps is None:
            maps = attention_weights(self.queries, self.keys, self.keys.shape[-1] ** -0.5, self.bias)
        return maps.sum(dim=(1, 2))[:, self.prefix :]

    def mean_keys(self) -> Tensor:
        """The image tokens' keys, averaged over heads: (B, N, head_dim)."""
        return self.keys[:, :, self.prefix :].mean(dim=1)


class Reduction(nn.Module):
    """What methods override: ``plan``, and the facts below where they differ."""

    about: ClassVar[About | None] = None  # what the table of the field says; a method of your own needs none
    needs_class_token: ClassVar[bool] = False
    fixed_layers: ClassVar[bool] = False  # whether ``layers`` are the only ones that it works in
    keeps_all: ClassVar[bool] = False  # whether all tokens stay, and its layers only compute with fewer
    pads: ClassVar[bool] = False  # whether its plans have ``Padded`` parts, and a mass of 0 for padding
    identity: ClassVar[dict | None] = {"keep_rate": 1.0}  # the choices with which nothing is reduced, if any

    @staticmethod
    def layers(depth: int) -> tuple[int, ...]:
        """The layers, counted from 1, that reduce by default: 4, 7, 10 of 12; 5, 9, 13 of 16."""
        return tuple(dict.fromkeys(depth * i // 4 + 1 for i in (1, 2, 3)))

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        raise NotImplementedError

    def material(self, x: Tensor) -> Tensor:
        """What new tokens are made of: the tokens themselves, or what a method makes of them first."""
        return x

    def forward(self, x: Tensor, seen: Seen) -> tuple[Tensor, Plan]:
        """(B, N, C) → (B, M, C) and the plan that made them."""
        plan = self.plan(x, seen)
        return (plan.merge(self.material(x)) if plan.parts else x), plan

    def key_bias(self, mass: Tensor, prefix: int) -> Tensor | None:
        """What tokens of different mass add to the logits of later layers; None here."""
        return None

    def host(self, block: TimmBlock) -> HostBlock:
        """``block`` with this reduction in its place."""
        return ReducingBlock.from_block(block, self)


class ObservedAttention(Attention):
    """Self-attention, still fused, that also returns its queries, keys and values."""

    def forward(
        self, x: Tensor, bias: Tensor | None = None, angles: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        q, k, v = self.project_all(x, angles)  # (B, heads, N, head_dim) each
        dropout = self.attn_drop.p if self.training else 0.0
        y = attend(q, k, v, self.scale, bias, dropout, self.fused_attn)
        y = self.norm(y.transpose(1, 2).flatten(2))  # (B, N, C)
        if self.gate is not None:
            y = y * self.gate(x).sigmoid()
        return self.proj_drop(self.proj(y)), q, k, v

    def weights(self, x: Tensor, bias: Tensor | None = None, angles: Tensor | None = None) -> Tensor:
        q, k, _ = self.project_all(x, angles)
        return attention_weights(q, k, self.scale, bias)

    def project_all(self, x: Tensor, angles: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        return self.project(x, None, None, None if angles is None else (angles, angles))


class HostBlock(TimmBlock):
    """A layer with a reduction: (B, prefix + N, C) → (B, prefix + M, C), and the plan."""

    reduction: Reduction
    where: ClassVar[str]  # in front of the layer, within it, or after it

    @classmethod
    def from_block(cls, block: TimmBlock, reduction: Reduction) -> HostBlock:
        self = recast(block, cls)
        self.reduction = reduction
        return self

    def assignment(self, x: Tensor, seen: Seen) -> Tensor:
        """Which image token goes into which: (B, M, N), as the next forward on ``x`` will decide."""
        devices = [x.device] if x.is_cuda else []
        with torch.random.fork_rng(devices):
            _, plan = self.forward(x, seen)  # not through the hooks that ask
        count = x.shape[1] - seen.prefix
        holds = plan.workload(count)
        return torch.eye(count, device=x.device).expand(x.shape[0], -1, -1) if holds is None else holds

    def reduce(self, x: Tensor, seen: Seen) -> tuple[Tensor, Plan]:
        seen = seen._replace(lead=x[:, : seen.prefix])
        image, plan = self.reduction(x[:, seen.prefix :].contiguous(), seen)  # its rows are taken often
        if not plan.parts:
            return x, plan
        return torch.cat([x[:, : seen.prefix], image], dim=1), plan

    def feed_forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))

    def to_block(self) -> TimmBlock:
        """timm's plain layer again."""
        block = recast(self, TimmBlock)
        del block._modules["reduction"]
        return block


class ReducingBlock(HostBlock):
    """The reduction between attention and MLP: x + MHA(x), fewer tokens, + FFN."""

    where = "within"

    @classmethod
    def from_block(cls, block: TimmBlock, reduction: Reduction) -> HostBlock:
        self = super().from_block(block, reduction)
        self.attn = recast(block.attn, ObservedAttention)
        return self

    def forward(self, x: Tensor, seen: Seen) -> tuple[Tensor, Plan]:
        x, seen = self.attend(x, seen)  # (B, prefix + N, C)
        x, plan = self.reduce(x, seen)  # (B, prefix + M, C)
        return in_groups(self.feed_forward, x), plan

    def attend(self, x: Tensor, seen: Seen) -> tuple[Tensor, Seen]:
        inputs = self.norm1(x)
        seen = seen._replace(bias=self.attn.bias_among(seen.bias, seen.angles))
        y, queries, keys, values = self.attn(inputs, seen.bias, seen.angles)
        seen = seen._replace(queries=queries, keys=keys, values=values, inputs=inputs)
        return x + self.drop_path1(self.ls1(y)), seen  # (B, prefix + N, C)

    def to_block(self) -> TimmBlock:
        block = super().to_block()
        block.attn = recast(self.attn, TimmAttention)
        return block


class ClosingBlock(ReducingBlock):
    """The reduction after the layer, which tells it how its tokens looked at each other."""

    where = "after"

    def forward(self, x: Tensor, seen: Seen) -> tuple[Tensor, Plan]:
        x, seen = self.attend(x, seen)  # (B, prefix + N, C)
        return self.reduce(in_groups(self.feed_forward, x), seen)


class PruningBlock(HostBlock):
    """The reduction in front of the layer: fewer tokens, then a plain layer."""

    where = "in front"

    def forward(self, x: Tensor, seen: Seen) -> tuple[Tensor, Plan]:
        x, plan = self.reduce(x, seen)  # (B, prefix + M, C)
        y = self.look(self.norm1(x), seen.after(plan, self.reduction))
        return in_groups(self.feed_forward, x + self.drop_path1(self.ls1(y))), plan

    def look(self, x: Tensor, seen: Seen) -> Tensor:
        """The layer's own attention, for normalised tokens (B, prefix + M, C) after the reduction."""
        return self.attn(x, attn_mask=seen.bias)


def kept_count(total: int, rate: float) -> int:
    """ceil(rate · total), at least 1; a rate such as 0.55 is taken as the decimal that it is written as."""
    return max(1, math.ceil(rate * total - 1e-9))


def staged_count(initial: int, rate: float, stage: int) -> int:
    """⌊initial · rateⁱ⌋ for the i-th reduction (``stage`` i − 1), at least 1."""
    return max(1, int(initial * rate ** (stage + 1) + 1e-9))


def check_rate(keep_rate: float) -> float:
    if isinstance(keep_rate, bool) or not isinstance(keep_rate, Real) or not 0 < keep_rate <= 1:
        raise ValueError(f"keep_rate must be a number above 0 and at most 1, not {keep_rate!r}")
    return float(keep_rate)


def check_count(name: str, count: int, least: int = 0) -> int:
    """``count`` if it is a whole number of at least ``least``."""
    if isinstance(count, bool) or not isinstance(count, int) or count < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {count!r}")
    return count
