"""Attention between two sets of tokens: fused by default, its weights on demand.

The modules extend timm's, with the same parameter names, so that a timm block turns into one of
these, and back, by ``recast``: the layers are shared, only the way they are called differs.
"""

from __future__ import annotations

import torch.nn.functional as F
from timm.layers import Attention as TimmAttention
from timm.layers import RelPosBias
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn

from stvit.fast.absorbed import attend_absorbed, cheaper
from stvit.fast.when import plain_inference, surely
from stvit.surgery import recast


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    bias: Tensor | None = None,
    dropout: float = 0.0,
    fused: bool = True,
) -> Tensor:
    """softmax(scale · q kᵀ + bias) v on (..., tokens, channels); ``fused`` decides how, not what."""
    if fused:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=scale)
    return F.dropout(attention_weights(q, k, scale, bias), dropout) @ v


def attention_weights(q: Tensor, k: Tensor, scale: float, bias: Tensor | None = None) -> Tensor:
    """softmax(scale · q kᵀ + bias), the map that fused attention never forms."""
    logits = (q * scale) @ k.transpose(-2, -1)
    return (logits if bias is None else logits + bias).softmax(dim=-1)


def linear_rows(layer: nn.Module, x: Tensor, first: int, last: int) -> Tensor:
    """x through the rows first … last−1 of a linear layer, which may have a way of its own to them."""
    if hasattr(layer, "rows"):
        return layer.rows(x, first, last)
    bias = None if layer.bias is None else layer.bias[first:last]
    return F.linear(x, layer.weight[first:last], bias)


class Attention(TimmAttention):
    """Multi-head attention MHA(queries, keys, values) of Eqs. 1, 2 and 6.

    ``attention(x)`` is self-attention; ``attention(q, x)`` lets q look at x; ``attention(q, k, v)``
    takes all three apart. Each source is projected once, and sources that coincide in one product.
    """

    def forward(self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None) -> Tensor:
        if self.absorbs(query, key, value):
            x = self.attend_unprojected(query, key)  # (B, M, C)
        else:
            q, k, v = self.project(query, key, value)  # (B, heads, tokens, head_dim) each
            dropout = self.attn_drop.p if self.training else 0.0
            x = attend(q, k, v, self.scale, self.bias(), dropout, self.fused_attn)
            x = x.transpose(1, 2).flatten(2)  # (B, M, C)
        x = self.norm(x)
        if self.gate is not None:
            x = x * self.gate(query).sigmoid()
        return self.proj_drop(self.proj(x))

    def weights(self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None) -> Tensor:
        """The attention maps (B, heads, M, N) that ``forward`` applies to the values."""
        q, k, _ = self.project(query, key, value)
        return attention_weights(q, k, self.scale, self.bias())

    def absorbs(self, query: Tensor, key: Tensor | None, value: Tensor | None) -> bool:
        """Few queries look at many tokens, in inference on a CPU: the tokens need no projection."""
        if key is None or value is not None or self.training or not plain_inference(key):
            return False
        plain = isinstance(self.q_norm, nn.Identity) and isinstance(self.k_norm, nn.Identity)
        if not plain or self.qkv.weight is None:
            return False
        return surely(cheaper(query.shape[1], key.shape[1], self.num_heads, key.shape[2]))

    def attend_unprojected(self, query: Tensor, x: Tensor) -> Tensor:
        q = linear_rows(self.qkv, query, 0, self.attn_dim)  # (B, M, C)
        bias = None if self.qkv.bias is None else self.qkv.bias[self.attn_dim :]
        return attend_absorbed(q, x, self.qkv.weight[self.attn_dim :], bias, self.num_heads, self.scale)

    def bias(self) -> Tensor | None:
        """What is added to the logits; nothing here."""
        return None

    def project(
        self, query: Tensor, key: Tensor | None, value: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        if key is None:
            q, k, v = self._heads(query, 0, 3)
        elif value is None:
            (q,), (k, v) = self._heads(query, 0, 1), self._heads(key, 1, 3)
        else:
            (q,), (k,), (v,) = self._heads(query, 0, 1), self._heads(key, 1, 2), self._heads(value, 2, 3)
        return self.q_norm(q), self.k_norm(k), v

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
    """timm's pre-norm block whose attention may look at other tokens: block(x) or block(x, context)."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        keys = None if context is None else self.norm1(context)
        return self.update(x, self.norm1(x), keys)

    def update(
        self, x: Tensor, query: Tensor, key: Tensor | None = None, value: Tensor | None = None
    ) -> Tensor:
        """x + MHA(query, key, value), then + FFN; the attention's inputs are normalised already."""
        return self.feed_forward(x + self.drop_path1(self.ls1(self.attn(query, key, value))))

    def feed_forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))

    @classmethod
    def from_block(cls, block: TimmBlock, attention: type[Attention] = Attention) -> ContextBlock:
        """``block`` with the same layers, able to look at other tokens."""
        self = recast(block, cls)
        self.attn = recast(block.attn, attention)
        return self
