"""TokenLearner: adaptive tokens (Ryoo et al., NeurIPS 2021), both of its versions."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch.nn.functional as F
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn

from stvit.reduce.about import About
from stvit.reduce.plan import Mixed, Plan
from stvit.reduce.reduction import Grid, HostBlock, PruningBlock, Reduction, Seen, check_count

VERSIONS = ("1.0", "1.1")
HIDDEN = 64  # channels of version 1.1's network


class TokenLearner(Reduction):
    """Once, in front of one layer, a few learned weighted sums over all tokens take their place.

    1.1: each token's weights in all sums from a small network; softmax over the tokens.
    1.0: from four 3 × 3 convolutions over the map; a sigmoid, so that the sums are not means.
    Weights are those of the normalised tokens, what is summed are the tokens as they are.
    """

    about: ClassVar[About] = About(
        paper="TokenLearner, Ryoo et al., NeurIPS 2021",
        looks_at="tokens, by a learned network",
        keeps="weighted sums over all tokens",
        origin="google-research/scenic (JAX)",
        licence="Apache-2.0",
    )
    identity: ClassVar[dict] = {"num_tokens": 4096}

    def __init__(self, dim: int, num_tokens: int = 16, version: str = "1.1"):
        super().__init__()
        if version not in VERSIONS:
            raise ValueError(f"unknown version {version!r}; choose one of {', '.join(VERSIONS)}")
        self.num_tokens, self.version = check_count("num_tokens", num_tokens, 1), version
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        if version == "1.1":
            self.mlp = Weights(dim, num_tokens)
        else:
            channels = [dim, *[num_tokens] * 4]
            convs = pairwise(channels)
            self.conv = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1, bias=False) for i, o in convs)

    @staticmethod
    def layers(depth: int) -> tuple[int, ...]:
        return (depth * 3 // 4 + 1,)  # the 10th of 12, the public configuration's

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        if self.num_tokens >= x.shape[1]:
            return Plan()
        normed = self.norm(x)
        if self.version == "1.1":
            weights = self.mlp(normed).transpose(1, 2).softmax(dim=2)  # (B, M, N)
        else:
            weights = self.convolved(normed, seen.grid).sigmoid()
        return Plan((Mixed(None, weights),))

    def convolved(self, x: Tensor, grid: Grid | None) -> Tensor:
        """(B, N, C) → (B, M, N)."""
        if grid is None:
            raise ValueError(
                "version 1.0 convolves over the map: it needs tokens on their grid, and goes first"
            )
        image = x.transpose(1, 2).unflatten(2, grid)  # (B, C, h, w)
        for conv in self.conv[:-1]:
            image = F.gelu(conv(image), approximate="tanh")
        return self.conv[-1](image).flatten(2)

    def host(self, block: TimmBlock) -> HostBlock:
        return PruningBlock.from_block(block, self)

    def extra_repr(self) -> str:
        return f"num_tokens={self.num_tokens}, version={self.version!r}"


class Weights(nn.Module):
    def __init__(self, dim: int, num_tokens: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, HIDDEN), nn.Linear(HIDDEN, num_tokens)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
