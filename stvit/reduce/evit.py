"""EViT: expediting vision transformers via token reorganizations (Liang et al., ICLR 2022)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from stvit.reduce.about import About
from stvit.reduce.plan import Kept, Mixed, Plan
from stvit.reduce.reduction import Reduction, Seen, check_rate, kept_count


class EViT(Reduction):
    """The ⌈keep_rate · N⌉ most attentive tokens are kept; the inattentive ones are fused into one.

    The fused token is the sum of the inattentive ones weighted with their class attention as it is,
    without normalisation, and takes part in later reductions like any other token.
    """

    about: ClassVar[About] = About(
        paper="EViT, Liang et al., ICLR 2022",
        looks_at="class attention",
        keeps="the most attentive tokens, and one fused from the others",
        origin="youweiliang/evit",
        licence="Apache-2.0",
    )
    needs_class_token: ClassVar[bool] = True

    def __init__(self, dim: int, keep_rate: float = 0.7, fuse_token: bool = True):
        super().__init__()
        self.keep_rate, self.fuse_token = check_rate(keep_rate), fuse_token

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        kept = kept_count(x.shape[1], self.keep_rate)
        if kept == x.shape[1]:
            return Plan()
        attention, order = seen.class_attention().sort(dim=1, descending=True)  # (B, N)
        parts = (Kept(order[:, :kept]),)
        if self.fuse_token:
            parts += (Mixed(order[:, kept:], attention[:, None, kept:]),)
        return Plan(parts)

    def extra_repr(self) -> str:
        return f"keep_rate={self.keep_rate}, fuse_token={self.fuse_token}"
