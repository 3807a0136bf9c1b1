"""Turn a timm ViT that a user already has into an STViT with its weights, and back.

model = timm.create_model("vit_small_patch14_dinov2", pretrained=True)
sparse = stvit.sparsify(model, tokens=16, at=5)
again = stvit.dense(sparse)  # the function of ``model``, exactly
"""

from __future__ import annotations

import copy
import inspect

from timm.layers import Attention as TimmAttention
from timm.models import build_model_with_cfg, create_model, generate_default_cfgs, register_model
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from stvit.attention import recast
from stvit.pooling import Grid
from stvit.vit import DEIT_DEFAULTS, SemanticTokens, STViT, default_cfg, filter_checkpoint


class STViTDistilled(SemanticTokens, VisionTransformerDistilled):
    """STViT with DeiT's distillation token, made by ``sparsify``."""

    def _keeps_prefix(self, wish: bool | None) -> bool:
        if wish is False:
            raise ValueError(
                "a distilled model's heads read its class and distillation tokens: keep_prefix must stay"
            )
        return True


SPARSE: dict[type[nn.Module], type[nn.Module]] = {
    VisionTransformer: STViT,
    VisionTransformerDistilled: STViTDistilled,
}
DENSE = {sparse: dense for dense, sparse in SPARSE.items()}


CHOICES = tuple(inspect.signature(SemanticTokens.equip).parameters)[1:]
EQUIPMENT = ("initial", "position", "stgm", "num_semantic_tokens", "semantic_grid", "num_kept_prefix_tokens")


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
    sparse.equip(tokens, at, **choices)
    sparse.to(device=like.device, dtype=like.dtype).train(model.training)
    sparse.pretrained_cfg = dict(getattr(model, "pretrained_cfg", {}), architecture="stvit_sparsified")
    origin = dict(
        getattr(model, "_model_args", {}), base=getattr(model, "pretrained_cfg", {}).get("architecture")
    )
    sparse._model_args = dict(origin, num_semantic_tokens=tokens, stgm_at=at, **choices)
    return sparse


def dense(model: nn.Module) -> nn.Module:
    """A copy of a sparsified ``model`` as the plain ViT it came from: same layers, same weights."""
    if type(model) not in DENSE:
        known = ", ".join(cls.__name__ for cls in DENSE)
        raise ValueError(f"{type(model).__name__} is not a sparsified model; dense() takes one of {known}")
    plain = recast(copy.deepcopy(model), DENSE[type(model)])
    plain.blocks = nn.Sequential(*map(_plain_block, plain.blocks))
    for name in EQUIPMENT:
        delattr(plain, name)
    patch = plain.feature_info[0]["reduction"]
    plain.feature_info = [dict(info, reduction=patch) for info in plain.feature_info]
    _restore_origin(plain)
    return plain


def obstacle(model: nn.Module) -> str | None:
    """Why ``model`` cannot be sparsified, or None if it can."""
    if type(model) in DENSE:
        return "it has semantic tokens already; call stvit.dense(model) first"
    if not isinstance(model, VisionTransformer):
        return (
            "it is not one of timm's plain ViTs (VisionTransformer: ViT, DeiT, DeiT-III, DINOv2, CLIP and SigLIP "
            "image towers); rotary or windowed attention needs a model of its own"
        )
    if type(model) not in SPARSE:
        return f"it changes VisionTransformer's forward pass; supported are {', '.join(c.__name__ for c in SPARSE)}"
    for block in model.blocks:
        if type(block) is not Block:
            return f"its layers are {type(block).__name__}, whose attention has no place for other keys"
        if type(block.attn) is not TimmAttention:
            return f"its attention is {type(block.attn).__name__}, which cannot look at other tokens"
    if not isinstance(model.patch_drop, nn.Identity):
        return "it drops patches at random in training (patch_drop_rate), which leaves no map to pool"
    if getattr(model.patch_embed, "grid_size", None) is None:
        return "its patch embedding knows no token grid; build it with a fixed img_size"
    return None


def _plain_block(block: nn.Module) -> nn.Module:
    if type(block) is Block:
        return block
    plain = recast(block, Block)
    plain._modules.pop("centers", None)
    plain.__dict__.pop("prefix", None)
    plain.attn = recast(block.attn, TimmAttention)
    plain.attn._modules.pop("rel_pos", None)
    return plain


def _restore_origin(plain: nn.Module) -> None:
    """What timm needs to build the dense model again: its architecture and arguments."""
    cfg = getattr(plain, "pretrained_cfg", {})
    args = {name: value for name, value in getattr(plain, "_model_args", {}).items() if name not in CHOICES}
    architecture = args.pop("base", None) or cfg.get("architecture", "").removeprefix("stvit_")
    if cfg.get("architecture") != "stvit_sparsified":  # one of the stvit_deit models
        args = {**DEIT_DEFAULTS, **args}
    plain.pretrained_cfg, plain._model_args = dict(cfg, architecture=architecture), args


def _build(base: str, **kwargs) -> nn.Module:
    choices = {name: kwargs.pop(name) for name in CHOICES if name in kwargs}
    tokens, at = choices.pop("num_semantic_tokens", 16), choices.pop("stgm_at", 5)
    return sparsify(create_model(base, **kwargs), tokens, at, **choices)


default_cfgs = generate_default_cfgs({"stvit_sparsified": default_cfg()})


@register_model
def stvit_sparsified(pretrained: bool = False, base: str = "vit_base_patch16_224", **kwargs) -> nn.Module:
    """What ``sparsify`` makes of the timm model ``base``; the architecture of its checkpoints."""
    return build_model_with_cfg(
        _build,
        "stvit_sparsified",
        pretrained,
        pretrained_filter_fn=filter_checkpoint,
        feature_cfg=dict(out_indices=3, feature_cls="getter"),
        base=base,
        **kwargs,
    )
