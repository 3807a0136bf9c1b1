"""timm's interface to the tokens after each layer, for ViTs whose later layers have fewer tokens."""

from __future__ import annotations

from timm.models._features import feature_take_indices
from torch import Tensor

from stvit.layers.pooling import Grid

FORMATS = ("NCHW", "NLC")


class Intermediates:
    """``forward_intermediates`` of a ViT that says in ``features_after`` what its layers give."""

    def features_after(
        self, images: Tensor, take: list[int], norm: bool, maps: bool
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The last layer's tokens; of the layers ``take`` the tokens or maps, and the prefix tokens."""
        raise NotImplementedError

    def restored(self, images: Tensor, dropped: str = "zero") -> Tensor:
        """(B, N, C): image tokens after the final norm, at all places of the map; see ``stvit.restore``."""
        raise NotImplementedError

    def normed(self, x: Tensor) -> Tensor:
        """The final norm of what the last layer gives."""
        return self.norm(x)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
        output_dict: bool = False,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ):
        """As timm's: the tokens after the chosen layers, as maps (``NCHW``) or in a row (``NLC``).

        Semantic tokens form a map of their own grid (4 × 4 for 16 tokens). After reductions each place of the
        image's grid reads the token that holds it now, and 0 where its token was dropped.
        """
        if output_fmt not in FORMATS:
            raise ValueError(f"unknown output_fmt {output_fmt!r}; choose one of {', '.join(FORMATS)}")
        if attn_mask is not None or is_causal:
            raise ValueError(
                "attention masks are not supported: they count image tokens, of which later layers have fewer"
            )
        take, _ = feature_take_indices(len(self.blocks), indices)
        last, features, prefixes = self.features_after(x, take, norm, output_fmt == "NCHW")
        with_prefix = return_prefix_tokens and self.num_prefix_tokens > 0
        if output_dict:
            found = {"image_intermediates": features}
            if with_prefix:
                found["image_intermediates_prefix"] = prefixes
            return found if intermediates_only else {**found, "image_features": self.normed(last)}
        if with_prefix:
            features = list(zip(features, prefixes, strict=True))
        return features if intermediates_only else (self.normed(last), features)


def to_map(tokens: Tensor, grid: Grid | None) -> Tensor:
    if grid is None:
        raise ValueError("multi-scale semantic tokens form no map; ask for output_fmt='NLC'")
    return tokens.transpose(1, 2).unflatten(2, grid).contiguous()  # (B, C, h, w)
