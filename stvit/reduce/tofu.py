"""ToFu: token fusion, bridging the gap between token pruning and token merging (Kim et al., WACV 2024)."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from stvit.reduce.about import About
from stvit.reduce.plan import Absorbed, Kept, Plan, shares
from stvit.reduce.reduction import Reduction, Seen, check_count
from stvit.reduce.tome import alternating_pairs


class Prolonged(NamedTuple):
    """Tokens that absorb others, as long as the longest of them: mean · max ‖x_j‖ / ‖x_t‖, t the one that stays.

    The paper divides by the norm of the mean; the public program, which this equals, by that of the token itself.
    """

    parts: Absorbed

    def merge(self, x: Tensor) -> Tensor:
        _, sources, target, _ = self.parts
        norm = x.norm(dim=2)  # (B, N)
        own = norm.gather(1, self.parts.index)  # (B, m)
        longest = own.scatter_reduce(1, target, norm.gather(1, sources), "amax")
        return self.parts.merge(x) * (longest / own)[..., None]

    def matrix(self, count: int) -> Tensor:
        return self.parts.matrix(count)


class ToFu(Reduction):
    """ToMe's pairs in every layer: pruned in the first ones, where a mean would be far from the data; then fused.

    1. In layers 1 to 7 of 12, the token that would merge is dropped.
    2. From then on pairs become their mean, made as long as the longer of them.
    """

    about: ClassVar[About] = About(
        paper="ToFu, Kim et al., WACV 2024",
        looks_at="keys, averaged over heads",
        keeps="unlike tokens at first, then all, similar ones fused",
        origin="Westlake-AI/OpenToMe",
        licence="Apache-2.0",
    )
    identity: ClassVar[dict] = {"r": 0}

    def __init__(self, dim: int, r: int = 13, layer: int = 1, depth: int = 12):
        super().__init__()
        self.r = check_count("r, the number of tokens that go in a layer,", r)
        self.prunes = layer <= depth * 7 // 12

    @staticmethod
    def layers(depth: int) -> tuple[int, ...]:
        return tuple(range(1, depth + 1))

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        r = min(self.r, x.shape[1] // 2)
        if r == 0:
            return Plan()
        sources, target, rest = alternating_pairs(seen.mean_keys(), r)
        places = torch.arange(0, x.shape[1], 2, device=x.device).expand(x.shape[0], -1)  # (B, ⌈N/2⌉)
        if self.prunes:
            return Plan((Kept(rest), Kept(places)))
        share, _ = shares(
            target, torch.ones_like(sources, dtype=x.dtype), torch.ones_like(places, dtype=x.dtype)
        )
        return Plan((Kept(rest), Prolonged(Absorbed(places, sources, target, share))))

    def extra_repr(self) -> str:
        return f"r={self.r}, prunes={self.prunes}"
