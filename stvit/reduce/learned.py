"""Tokens replaced by learned mixtures of all tokens: PatchMerger, Sinkhorn clusters and SiT."""

from __future__ import annotations

from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor

from stvit.reduce.plan import Mixed, Plan
from stvit.reduce.reduction import HostBlock, PruningBlock, Reduction, Seen, check_rate, staged_count


class LearnedTokens(Reduction):
    """In front of the i-th of its layers, ⌊N₀ · keep_rateⁱ⌋ new tokens take the place of all; each has weights.

    Their number is fixed when the model is built: shorter sequences stay as they are.
    """

    def __init__(self, dim: int, keep_rate: float = 0.7, stage: int = 0, tokens: int = 196):
        super().__init__()
        self.rate, self.number = check_rate(keep_rate), staged_count(tokens, keep_rate, stage)

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        if self.number >= x.shape[1]:
            return Plan()
        return Plan((Mixed(None, self.weights_of(x)),))

    def weights_of(self, x: Tensor) -> Tensor:
        """(B, N, C) → (B, M, N)."""
        raise NotImplementedError

    def host(self, block: TimmBlock) -> HostBlock:
        return PruningBlock.from_block(block, self)

    def extra_repr(self) -> str:
        return f"keep_rate={self.rate}, {self.number} tokens"
