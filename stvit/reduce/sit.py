"""SiT: self-slimmed vision transformer (Zong et al., ECCV 2022), its token slimming module."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from stvit.reduce.about import About
from stvit.reduce.learned import LearnedTokens


class SiT(LearnedTokens):
    """A small network on each token says how much it gives to each new one.

    W = softmax(s · MLP(X)) over the tokens, with a hidden layer of C / 2 and a learned scale s; Y = W · X.
    """

    about: ClassVar[About] = About(
        paper="SiT, Zong et al., ECCV 2022",
        looks_at="the tokens",
        keeps="learned mixtures of all tokens",
        origin="JoakimHaurum/TokenReduction, after Sense-X/SiT",
        licence="MIT",
    )

    def __init__(self, dim: int, keep_rate: float = 0.7, stage: int = 0, tokens: int = 196):
        super().__init__(dim, keep_rate, stage, tokens)
        self.weight = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, dim // 2), nn.GELU(), nn.Linear(dim // 2, self.number)
        )
        self.scale = nn.Parameter(torch.ones(1, 1, 1))

    def weights_of(self, x: Tensor) -> Tensor:
        return (self.weight(x) * self.scale).transpose(1, 2).softmax(dim=2)
