"""K-medoids (the clusters of Marin et al., 2021, as Haurum et al., 2023, compare them)."""

from __future__ import annotations

from typing import ClassVar

import torch
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor

from stvit.reduce.about import About
from stvit.reduce.density import squared_distances
from stvit.reduce.plan import Kept, Plan, take
from stvit.reduce.reduction import ClosingBlock, HostBlock, Reduction, Seen, check_rate, staged_count


class KMedoids(Reduction):
    """After a layer, tokens are clustered, and each cluster's medoid stays as it is: nothing is averaged.

    1. The tokens that receive most attention, from all tokens and heads, are the first medoids.
    2. Three times, tokens go to their nearest medoid, and the member with the least weight · Σ distances takes
       over. As in the public program the sum goes over all tokens, so that attention speaks against a token.
    """

    about: ClassVar[About] = About(
        paper="Haurum et al., 2023, after Marin et al., 2021",
        looks_at="attention of all tokens, and the tokens",
        keeps="the medoids of clusters",
        origin="JoakimHaurum/TokenReduction",
        licence="MIT",
    )

    def __init__(self, dim: int, keep_rate: float = 0.7, iterations: int = 3, stage: int = 0):
        super().__init__()
        self.keep_rate, self.iterations, self.stage = check_rate(keep_rate), iterations, stage

    @staticmethod
    def layers(depth: int) -> tuple[int, ...]:
        """Layers 3, 6, 9 of 12: their attention is what the next one's tokens are chosen by."""
        return tuple(dict.fromkeys(max(1, depth * i // 4) for i in (1, 2, 3)))

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        kept = staged_count(seen.initial, self.keep_rate, self.stage)
        if kept >= x.shape[1]:
            return Plan()
        return Plan((Kept(medoids(x, seen.received(), kept, self.iterations)),))

    def host(self, block: TimmBlock) -> HostBlock:
        return ClosingBlock.from_block(block, self)

    def extra_repr(self) -> str:
        return f"keep_rate={self.keep_rate}, iterations={self.iterations}"


def medoids(x: Tensor, weight: Tensor, count: int, iterations: int) -> Tensor:
    """(B, N, C), (B, N) → the medoids of ``count`` clusters, (B, M)."""
    distance = squared_distances(x).sqrt()  # (B, N, N)
    cost = weight * distance.sum(dim=2)  # (B, N)
    centers = weight.topk(count, dim=1).indices
    for _ in range(iterations):
        label = take(distance, centers).argmin(dim=1)  # (B, N)
        members = label[:, None] == torch.arange(count, device=x.device)[:, None]  # (B, M, N)
        centers = cost[:, None].expand_as(members).masked_fill(~members, torch.inf).argmin(dim=2)
    return centers
