"""ATS: adaptive token sampling (Fayyaz et al., ECCV 2022), by its two public programs."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from stvit.reduce.about import About
from stvit.reduce.plan import Padded, Plan
from stvit.reduce.reduction import Reduction, Seen, check_rate, staged_count


class ATS(Reduction):
    """Tokens are sampled from the distribution of their significance, at evenly spread points.

    1. Significance is class attention times the norm of the value, head by head, normalised to sum 1.
    2. The inverse of its running sum, in the order of places, takes the i-th stage's ⌊N₀ · keep_rateⁱ⌋ points to
       tokens. Points that meet in one token keep it once, so that each image keeps as many as it needs.
    """

    about: ClassVar[About] = About(
        paper="ATS, Fayyaz et al., ECCV 2022",
        looks_at="class attention and the norms of values",
        keeps="as many sampled tokens as each image needs",
        origin="JoakimHaurum/TokenReduction, after lucidrains/vit-pytorch",
        licence="MIT",
    )
    needs_class_token: ClassVar[bool] = True
    pads: ClassVar[bool] = True
    beyond: ClassVar[float] = 2.0  # where padding stands in the running sum, which ends at 1

    def __init__(self, dim: int, keep_rate: float = 0.7, stage: int = 0):
        super().__init__()
        self.keep_rate, self.stage = check_rate(keep_rate), stage

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        points = staged_count(seen.initial, self.keep_rate, self.stage)
        if points >= x.shape[1]:
            return Plan(mass=seen.mass)
        running = self.significance(seen).cumsum(dim=1)  # (B, N)
        if seen.mass is not None:
            running = running.masked_fill(seen.mass == 0, self.beyond)
        steps = torch.arange(points, device=x.device, dtype=running.dtype)
        return sampled(nearest(running, (2 * steps + 1) / (2 * points + 2)), x.shape[1], x.dtype)

    def significance(self, seen: Seen) -> Tensor:
        """(B, N), in 32 bits or more; 0 for padding, which nobody looks at."""
        norms = seen.values[:, :, seen.prefix :].norm(dim=3)  # (B, heads, N)
        score = (seen.class_rows() * norms).sum(dim=1)
        score = score if score.dtype == torch.float64 else score.float()
        return score / (score.sum(dim=1, keepdim=True) + 1e-6)

    def key_bias(self, mass: Tensor, prefix: int) -> Tensor | None:
        """Padding is nobody's key: −∞."""
        return torch.nn.functional.pad(mass, (prefix, 0), value=1.0).log()[:, None, None]

    def extra_repr(self) -> str:
        return f"keep_rate={self.keep_rate}"


class SortedATS(ATS):
    """The authors' program: the running sum goes from the least significant token to the most.

    1. A token's values count as one vector over all heads; the sum is scaled to go from 0 to 1.
    2. In layers 4 to 12 always N₀ points ask for a token. There is no keep rate: what prunes is that points meet,
       and that they begin above the least significant token. Tokens that stay are in the order of significance.
    """

    about: ClassVar[About] = About(
        paper="ATS, Fayyaz et al., ECCV 2022",
        looks_at="class attention and the norms of values",
        keeps="as many sampled tokens as each image needs",
        origin="adaptivetokensampling/ATS",
        licence="Apache-2.0",
    )
    identity: ClassVar[dict | None] = None

    def __init__(self, dim: int):
        Reduction.__init__(self)

    @staticmethod
    def layers(depth: int) -> tuple[int, ...]:
        return tuple(range(depth // 4 + 1, depth + 1))

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        ascending, order = self.significance(seen).sort(dim=1)  # padding, with 0, comes first
        padding = torch.zeros_like(order, dtype=torch.bool)
        if seen.mass is not None:
            padding = seen.mass.gather(1, order) == 0
        running = ascending.cumsum(dim=1)
        first = self.least(running, padding)
        running = (running - first) / (running[:, -1:] - first)
        start = running.masked_fill(running <= 0, torch.inf).amin(dim=1, keepdim=True)
        rise = torch.linspace(0, 1, seen.initial, device=x.device, dtype=running.dtype)
        running = running.masked_fill(padding, -self.beyond)
        plan = sampled(nearest(running, rise + start * (1 - rise)), x.shape[1], x.dtype)
        (part,) = plan.parts
        return plan._replace(parts=(part._replace(index=order.gather(1, part.index)),))

    def least(self, running: Tensor, padding: Tensor) -> Tensor:
        """Where the running sum begins: at the least significant token. (B, 1)

        The public program takes padding for one, so that it prunes an image differently beside larger ones; this
        equals what it does to each image alone.
        """
        return running.masked_fill(padding, torch.inf).amin(dim=1, keepdim=True)

    def significance(self, seen: Seen) -> Tensor:
        norms = seen.values[:, :, seen.prefix :].transpose(1, 2).flatten(2).norm(dim=2)  # (B, N)
        score = seen.class_rows().sum(dim=1) * norms
        score = score if score.dtype == torch.float64 else score.float()
        return score / score.sum(dim=1, keepdim=True)

    def extra_repr(self) -> str:
        return ""


def nearest(running: Tensor, points: Tensor) -> Tensor:
    """The token whose running sum is nearest to each point, the first of equals: (B, N), (P,) or (B, P) → (B, P)."""
    return (running[:, None] - points[..., None]).abs().argmin(dim=2)


def sampled(picked: Tensor, count: int, dtype: torch.dtype) -> Plan:
    """Each token that was picked, once and in their order; as wide as the image that keeps most.

    In graphs the width is what is possible, so that shapes are static; padding is masked either way.
    """
    kept = torch.zeros(picked.shape[0], count, dtype=torch.bool, device=picked.device)
    kept = kept.scatter(1, picked, torch.ones_like(picked, dtype=torch.bool))  # (B, N)
    number = torch.arange(count, device=picked.device)
    index = torch.where(kept, number, number + count).sort(dim=1).values % count
    width = min(picked.shape[1], count)
    if not (torch.compiler.is_compiling() or torch.jit.is_tracing() or picked.is_meta):
        width = int(kept.sum(dim=1).max())
    valid = torch.arange(width, device=picked.device) < kept.sum(dim=1, keepdim=True)
    return Plan((Padded(index[:, :width], valid),), valid.to(dtype))
