"""Turn a timm ViT that a user already has into a sparsified one with its weights, and back.

model = timm.create_model("vit_small_patch14_dinov2", pretrained=True)
sparse = stvit.sparsify(model, tokens=16, at=5)
pruned = stvit.sparsify(model, method="bat", keep_rate=0.7)
again = stvit.densify(sparse)  # the function of ``model``, exactly
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from timm.layers import Attention as TimmAttention
from timm.models import create_model
from timm.models.deit import VisionTransformerDistilled
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import Block, VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from stvit.fast.token_linear import for_many_tokens
from stvit.layers.pooling import Grid
from stvit.models.lvvit import LVViT, ReducedLVViT, STViTLVViT
from stvit.models.reduced_vit import ReducedTokens, ReducedViT, find_method, method_choices
from stvit.models.registry import register
from stvit.models.sparsified_swin import densify_swin, sparsify_swin
from stvit.models.stvit_swin import SemanticSwin
from stvit.models.vit import DEIT_DEFAULTS, SEMANTIC_CHOICES, SemanticTokens, STViT, filter_checkpoint
from stvit.reduce import Reduction
from stvit.surgery import recast


class STViTDistilled(SemanticTokens, VisionTransformerDistilled):
    """STViT with DeiT's distillation token, made by ``sparsify``."""

    def _keeps_prefix(self, wish: bool | None) -> bool:
        if wish is False:
            raise ValueError(
                "a distilled model's heads read its class and distillation tokens: keep_prefix must stay"
            )
        return True


class ReducedDistilled(ReducedTokens, VisionTransformerDistilled):
    """Reductions with DeiT's distillation token, made by ``sparsify``."""


SPARSE: dict[type[nn.Module], type[nn.Module]] = {
    VisionTransformer: STViT,
    VisionTransformerDistilled: STViTDistilled,
    LVViT: STViTLVViT,
}
REDUCED: dict[type[nn.Module], type[nn.Module]] = {
    VisionTransformer: ReducedViT,
    VisionTransformerDistilled: ReducedDistilled,
    LVViT: ReducedLVViT,
}
DENSE = {sparse: dense for table in (SPARSE, REDUCED) for dense, sparse in table.items()}
DEFAULTS = {  # what the factories of registered models set
    STViT: DEIT_DEFAULTS,
    STViTLVViT: dict(global_pool="avg", fc_norm=False),
    ReducedViT: dict(dynamic_img_size=True),
}


EQUIPMENT = ("initial", "position", "stgm", "num_semantic_tokens", "semantic_grid", "num_kept_prefix_tokens")


def sparsify(
    model: nn.Module,
    tokens: int | Grid | None = None,
    at: int | Sequence[int] | None = None,
    method: str | type[Reduction] = "stvit",
    **choices,
) -> nn.Module:
    """A copy of ``model`` that computes with fewer tokens; the weights are the model's, new parts are fresh.

    method: "stvit", a method of ``stvit.reduce.METHODS`` by name ("bat", "evit", "dynamicvit", "tome", "topk", "ats",
        "pitome", "mctf", "atc", "evovit" and others: ``python -m analysis.field`` lists them all), or a class of
        ``stvit.reduce.Reduction``
    tokens: semantic tokens of STViT (16), a number or (rows, columns); some methods have such a choice too
    at: the layer from which STViT has semantic tokens (5, counted from 1), or the layers in which a method reduces
        (default: the method's own)
    choices: of STViT stgm_layers, pooling, initialization, position, keep_prefix; of a method its own, such as
        keep_rate=0.7 or r=8; an unknown one is an error that names those there are

    A timm Swin gets its semantic tokens in windows: see ``stvit.models.sparsified_swin`` for what it takes.
    Raises ValueError with the reason where a model cannot be sparsified.
    """
    if isinstance(model, SwinTransformer):
        return sparsify_swin(model, tokens, at, method, **choices)
    reason = obstacle(model)
    if reason:
        raise ValueError(f"cannot sparsify {type(model).__name__}: {reason}")
    if method != "stvit":
        find_method(method)
    if method == "stvit":
        kinds = SPARSE
        unknown = sorted(set(choices) - set(SEMANTIC_CHOICES))
        if unknown:
            names = ", ".join(("tokens", "at", *SEMANTIC_CHOICES[2:]))
            raise ValueError(f"stvit has no choice {unknown[0]!r}; it has {names}")
        choices.update(num_semantic_tokens=16 if tokens is None else tokens, stgm_at=5 if at is None else at)
    else:
        kinds = REDUCED
        choices.update({} if tokens is None else {"num_tokens": tokens}, method=method, at=at)
    sparse = recast(copy.deepcopy(model), kinds[type(model)])
    like, modes = next(sparse.parameters()), {name: part.training for name, part in sparse.named_modules()}
    sparse.equip(**choices)
    sparse.to(device=like.device, dtype=like.dtype)
    for name, part in sparse.named_modules():  # layers that were set to evaluation mode stay in it
        part.training = modes.get(name, model.training)
    if method != "stvit":
        choices["method"] = sparse.method
    sparse.pretrained_cfg = dict(getattr(model, "pretrained_cfg", {}), architecture="stvit_sparsified")
    origin = dict(
        getattr(model, "_model_args", {}), base=getattr(model, "pretrained_cfg", {}).get("architecture")
    )
    sparse._model_args = dict(origin, **choices)
    return sparse


