"""ToMe: token merging (Bolya et al., ICLR 2023), written from the paper's description."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from stvit.reduce.about import About
from stvit.reduce.plan import Absorbed, Kept, Plan, shares
from stvit.reduce.reduction import Reduction, Seen, check_count


def bipartite_matching(similarity: Tensor, r: int) -> tuple[Tensor, Tensor, Tensor]:
    """The r best edges from each token of one set to its most similar one in the other.

    similarity: (B, n, m). Returns the sources that merge (B, r), the target of each (B, r), and the
    sources that stay (B, n − r), in their order.
    """
    best, target = similarity.max(dim=2)  # (B, n)
    order = best.argsort(dim=1, descending=True)
    merged, stay = order[:, :r], order[:, r:].sort(dim=1).values
    return merged, target.gather(1, merged), stay


def alternating_pairs(metric: Tensor, r: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of tokens with ``metric`` (B, N, D), the r that go into others: the second, fourth … into the first, third ….

    The class token in front of them would be in the sources' set, and is protected. Returns the sources' places
    (B, r), the number of the target of each (B, r), and the places of the sources that stay (B, ⌊N/2⌋ − r).
    """
    z = F.normalize(metric, dim=2)
    similarity = z[:, 1::2] @ z[:, ::2].transpose(1, 2)  # (B, ⌊N/2⌋, ⌈N/2⌉)
    merged, target, stay = bipartite_matching(similarity, r)
    return 2 * merged + 1, target, 2 * stay + 1


class ToMe(Reduction):
    """In every layer, r tokens merge with the ones whose keys are most like theirs.

    1. Tokens are split in two alternating sets; each of the first draws an edge to its most similar
       token of the second (cosine of the keys, averaged over heads).
    2. The r best edges merge, weighted by how many patches each token stands for already.
    3. With ``prop_attn``, tokens attract attention in proportion to their size: + log s on the logits.
    """

    about: ClassVar[About] = About(
        paper="ToMe, Bolya et al., ICLR 2023",
        looks_at="keys, averaged over heads",
        keeps="all tokens, pairs of similar ones merged",
        origin="the paper; its program was run and not read",
        licence="CC BY-NC 4.0",
    )
    identity: ClassVar[dict] = {"r": 0}

    def __init__(self, dim: int, r: int = 13, prop_attn: bool = True):
        super().__init__()
        self.r = check_count("r, the number of tokens that merge in a layer,", r)
        self.prop_attn = prop_attn

    @staticmethod
    def layers(depth: int) -> tuple[int, ...]:
        return tuple(range(1, depth + 1))

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        r = min(self.r, x.shape[1] // 2)
        if r == 0:
            return Plan(mass=seen.mass)
        size = x.new_ones(x.shape[:2]) if seen.mass is None else seen.mass  # (B, N)
        sources, target, rest = alternating_pairs(self.metric(seen), r)
        places = torch.arange(0, x.shape[1], 2, device=x.device).expand(x.shape[0], -1)  # (B, ⌈N/2⌉)
        share, total = shares(target, size.gather(1, sources), size[:, ::2])  # (B, r), (B, ⌈N/2⌉)
        parts = (Kept(rest), Absorbed(places, sources, target, share))
        return Plan(parts, torch.cat([size.gather(1, rest), total], dim=1))

    def metric(self, seen: Seen) -> Tensor:
        """What tokens are compared by: (B, N, D)."""
        return seen.mean_keys()

    def key_bias(self, mass: Tensor, prefix: int) -> Tensor | None:
        return F.pad(mass.log(), (prefix, 0))[:, None, None] if self.prop_attn else None

    def extra_repr(self) -> str:
        return f"r={self.r}, prop_attn={self.prop_attn}"
