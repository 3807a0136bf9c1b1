"""Sinkhorn clusters: tokens shared out to learned centers by optimal transport (after Haurum et al., 2022)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stvit.reduce.about import About
from stvit.reduce.learned import LearnedTokens


class Sinkhorn(LearnedTokens):
    """Each token, of length 1, is shared out among learned centers, so that all centers get about as much.

    Cosines over ``epsilon`` are the logits; ``iterations`` times, rows (centers) and then columns (tokens) are
    normalised. A new token is the weighted sum, not the mean: a token's weights sum to 1, a center's to N / M.
    """

    about: ClassVar[About] = About(
        paper="Haurum et al., 2022 and 2023",
        looks_at="the directions of the tokens",
        keeps="learned mixtures of all tokens",
        origin="JoakimHaurum/TokenReduction",
        licence="MIT",
    )

    def __init__(
        self,
        dim: int,
        keep_rate: float = 0.7,
        epsilon: float = 1.0,
        iterations: int = 3,
        stage: int = 0,
        tokens: int = 196,
    ):
        super().__init__(dim, keep_rate, stage, tokens)
        self.epsilon, self.iterations = epsilon, iterations
        self.v = nn.Parameter(torch.randn(self.number, dim))  # the centers

    def material(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=2)

    def weights_of(self, x: Tensor) -> Tensor:
        logits = F.normalize(self.v, dim=1) @ self.material(x).transpose(1, 2) / self.epsilon  # (B, M, N)
        for _ in range(self.iterations):
            logits = logits.log_softmax(dim=2).log_softmax(dim=1)
        return logits.exp()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, epsilon={self.epsilon}, iterations={self.iterations}"