def densify(model: nn.Module) -> nn.Module:
    """A copy of a sparsified ``model`` as the plain ViT or Swin it came from: same layers, same weights."""
    if isinstance(model, SemanticSwin):
        return densify_swin(model)
    if type(model) not in DENSE:
        known = ", ".join(cls.__name__ for cls in DENSE)
        raise ValueError(f"{type(model).__name__} is not a sparsified model; densify() takes one of {known}")
    plain = recast(copy.deepcopy(model), DENSE[type(model)])
    if isinstance(model, ReducedTokens):
        plain.blocks = model.plain_blocks(plain.blocks)
        _restore_origin(plain, type(model))
        del plain.method
        return plain
    plain.blocks = nn.Sequential(*map(_plain_block, plain.blocks))
    for name in EQUIPMENT:
        delattr(plain, name)
    patch = plain.feature_info[0]["reduction"]
    plain.feature_info = [dict(info, reduction=patch) for info in plain.feature_info]
    _restore_origin(plain, type(model))
    return plain


def obstacle(model: nn.Module) -> str | None:
    """Why ``model`` cannot be sparsified, or None if it can."""
    if isinstance(model, ReducedTokens):
        return "it reduces its tokens already; call stvit.densify(model) first"
    if type(model) in DENSE:
        return "it has semantic tokens already; call stvit.densify(model) first"
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
        if not isinstance(getattr(block.attn, "qkv", None), nn.Linear):
            return "its linear layers are quantised or replaced; sparsify the model before that"
        if type(block.attn) is not TimmAttention:
            return f"its attention is {type(block.attn).__name__}, which cannot look at other tokens"
    if not isinstance(model.patch_drop, nn.Identity):
        return "it drops patches at random in training (patch_drop_rate), which leaves no map to pool"
    if getattr(model.patch_embed, "grid_size", None) is None:
        return "its patch embedding knows no token grid; build it with a fixed img_size"
    return None


def _plain_block(block: nn.Module) -> nn.Module:
    plain = recast(for_many_tokens(block), Block)
    plain._modules.pop("centers", None)
    plain.__dict__.pop("prefix", None)
    plain.attn = recast(plain.attn, TimmAttention)
    plain.attn._modules.pop("rel_pos", None)
    return plain


def _restore_origin(plain: nn.Module, sparse: type[nn.Module]) -> None:
    """What timm needs to build the dense model again: its architecture and arguments."""
    cfg, args = getattr(plain, "pretrained_cfg", {}), dict(getattr(plain, "_model_args", {}))
    method = args.get("method", getattr(plain, "method", "stvit"))
    args = {name: value for name, value in args.items() if name not in _choice_names(method)}
    architecture = args.pop("base", None) or cfg.get("architecture", "").removeprefix(f"{method}_")
    if cfg.get("architecture") != "stvit_sparsified":  # one of the registered models
        args = {**DEFAULTS.get(sparse, {}), **args}
    plain.pretrained_cfg, plain._model_args = dict(cfg, architecture=architecture), args


def _choice_names(method: str) -> tuple[str, ...]:
    return SEMANTIC_CHOICES if method == "stvit" else ("method", "at", *method_choices(method))


def _build(base: str, **kwargs) -> nn.Module:
    method = kwargs.get("method", "stvit")
    choices = {name: kwargs.pop(name) for name in _choice_names(method) if name in kwargs}
    if method == "stvit":
        choices.update(tokens=choices.pop("num_semantic_tokens", 16), at=choices.pop("stgm_at", 5))
    return sparsify(create_model(base, **kwargs), **choices)


def _filter(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    keep = filter_checkpoint if isinstance(model, SemanticTokens) else checkpoint_filter_fn
    return keep(state_dict, model)


register(
    "stvit_sparsified",
    _build,
    "What ``sparsify`` makes of the timm model ``base``; the architecture of its checkpoints.",
    pretrained_filter_fn=_filter,
    base="vit_base_patch16_224",
)
