"""Attention of few queries at many tokens, which projects no keys and no values.

A logit is q·(W_k x) = (W_kᵀ q)·x, and a weighted sum of values W_v x is W_v times the weighted sum of the x.
So the projections of the N tokens go over to the M queries, head by head: M·(h·N + C) products in place of
N·C, a third of them for 16 semantic tokens of 196 in DeiT-S. The bias of the keys adds the same to all logits
of a query and is left out; the bias of the values is added once, since the weights of a query sum to 1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cheaper(queries: int, tokens: int, heads: int, dim: int) -> bool:
    """Whether the products of all heads' queries and the tokens cost less than projecting the tokens."""
    return queries * (heads * tokens + dim) < tokens * dim


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
