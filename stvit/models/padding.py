"""Batches in which images keep different numbers of tokens: padding, and heads that leave it out.

Methods that keep as many tokens as an image needs pad the others. Padding is nobody's key; behind the last layer it
reads 0, as no token does, so that means, maxima and attention pooling over image tokens can tell it by that. What an
image gives does then not depend on the images beside it.
"""

from __future__ import annotations

import torch
from timm.models.naflexvit import global_pool_naflex
from torch import Tensor

from stvit.reduce import Seen


def cleared(x: Tensor, seen: Seen) -> Tensor:
    """Tokens (B, prefix + M, C) with 0 in the place of those without mass."""
    if seen.mass is None:
        return x
    image = torch.where(seen.mass[..., None] == 0, 0, x[:, seen.prefix :])
    return torch.cat([x[:, : seen.prefix], image], dim=1)


def is_token(x: Tensor) -> Tensor:
    """Which of x (B, T, C) are tokens, and no padding: (B, T)."""
    return (x != 0).any(dim=2)


class PadsTokens:
    """A trunk's last norm and pooling where it pads; mixed into its class in front of timm's."""

    @property
    def pads(self) -> bool:
        """Whether some images may keep fewer tokens than others beside them."""
        return any(reduction.pads for reduction in self.reductions.values())

    def normed(self, x: Tensor) -> Tensor:
        """The final norm of tokens (B, T, C); padding stays 0."""
        y = self.norm(x)
        return torch.where(is_token(x)[..., None], y, 0) if self.pads else y

    def pool(self, x: Tensor, pool_type: str | None = None) -> Tensor:
        """The head's pooling, over tokens alone."""
        if not self.pads:
            return super().pool(x, pool_type)
        prefix, with_prefix = self.num_prefix_tokens, getattr(self, "pool_include_prefix", False)
        attention = getattr(self, "attn_pool", None)
        if attention is not None:
            # timm's plain ViTs look at image tokens alone unless they are told, its EVA family at all
            x = x[:, prefix:] if hasattr(self, "pool_include_prefix") and not with_prefix else x
            unseen = torch.finfo(x.dtype).min  # finite, as an image can have lost all tokens
            return attention(x, attn_mask=torch.where(is_token(x), 0, unseen)[:, None, None].to(x.dtype))
        return global_pool_naflex(
            x,
            patch_valid=is_token(x)[:, prefix:],
            pool_type=self.global_pool if pool_type is None else pool_type,
            num_prefix_tokens=prefix,
            reduce_include_prefix=with_prefix,
        )
