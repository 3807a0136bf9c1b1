"""IA-RED²: interpretability-aware redundancy reduction (Pan et al., NeurIPS 2021)."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from stvit.reduce.about import About
from stvit.reduce.deciding import Deciding
from stvit.reduce.reduction import Seen


class IARED2(Deciding):
    """In front of each group of layers an agent asks whether the class token has use for a token.

    p = mean over heads of σ(q_cls · k / √d), of normalised tokens; those with p > threshold stay.
    The public program masks the others, and saves nothing; here they leave. Its authors train agents by policy
    gradient; here the drawn decisions are differentiable (Gumbel-softmax).
    """

    about: ClassVar[About] = About(
        paper="IA-RED², Pan et al., NeurIPS 2021",
        looks_at="tokens and the class token, by a learned agent",
        keeps="tokens above a threshold, as many as an image needs",
        origin="a copy of the authors' interpretation tool in joon-stack/ltrp",
        licence="none stated",
    )
    needs_class_token: ClassVar[bool] = True
    identity: ClassVar[dict] = {"threshold": 0.0}

    def __init__(self, dim: int, threshold: float = 0.5, heads: int = 1):
        super().__init__(threshold)
        self.heads = heads
        self.qk = nn.Linear(dim, 2 * dim)

    @staticmethod
    def layers(depth: int) -> tuple[int, ...]:
        """The first of each of three groups: 1, 5, 9 of 12."""
        return tuple(dict.fromkeys(depth * i // 3 + 1 for i in range(3)))

    def staying(self, x: Tensor, seen: Seen) -> Tensor:
        weights, biases = self.qk.weight.chunk(2), self.qk.bias.chunk(2)
        q = F.linear(normalised(seen.lead[:, :1]), weights[0], biases[0])  # (B, 1, C)
        k = F.linear(normalised(x), weights[1], biases[1])  # (B, N, C)
        q, k = (y.unflatten(2, (self.heads, -1)).transpose(1, 2) for y in (q, k))  # (B, heads, ·, head_dim)
        logits = (q @ k.transpose(2, 3) * q.shape[3] ** -0.5)[:, :, 0]  # (B, heads, N)
        return logits.sigmoid().mean(dim=1)


def normalised(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])
