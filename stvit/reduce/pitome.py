"""PiToMe: protecting informative tokens when merging (Tran et al., NeurIPS 2024), written from the paper."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from stvit.reduce.about import About
from stvit.reduce.matching import cosine
from stvit.reduce.plan import Absorbed, Kept, Plan, shares
from stvit.reduce.reduction import Reduction, Seen, check_rate
from stvit.reduce.tome import bipartite_matching


class PiToMe(Reduction):
    """In every layer, 1 − ``keep_rate`` of the tokens merge: those of which there are many.

    1. A token's energy is the mean of ELU(cosine − m) over all keys; m falls from 0.75 to 0 with the layers.
    2. In descending order of energy, tokens alternate into two sets; in the second half of the layers those two
       times as many as merge do, and the others are protected.
    3. The first set's best edges merge (in the second half: all of them), weighted by size; attention is not.
    """

    about: ClassVar[About] = About(
        paper="PiToMe, Tran et al., NeurIPS 2024",
        looks_at="keys, averaged over heads",
        keeps="all tokens, those with many like them merged",
        origin="the paper; its program was run and not read",
        licence="CC BY-NC 4.0",
    )
    margin: ClassVar[float] = 0.75

    def __init__(self, dim: int, keep_rate: float = 0.9125, layer: int = 1, depth: int = 12):
        super().__init__()
        self.keep_rate = check_rate(keep_rate)
        self.m = self.margin * (1 - (layer - 1) / depth)
        self.protects = layer > depth // 2

    @staticmethod
    def layers(depth: int) -> tuple[int, ...]:
        return tuple(range(1, depth + 1))

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        count = x.shape[1]
        r = min(int(count - count * self.keep_rate + 1e-9), count // 2)
        if r == 0:
            return Plan(mass=seen.mass)
        similarity = cosine(seen.mean_keys())  # (B, N, N)
        order = F.elu(similarity - self.m).mean(dim=2).argsort(dim=1, descending=True)  # by energy
        free = 2 * r if self.protects else count
        first, second = order[:, :free:2], order[:, 1:free:2]  # (B, ⌈f/2⌉), (B, ⌊f/2⌋)
        rows = similarity.gather(1, first[..., None].expand(-1, -1, count))
        merged, target, stay = bipartite_matching(
            rows.gather(2, second[:, None].expand(-1, first.shape[1], -1)), r
        )
        sources, rest = first.gather(1, merged), torch.cat([order[:, free:], first.gather(1, stay)], dim=1)
        size = x.new_ones(x.shape[:2]) if seen.mass is None else seen.mass  # (B, N)
        share, total = shares(target, size.gather(1, sources), size.gather(1, second))
        parts = (Kept(rest), Absorbed(second, sources, target, share))
        return Plan(parts, torch.cat([size.gather(1, rest), total], dim=1))

    def extra_repr(self) -> str:
        return f"keep_rate={self.keep_rate}, m={self.m:g}, protects={self.protects}"
