"""The whole map of tokens out of a model that computes with fewer, for heads that give each place an answer.

encoder = stvit.restore(stvit.sparsify(model, method="tome", r=8))
tokens = encoder(images)                        # (B, N, C), at all N places of the image's grid
maps = tokens.mT.unflatten(2, encoder.grid(images))  # (B, C, h, w), as segmentation heads take it
"""

from __future__ import annotations

from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from stvit.layers.pooling import Grid
from stvit.models.intermediates import Intermediates
from stvit.models.stvit_swin import STViTSwin

DROPPED = ("zero", "last")


class Restored(nn.Module):
    """Images → (B, N, C): the image tokens after the model's final norm, each at its own place."""

    def __init__(self, model: nn.Module, dropped: str = "zero"):
        super().__init__()
        self.model, self.dropped = model, dropped

    def forward(self, images: Tensor) -> Tensor:
        if isinstance(self.model, Intermediates):
            return self.model.restored(images, self.dropped)
        tokens = self.model.forward_features(images)
        if isinstance(self.model, SwinTransformer):
            return tokens.flatten(1, 2)  # (B, h, w, C) before
        return tokens[:, self.model.num_prefix_tokens :]

    def grid(self, images: Tensor) -> Grid:
        """Rows and columns of the places."""
        height, width = self.model.patch_embed.dynamic_feat_size(images.shape[-2:])
        if isinstance(self.model, SwinTransformer):
            halvings = len(self.model.layers) - 1  # of the map, rounded up
            return -(-height // 2**halvings), -(-width // 2**halvings)
        return height, width


def restore(model: nn.Module, dropped: str = "zero") -> Restored:
    """``model`` as an encoder of all places; it shares the model's layers and trains with them.

    A place reads the token that it was merged into. With semantic tokens it reads them by its part in each, and
    STViT-R has the map itself. A dense model gives its tokens as they are, to compare with.

    model: a ViT, dense or sparsified, a Swin, or STViT-R
    dropped: what a place reads whose token was dropped: "zero", or "last", the token as it was before
    """
    if dropped not in DROPPED:
        raise ValueError(f"dropped={dropped!r} is unknown; choose one of {', '.join(DROPPED)}")
    if isinstance(model, STViTSwin):
        raise ValueError(
            "cannot restore STViTSwin: its semantic tokens do not return to the map; sparsify with recovery=True"
        )
    if not (isinstance(model, (Intermediates, SwinTransformer)) or hasattr(model, "num_prefix_tokens")):
        raise ValueError(
            f"cannot restore {type(model).__name__}: it has no image tokens; give a ViT or a Swin"
        )
    return Restored(model, dropped)
