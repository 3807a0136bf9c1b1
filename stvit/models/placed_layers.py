"""Layers of timm's EVA and BEiT families: their attention knows where tokens lie.

EVA-02, DINOv3, PE and RoPE-ViT turn queries and keys by the tokens' places. BEiT adds a bias for each pair of places.
What a merged token is made of decides where it lies: at the mean, by shares, of its tokens' places.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from timm.layers import AttentionRope, apply_rot_embed
from timm.models.beit import Attention as BeitAttention
from timm.models.eva import EvaAttention
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn

from stvit.fast.groups import in_groups
from stvit.layers.attention import Angles, Attention, attend
from stvit.layers.joined import Joins
from stvit.reduce.reduction import HostBlock, ObservedAttention, Seen
from stvit.surgery import recast


class PlacedLayer(Joins, TimmBlock):
    """A layer with a gain where timm's plain block has LayerScale, and its attention in the frame of reductions."""

    shared: ClassVar[type[nn.Module]] = TimmBlock

    @classmethod
    def of(cls, block: nn.Module) -> PlacedLayer:
        layer = recast(block, cls)
        layer.attn = recast(recast(block.attn, HEADS[type(block.attn)]), ObservedAttention)
        layer.origin = type(block), type(block.attn)
        return layer

    def released(self) -> nn.Module:
        """timm's layer again."""
        layer = self.to_block() if isinstance(self, HostBlock) else self
        kind, attention = layer.origin
        plain = recast(layer, kind)
        plain.attn = recast(plain.attn, attention)
        del plain.origin
        plain.attn.__dict__.pop("mixed", None)
        return plain

    def ls1(self, y: Tensor) -> Tensor:
        return y if self.gamma_1 is None else self.gamma_1 * y

    def ls2(self, y: Tensor) -> Tensor:
        return y if self.gamma_2 is None else self.gamma_2 * y

    def look(self, x: Tensor, seen: Seen) -> Tensor:
        """The attention's output for normalised tokens."""
        return self.attn(x, self.attn.bias_among(seen.bias, seen.angles), seen.angles)[0]


class PassingBlock(TimmBlock):
    """A layer without a reduction, told where the tokens lie that it is given."""

    def forward(self, x: Tensor, seen: Seen) -> Tensor:
        x = x + self.drop_path1(self.ls1(self.look(self.norm1(x), seen)))
        return x + in_groups(self.feed_forward, x)

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


class SplitBias(Joins, Attention):
    """Attention whose query and value biases are parameters of their own, beside one matrix for all three."""

    shared: ClassVar[type[nn.Module]] = Attention

    @property
    def attn_dim(self) -> int:
        return self.proj.in_features

    def _heads(self, x: Tensor, first: int, last: int) -> tuple[Tensor, ...]:
        rows, width = slice(first * self.attn_dim, last * self.attn_dim), self.attn_dim // self.num_heads
        weight, bias = self.qkv.weight[rows], self.qkv.bias
        if getattr(self, "q_bias", None) is not None:
            bias = torch.cat((self.q_bias, self.k_bias, self.v_bias))
        bias = None if bias is None else bias[rows]
        if getattr(self, "qkv_bias_separate", False):
            x = F.linear(x, weight)
            x = x if bias is None else x + bias
        else:
            x = F.linear(x, weight, bias)  # (B, N, parts·C)
        x = x.unflatten(2, (last - first, self.num_heads, width))
        return x.permute(2, 0, 3, 1, 4).unbind(0)  # parts × (B, heads, N, head_dim)


class RotaryHeads(SplitBias):
    """Attention of the EVA family: rotary, one matrix or three, keys and values for one head or for several.

    mixed: where each layer learns its frequencies, the module that has them and the layer's number from 0; the
        tokens' angles are then their places
    """

    mixed: tuple[nn.Module, int] | None = None

    def turn(self, x: Tensor, angles: Tensor) -> Tensor:
        prefix = x.shape[2] - angles.shape[1]
        angles = angles[:, None].float() if self.mixed is None else self.mixed_angles(angles)
        sin, cos = (in_pairs(wave, self.rotate_half) for wave in (angles.sin(), angles.cos()))
        image = apply_rot_embed(x[:, :, prefix:], sin, cos, half=self.rotate_half)  # (B, heads, N, head_dim)
        return torch.cat([x[:, :, :prefix], image], dim=2)

    def mixed_angles(self, places: Tensor) -> Tensor:
        """(1 or B, N, 2) → (1 or B, heads, N, head_dim / 2)."""
        rope, layer = self.mixed
        frequencies = rope.freqs[:, layer, :, None].float()  # (2, heads, 1, head_dim / 2)
        places = places[:, None, :, :, None].float()  # (1 or B, 1, N, 2, 1)
        return places[..., 0, :] * frequencies[0] + places[..., 1, :] * frequencies[1]

    def _heads(self, x: Tensor, first: int, last: int) -> tuple[Tensor, ...]:
        if self.qkv is not None:
            return super()._heads(x, first, last)
        layers = (self.q_proj, self.k_proj, self.v_proj)[first:last]
        heads = (layer(x).unflatten(2, (-1, self.head_dim)).transpose(1, 2) for layer in layers)
        return tuple(h.repeat_interleave(self.num_heads // h.shape[1], dim=1) for h in heads)


class RelativeHeads(SplitBias):
    """BEiT's attention: a learned bias for each pair of places, the class token's among them.

    Where a token lies is its share of each of the map's places, so that a merged token has the mean of their biases.
    """

    q_norm = k_norm = norm = staticmethod(nn.Identity())
    gate = None

    @property
    def head_dim(self) -> int:
        return self.attn_dim // self.num_heads

    def turn(self, x: Tensor, angles: Tensor) -> Tensor:
        return x

    def bias_among(self, bias: Tensor | None, angles: Tensor | None) -> Tensor | None:
        if angles is None:
            return bias
        own = self.bias_between(angles, angles)
        return own if bias is None else own + bias

    def bias_between(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Shares of places (1 or B, M, N₀) and (1 or B, N, N₀) → (1 or B, heads, 1 + M, 1 + N)."""
        table = self._get_rel_pos_bias()  # (1, heads, 1 + N₀, 1 + N₀)
        rows, columns = (with_class(shares).to(table.dtype)[:, None] for shares in (queries, keys))
        return rows @ (table @ columns.transpose(2, 3))

    def mix(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        angles: Angles | None = None,
    ) -> Tensor:
        q, k, v = self.project(query, key, value)
        dropout = self.attn_drop.p if self.training else 0.0
        bias = None if angles is None else self.bias_between(*angles)
        return attend(q, k, v, self.scale, bias, dropout, self.fused_attn).transpose(1, 2).flatten(2)

    def _get_rel_pos_bias(self) -> Tensor:
        return BeitAttention._get_rel_pos_bias(self)


HEADS: dict[type[nn.Module], type[nn.Module]] = {
    EvaAttention: RotaryHeads,
    AttentionRope: RotaryHeads,
    BeitAttention: RelativeHeads,
}


def in_pairs(x: Tensor, halves: bool) -> Tensor:
    """(…, D / 2) → (…, D): each value for the two channels that are turned together, halves apart or side by side."""
    return torch.cat([x, x], dim=-1) if halves else x.repeat_interleave(2, dim=-1)


def with_class(shares: Tensor) -> Tensor:
    """(B, M, N) → (B, 1 + M, 1 + N), the class token in front, in the first place alone."""
    padded = F.pad(shares, (1, 0, 1, 0))
    first = torch.zeros_like(padded[:1])
    first[0, 0, 0] = 1
    return padded + first
