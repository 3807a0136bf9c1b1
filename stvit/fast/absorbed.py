"""Attention of few queries to many tokens that projects no keys and no values.

A logit is q·(W_k x) = (W_kᵀ q)·x, and a weighted sum of values W_v x is W_v times the weighted sum of the x.
So the M queries take over the projections of the N tokens, head by head: M·(h·N + C) products in place of
N·C, a third of them for 16 semantic tokens of 196 in DeiT-S. The bias of the keys adds the same to all logits
of a query and is left out; the bias of the values is added once, since the weights of a query sum to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor, nn

from stvit.fast.token_linear import linear_rows
from stvit.fast.when import plain_inference, surely


def absorbed_where_cheaper(mix: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The seam: ``mix(attention, query, key, value, angles)`` → (B, M, C), or the same without projected keys."""

    @wraps(mix)
    def mix_or_absorb(
        attention: nn.Module, query: Tensor, key: Tensor | None = None, value=None, angles=None
    ) -> Tensor:
        if angles is None and applies(attention, query, key, value):
            return attend_unprojected(attention, query, key)
        return mix(attention, query, key, value, angles)

    return mix_or_absorb


def applies(attention: nn.Module, query: Tensor, key: Tensor | None, value: Tensor | None) -> bool:
    """Few queries look at many tokens, in inference on a CPU, through plain projections."""
    if key is None or value is not None or attention.training or not plain_inference(key):
        return False
    if not hasattr(attention, "qkv"):  # its projections are not one matrix
        return False
    plain = isinstance(attention.q_norm, nn.Identity) and isinstance(attention.k_norm, nn.Identity)
    adapted = hasattr(attention.qkv, "base_layer")  # by peft: its weight is the base's alone
    if not plain or adapted or attention.qkv.weight is None or attention.bias() is not None:
        return False
    return surely(cheaper(query.shape[1], key.shape[1], attention.num_heads, key.shape[2]))


def cheaper(queries: int, tokens: int, heads: int, dim: int) -> bool:
    """Whether the products of all heads' queries and the tokens cost less than projecting the tokens."""
    return queries * (heads * tokens + dim) < tokens * dim


def attend_unprojected(attention: nn.Module, query: Tensor, x: Tensor) -> Tensor:
    """(B, M, C), before the output projection."""
    width, qkv = attention.attn_dim, attention.qkv
    q = linear_rows(qkv, query, 0, width)  # (B, M, h·d)
    bias = None if qkv.bias is None else qkv.bias[width:]
    return attend_absorbed(q, x, qkv.weight[width:], bias, attention.num_heads, attention.scale)


def attend_absorbed(
    q: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, heads: int, scale: float
) -> Tensor:
    """softmax(scale · q (W_k x)ᵀ) W_v x, all heads in a row: (B, M, h·d).

    q: the projected queries (B, M, h·d); x: the tokens (B, N, C)
    weight, bias: those of keys and values together, (2·h·d, C) and (2·h·d)
    """
    B, M, width = q.shape
    w_k, w_v = weight.view(2, heads, width // heads, x.shape[2])  # (h, d, C) each
    q = (q * scale).reshape(B * M, heads, -1).transpose(0, 1) @ w_k  # (h, B·M, C)
    q = q.unflatten(1, (B, M)).transpose(0, 1).flatten(1, 2)  # (B, h·M, C)
    sums = torch.softmax(q @ x.transpose(1, 2), dim=-1) @ x  # (B, h·M, C)
    sums = sums.unflatten(1, (heads, M)).transpose(0, 1).flatten(1, 2)  # (h, B·M, C)
    y = (sums @ w_v.transpose(1, 2)).transpose(0, 1).reshape(B, M, width)  # (B, M, h·d)
    return y if bias is None else y + bias[width:]
