"""The layers of the semantic token generation module (STGM), and what is added to the semantic tokens.

Choices that the paper's ablations compare are modules here, so that a forward pass reads the same
whatever was chosen: cluster centers G for the queries alone (Eq. 2) or for the keys too (Table 7),
positions for the semantic tokens or none (Table 14).
"""

from __future__ import annotations

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from stvit.layers.attention import ContextBlock
from stvit.layers.pooling import Grid


class GlobalCenters(nn.Module):
    """A learned vector for each semantic token, Gaussian noise at first: G of Eq. 2.

    It is added to the semantic tokens, not to class and register tokens in front of them. Since it is added
    after the norm, G contributes a term of its own to the logits, A_g = (G·W_q)·(keys)ᵀ (Eq. 3).
    """

    def __init__(self, num_tokens: int, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_tokens, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        trunc_normal_(self.weight, std=0.02)

    def forward(self, s: Tensor) -> Tensor:
        prefix = s.shape[1] - self.weight.shape[0]
        if prefix == 0:
            return s + self.weight
        return torch.cat([s[:, :prefix], s[:, prefix:] + self.weight], dim=1)

    def extra_repr(self) -> str:
        return f"tokens={self.weight.shape[0]}, dim={self.weight.shape[1]}"


class GlobalInitialization(GlobalCenters):
    """P = G: initial cluster centers that have not seen the image (Table 7, global alone)."""

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        return self.weight.to(x.dtype).expand(x.shape[0], -1, -1)  # (B, M, C)


class ConditionalPosition(nn.Module):
    """Conditional positional encoding: a depthwise convolution over the grid of semantic tokens."""

    def __init__(self, tokens: Grid, dim: int):
        super().__init__()
        self.tokens = tokens
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, s: Tensor) -> Tensor:
        prefix = s.shape[1] - self.tokens[0] * self.tokens[1]
        grid = s[:, prefix:].transpose(1, 2).unflatten(2, self.tokens)  # (B, C, h, w)
        moved = s[:, prefix:] + self.depthwise(grid).flatten(2).transpose(1, 2)
        return torch.cat([s[:, :prefix], moved], dim=1) if prefix else moved


class StgmLayer(ContextBlock):
    """A layer of the STGM: semantic tokens attend to image tokens, which are not updated."""

    # class and register tokens in front of the semantic tokens, and in front of the image tokens
    prefix: tuple[int, int] = (0, 0)

    def forward(self, s: Tensor, x: Tensor) -> Tensor:
        return self.update(s, *self.sources(s, x))  # (B, M, C)

    def sources(self, s: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and, where they differ from the keys, values: normalised."""
        raise NotImplementedError

    def assignment(self, s: Tensor, x: Tensor) -> Tensor:
        """(B, M, N): the part each image token has in each semantic token, over all heads; rows sum to 1."""
        rows, columns = self.prefix
        weights = self.attn.weights(*self.sources(s, x)).mean(1)  # (B, M, keys), image tokens last
        weights = weights[:, rows:, columns - x.shape[1] :]
        return weights / weights.sum(-1, keepdim=True)


class GenerationLayer(StgmLayer):
    """The first layer of the STGM (Eq. 1): Ŝ¹ = MHA(P, X, X) + P, S¹ = FFN(Ŝ¹) + Ŝ¹."""

    def sources(self, s: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.norm1(s), self.norm1(x)


class ClusterLayer(StgmLayer):
    """A further layer (Eq. 2): Ŝ = MHA(S + G, Concat(S, X), Concat(S, X)) + S, S = FFN(Ŝ) + Ŝ."""

    centers: nn.Module  # GlobalCenters, or Identity where there are none

    def sources(self, s: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        keys = self.norm1(torch.cat([s, x], dim=1))  # (B, M + N, C)
        return self.centers(keys[:, : s.shape[1]]), keys


class LearnedEncodingLayer(ClusterLayer):
    """Table 7's last row: G joins the keys too, and so is a learned positional encoding."""

    def sources(self, s: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values = self.norm1(torch.cat([s, x], dim=1))  # (B, M + N, C)
        queries = self.centers(values[:, : s.shape[1]])  # (B, M, C)
        return queries, torch.cat([queries, values[:, s.shape[1] :]], dim=1), values
