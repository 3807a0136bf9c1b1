"""Which attentive tokens are homogeneous: the most similar pairs, as sets (BAT, section 4.4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosine(z: Tensor) -> Tensor:
    """Cosine similarity of all pairs: (B, K, C) → (B, K, K)."""
    norm = z.norm(dim=2).clamp_min(torch.finfo(z.dtype).tiny ** 0.5)  # (B, K)
    return z @ z.transpose(1, 2) / (norm[:, :, None] * norm[:, None, :])


def homogeneous_pairs(similarity: Tensor, pairs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Fuse the most similar pairs of tokens that stand in descending order of importance.

    Each token has one partner, the most similar of those more important than itself; the ``pairs``
    most similar of these pairs fuse, into the more important token. Where pairs share a token they
    become one set, so that K − pairs tokens remain, whatever the image.

    similarity: (B, K, K) → the tokens that stay (B, K − pairs), those that are absorbed (B, pairs), and
    of each the number, among those that stay, of the token that it goes into (B, pairs).
    """
    count, device = similarity.shape[1], similarity.device
    earlier = torch.ones(count, count, dtype=torch.bool, device=device).tril(-1)
    best, partner = similarity.masked_fill(~earlier, -torch.inf).max(dim=2)  # (B, K)
    order = best[:, 1:].argsort(dim=1, descending=True) + 1  # the first token has no partner
    absorbed = order[:, :pairs]
    first = torch.zeros_like(order[:, :1])
    stay = torch.cat([first, order[:, pairs:]], dim=1).sort(dim=1).values

    itself = torch.arange(count, device=device).expand_as(partner)
    parent = itself.scatter(1, absorbed, partner.gather(1, absorbed))  # (B, K)
    for _ in range(math.ceil(math.log2(pairs + 1))):  # chains of up to ``pairs`` links
        parent = parent.gather(1, parent)
    place = torch.zeros_like(parent).scatter(1, stay, itself[:, : count - pairs])
    return stay, absorbed, place.gather(1, parent.gather(1, absorbed))
