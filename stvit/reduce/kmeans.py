"""k-means: the control that any clearer way of merging like tokens must beat."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from stvit.reduce.about import About
from stvit.reduce.density import k_means
from stvit.reduce.plan import Mixed, Plan
from stvit.reduce.reduction import Reduction, Seen, check_count, check_rate, kept_count


class KMeans(Reduction):
    """N tokens become the ⌈keep_rate · N⌉ means of their clusters.

    Lloyd's iterations start from tokens at equal steps of their order, which is that of the image's rows at
    first. Means weigh each token by the patches that it stands for. A cluster that lost all its tokens keeps
    the token that it started from, so that every image has as many.
    """

    about: ClassVar[About] = About(
        paper="control",
        looks_at="the tokens",
        keeps="means of clusters",
        origin="ours",
        licence="MIT",
    )

    def __init__(self, dim: int, keep_rate: float = 0.7, iterations: int = 3):
        super().__init__()
        self.keep_rate, self.iterations = check_rate(keep_rate), check_count("iterations", iterations)

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        count = int(x.shape[1])  # a number in tracing too, so that places can be compared
        kept = kept_count(count, self.keep_rate)
        if kept == count:
            return Plan(mass=seen.mass)
        mass = x.new_ones(x.shape[:2]) if seen.mass is None else seen.mass  # (B, N)
        starts = [i * count // kept for i in range(kept)]
        rest = [i for i in range(count) if i not in set(starts)]
        label = k_means(x[:, starts + rest], kept, self.iterations)  # (B, N), the starts first
        members = F.one_hot(label, kept).to(x.dtype).transpose(1, 2)  # (B, M, N)
        own = F.one_hot(label.new_tensor(range(kept)), count).to(x.dtype)  # (M, N)
        members = members.where(members.sum(dim=2, keepdim=True) > 0, own)
        order = label.new_tensor(starts + rest).expand(x.shape[0], -1)
        weights = members * mass.gather(1, order)[:, None]  # (B, M, N)
        total = weights.sum(dim=2)
        return Plan((Mixed(order, weights / total[..., None]),), total)

    def extra_repr(self) -> str:
        return f"keep_rate={self.keep_rate}, iterations={self.iterations}"
