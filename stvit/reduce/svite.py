"""SViTE's token selector (Chen et al., NeurIPS 2021), without the sparse weights of its paper."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn

from stvit.reduce.about import About
from stvit.reduce.plan import Mixed, Plan, Scaled
from stvit.reduce.reduction import HostBlock, PruningBlock, Reduction, Seen, check_rate, kept_count


class SViTE(Reduction):
    """Before the first layer one linear score a token chooses ⌈keep_rate · (N + 1)⌉ tokens; the others become zero.

    1. The class token has a score too, and takes a place if it is among the highest; it stays in any case.
    2. Zero tokens live on in the public program, as keys and as rows of every layer. They are equal to each other and
       stay so; here one of them stands for all, and counts as many times in each softmax, with equal outputs.
    In training scores are drawn with Gumbel noise, and x is multiplied by hard − soft + soft, soft their softmax.
    """

    about: ClassVar[About] = About(
        paper="SViTE, Chen et al., NeurIPS 2021",
        looks_at="tokens and their places, by a learned score",
        keeps="the tokens with the highest scores, and a zero token for the others",
        origin="VITA-Group/SViTE",
        licence="MIT",
    )
    needs_class_token: ClassVar[bool] = True

    def __init__(self, dim: int, keep_rate: float = 0.7, temperature: float = 1.0):
        super().__init__()
        self.keep_rate, self.temperature = check_rate(keep_rate), temperature
        self.score = nn.Linear(dim, 1)

    @staticmethod
    def layers(depth: int) -> tuple[int, ...]:
        return (1,)

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        wanted = kept_count(x.shape[1] + 1, self.keep_rate)
        if wanted > x.shape[1]:
            return Plan()
        scores = self.score(torch.cat([seen.lead[:, :1], x], dim=1))[..., 0].log_softmax(dim=1)  # (B, 1 + N)
        if self.training:
            scores = (scores - torch.empty_like(scores).exponential_().log()) / self.temperature
        soft = scores.softmax(dim=1)[:, 1:]
        image = scores[:, 1:]
        order = image.argsort(dim=1, descending=True)
        index, rest = order[:, :wanted], order[:, wanted - 1 :]
        last = (
            image.gather(1, index[:, -1:]) > scores[:, :1]
        )  # (B, 1), or the class token has taken its place
        chosen = F.pad(last.to(x.dtype), (wanted - 1, 0), value=1.0)  # (B, wanted)
        left = F.pad(~last, (0, rest.shape[1] - 1), value=True).to(x.dtype)  # of ``rest``, what becomes zero
        zeros = left.sum(dim=1, keepdim=True)
        slope = (soft - soft.detach()).to(x.dtype)  # 0, with the gradient of the softmax
        kept = Scaled(index, chosen + slope.gather(1, index))
        zero = Mixed(rest, (slope.gather(1, rest) * left / zeros)[:, None])
        return Plan((kept, zero), torch.cat([chosen, zeros], dim=1))

    def key_bias(self, mass: Tensor, prefix: int) -> Tensor | None:
        """A token that stands for m draws as much as m: + log m; the one that gave way to the class token nothing."""
        return F.pad(mass, (prefix, 0), value=1.0).log()[:, None, None]

    def host(self, block: TimmBlock) -> HostBlock:
        return PruningBlock.from_block(block, self)

    def extra_repr(self) -> str:
        return f"keep_rate={self.keep_rate}, temperature={self.temperature}"
