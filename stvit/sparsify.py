"""Turn a timm ViT that a user already has into an STViT with its weights, and back.

    model = timm.create_model("vit_small_patch14_dinov2", pretrained=True)
    sparse = stvit.sparsify(model, tokens=16, at=5)
    again = stvit.dense(sparse)  # the function of ``model``, exactly
"""

from __future__ import annotations

import copy

from timm.layers import Attention as TimmAttention
from timm.models import create_model, register_model
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from stvit.attention import recast
from stvit.pooling import Grid
from stvit.vit import SemanticTokens, STViT


class STViTDistilled(SemanticTokens, VisionTransformerDistilled):
    """STViT with DeiT's distillation token, made by ``sparsify``."""

    def _keeps_prefix(self, wish: bool | None) -> bool:
        if wish is False:
            raise ValueError("a distilled model's heads read its class and distillation tokens: keep_prefix must stay")
        return True


SPARSE: dict[type[nn.Module], type[nn.Module]] = {
    VisionTransformer: STViT,
    VisionTransformerDistilled: STViTDistilled,
}
DENSE = {sparse: dense for dense, sparse in SPARSE.items()}


def sparsify(model: nn.Module, tokens: int | Grid = 16, at: int = 5, **choices) -> nn.Module:
    """A copy of ``model`` that goes on with ``tokens`` semantic tokens from layer ``at`` (from 1) on.

    ``choices`` are those of ``SemanticTokens.equip``: stgm_layers, pooling, initialization, position,
    keep_prefix. The weights are the model's; only the new parts (pooling, G) are fresh.
    Raises ValueError with the reason where a model cannot be sparsified.
    """
    reason = obstacle(model)
    if reason:
        raise ValueError(f"cannot sparsify {type(model).__name__}: {reason}")
    sparse = recast(copy.deepcopy(model), SPARSE[type(model)])
    like = next(sparse.parameters())
    training = sparse.training
    sparse.equip(tokens, at, **choices)
    sparse.to(device=like.device, dtype=like.dtype).train(training)
    sparse.sparsified_by = dict(num_semantic_tokens=tokens, stgm_at=at, **choices)
    return sparse


def dense(model: nn.Module) -> nn.Module:
    """A copy of a sparsified ``model`` as the plain ViT it came from: same layers, same weights."""
    if type(model) not in DENSE:
        known = ", ".join(cls.__name__ for cls in DENSE)
        raise ValueError(f"{type(model).__name__} is not a sparsified model; dense() takes one of {known}")
    plain = recast(copy.deepcopy(model), DENSE[type(model)])
    plain.blocks = nn.Sequential(*(_plain_block(block) for block in model_blocks(plain)))
    for name in ("initial", "position"):
        del plain._modules[name]
    for name in ("stgm", "num_semantic_tokens", "semantic_grid", "num_kept_prefix_tokens", "sparsified_by"):
        plain.__dict__.pop(name, None)
    patch = plain.feature_info[0]["reduction"] if plain.feature_info else None
    plain.feature_info = [dict(info, reduction=patch) for info in plain.feature_info]
    return plain


def model_blocks(model: nn.Module) -> list[nn.Module]:
    return list(model.blocks)
