"""Attention from one set of tokens to another: fused by default, its weights on demand.

The modules extend timm's and keep its parameter names, so that ``recast`` turns a timm block into one of these
and back: layers and parameters are shared, only the way they are called differs.
"""

from __future__ import annotations

from typing import TypeAlias

import torch.nn.functional as F
from timm.layers import Attention as TimmAttention
from timm.layers import RelPosBias
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor

from stvit.fast.absorbed import absorbed_where_cheaper
from stvit.fast.token_linear import linear_rows
from stvit.layers.rotary import turned
from stvit.surgery import recast

Angles: TypeAlias = tuple[Tensor, Tensor]  # of the queries, of the keys


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    bias: Tensor | None = None,
    dropout: float = 0.0,
    fused: bool = True,
) -> Tensor:
    """softmax(scale · q kᵀ + bias) v on (..., tokens, channels), by the fused kernel or written out."""
    if fused:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=scale)
    return F.dropout(attention_weights(q, k, scale, bias), dropout) @ v


def attention_weights(q: Tensor, k: Tensor, scale: float, bias: Tensor | None = None) -> Tensor:
    """softmax(scale · q kᵀ + bias): the attention maps, which the fused kernel never forms."""
    logits = (q * scale) @ k.transpose(-2, -1)
    return (logits if bias is None else logits + bias).softmax(dim=-1)


class Attention(TimmAttention):
    """Multi-head attention MHA(queries, keys, values) of Eqs. 1, 2 and 6.

    ``attention(x)`` is self-attention, ``attention(q, x)`` attends from q to x, and ``attention(q, k, v)`` takes
    queries, keys and values from three sources. Each source is projected once.
    angles: what queries and keys are turned by, where positions are rotary (see ``stvit.layers.rotary``)
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        angles: Angles | None = None,
    ) -> Tensor:
        x = self.norm(self.mix(query, key, value, angles))  # (B, M, C)
        if self.gate is not None:
            x = x * self.gate(query).sigmoid()
        return self.proj_drop(self.proj(x))

    @absorbed_where_cheaper
    def mix(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        angles: Angles | None = None,
    ) -> Tensor:
        """softmax(scale · q kᵀ + bias) v, the heads side by side: (B, M, C)."""
        q, k, v = self.project(query, key, value, angles)  # (B, heads, tokens, head_dim) each
        dropout = self.attn_drop.p if self.training else 0.0
        x = attend(q, k, v, self.scale, self.bias(), dropout, self.fused_attn)
        return x.transpose(1, 2).flatten(2)

    def weights(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        angles: Angles | None = None,
    ) -> Tensor:
        """The attention maps (B, heads, M, N) that ``forward`` applies to the values."""
        q, k, _ = self.project(query, key, value, angles)
        return attention_weights(q, k, self.scale, self.bias())

    def bias(self) -> Tensor | None:
        """A term added to the logits; None here, a relative position bias in ``RelativeAttention``."""
        return None

    def bias_among(self, bias: Tensor | None, angles: Tensor | None) -> Tensor | None:
        """``bias`` of the logits, and what the places of the tokens add to it: nothing here."""
        return bias

    def project(
        self, query: Tensor, key: Tensor | None, value: Tensor | None, angles: Angles | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        if key is None:
            q, k, v = self._heads(query, 0, 3)
        elif value is None:
            (q,), (k, v) = self._heads(query, 0, 1), self._heads(key, 1, 3)
        else:
            (q,), (k,), (v,) = self._heads(query, 0, 1), self._heads(key, 1, 2), self._heads(value, 2, 3)
        q, k = self.q_norm(q), self.k_norm(k)
        if angles is not None:
            q, k = self.turn(q, angles[0]), self.turn(k, angles[1])
        return q, k, v

    def turn(self, x: Tensor, angles: Tensor) -> Tensor:
        """x (B, heads, prefix + N, head_dim), the last N tokens turned by angles (1 or B, N, head_dim)."""
        return turned(x, angles)

    def _heads(self, x: Tensor, first: int, last: int) -> tuple[Tensor, ...]:
        """x through the projections first … last−1 of (q, k, v), split into heads."""
        if (first, last) == (0, 3):
            x = self.qkv(x)  # (B, N, 3·C)
        else:
            x = linear_rows(self.qkv, x, first * self.attn_dim, last * self.attn_dim)  # (B, N, parts·C)
        x = x.view(*x.shape[:2], last - first, self.num_heads, self.head_dim)
        return x.permute(2, 0, 3, 1, 4).unbind(0)  # parts × (B, heads, N, head_dim)


class RelativeAttention(Attention):
    """Attention among tokens on a grid, with Swin's learned bias for each relative position."""

    @classmethod
    def from_attention(
        cls, attention: TimmAttention, grid: tuple[int, int], prefix_tokens: int
    ) -> RelativeAttention:
        if prefix_tokens > 1:
            raise ValueError(
                f"relative positions allow for one class token, not {prefix_tokens} prefix tokens; "
                "choose position='learned' or 'conditional'"
            )
        self = recast(attention, cls)
        self.rel_pos = RelPosBias(grid, attention.num_heads, prefix_tokens)
        return self

    def bias(self) -> Tensor:
        return self.rel_pos.get_bias()  # (1, heads, M, M)


class ContextBlock(TimmBlock):
    """timm's pre-norm block that can attend to other tokens: block(x), or block(x, context)."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        keys = None if context is None else self.norm1(context)
        return self.update(x, self.norm1(x), keys)

    def update(
        self, x: Tensor, query: Tensor, key: Tensor | None = None, value: Tensor | None = None
    ) -> Tensor:
        """x + MHA(query, key, value), then + FFN, for inputs of the attention that are normalised already."""
        return self.feed_forward(x + self.drop_path1(self.ls1(self.attn(query, key, value))))

    def feed_forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))

    @classmethod
    def from_block(cls, block: TimmBlock, attention: type[Attention] = Attention) -> ContextBlock:
        """``block`` with the same layers, able to attend to other tokens."""
        self = recast(block, cls)
        self.attn = recast(block.attn, attention)
        return self
