"""PatchMerger: learning to merge tokens in vision transformers (Renggli et al., 2022)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from stvit.reduce.about import About
from stvit.reduce.learned import LearnedTokens


class PatchMerger(LearnedTokens):
    """New tokens are what learned queries find among the normalised tokens.

    W = softmax(Q · LN(X)ᵀ) over the tokens, without scaling; Y = W · LN(X). There is no residual.
    """

    about: ClassVar[About] = About(
        paper="PatchMerger, Renggli et al., 2022",
        looks_at="the tokens, normalised",
        keeps="learned mixtures of all tokens",
        origin="JoakimHaurum/TokenReduction, after lucidrains/vit-pytorch",
        licence="MIT",
    )

    def __init__(self, dim: int, keep_rate: float = 0.7, stage: int = 0, tokens: int = 196):
        super().__init__(dim, keep_rate, stage, tokens)
        self.norm = nn.LayerNorm(dim)
        self.queries = nn.Parameter(torch.randn(self.number, dim))

    def material(self, x: Tensor) -> Tensor:
        return self.norm(x)

    def weights_of(self, x: Tensor) -> Tensor:
        return (self.queries @ self.norm(x).transpose(1, 2)).softmax(dim=2)
