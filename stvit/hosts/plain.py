"""timm's plain ViTs as hosts: VisionTransformer, DeiT with its distillation token, LV-ViT."""

from __future__ import annotations

from collections.abc import Sequence

from timm.layers import Attention as TimmAttention
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from stvit.fast.token_linear import for_many_tokens
from stvit.layers.pooling import Grid, is_whole
from stvit.models.lvvit import LVViT, ReducedLVViT, STViTLVViT
from stvit.models.recovered_vit import RECOVERY_CHOICES, STViTR, STViTRDistilled
from stvit.models.reduced_vit import ReducedTokens, ReducedViT, find_method, method_choices
from stvit.models.vit import (
    DEIT_DEFAULTS,
    SEMANTIC_CHOICES,
    SemanticTokens,
    STViT,
    check_semantic_choices,
)
from stvit.reduce import Reduction
from stvit.surgery import copied, recast


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
RECOVERED: dict[type[nn.Module], type[nn.Module]] = {
    VisionTransformer: STViTR,
    VisionTransformerDistilled: STViTRDistilled,
}
DENSE = {sparse: dense for table in (SPARSE, REDUCED, RECOVERED) for dense, sparse in table.items()}
DEFAULTS = {  # what the factories of registered models set
    STViT: DEIT_DEFAULTS,
    STViTLVViT: dict(global_pool="avg", fc_norm=False),
    ReducedViT: dict(dynamic_img_size=True),
}


def sparsify_plain(
    model: nn.Module,
    tokens: int | Grid | None,
    at: int | Sequence[int] | None,
    method: str | type[Reduction],
    **choices,
) -> nn.Module:
    """``model`` with semantic tokens or reductions; see ``stvit.sparsify``."""
    reason = obstacle(model)
    if reason:
        raise ValueError(f"cannot sparsify {type(model).__name__}: {reason}")
    if method == "stvit" and choices.pop("recovery", False):
        return recovered(model, tokens, at, choices)
    if method == "stvit":
        kinds = SPARSE
        check_semantic_choices(choices)
        choices.update(num_semantic_tokens=16 if tokens is None else tokens, stgm_at=5 if at is None else at)
    else:
        find_method(method)
        kinds = REDUCED
        choices.update({} if tokens is None else {"num_tokens": tokens}, method=method, at=at)
    return equipped(model, kinds[type(model)], choices)


def equipped(model: nn.Module, kind: type[nn.Module], choices: dict) -> nn.Module:
    """A copy of ``model`` as a ``kind`` that is equipped with ``choices``, and its record for checkpoints."""
    sparse = recast(copied(model), kind)
    like, modes = next(sparse.parameters()), {name: part.training for name, part in sparse.named_modules()}
    sparse.equip(**choices)
    sparse.to(device=like.device, dtype=like.dtype)
    for name, part in sparse.named_modules():  # layers that were set to evaluation mode stay in it
        part.training = modes.get(name, model.training)
    if "method" in choices:
        choices["method"] = sparse.method
    sparse.pretrained_cfg = dict(getattr(model, "pretrained_cfg", {}), architecture="stvit_sparsified")
    origin = dict(
        getattr(model, "_model_args", {}), base=getattr(model, "pretrained_cfg", {}).get("architecture")
    )
    sparse._model_args = dict(origin, **choices)
    return sparse


def recovered(
    model: nn.Module, tokens: int | Grid | None, at: int | Sequence[int] | None, choices: dict
) -> nn.Module:
    """``model`` in dumbbell units, STViT-R's, whose last layer gives all tokens again."""
    if type(model) not in RECOVERED:
        raise ValueError(
            f"cannot sparsify {type(model).__name__} with recovery, which is for "
            f"{' and '.join(kind.__name__ for kind in RECOVERED)}"
        )
    unknown = sorted(set(choices) - set(RECOVERY_CHOICES))
    if at is not None or unknown:
        wrong = f"at={at!r}" if at is not None else repr(unknown[0])
        raise ValueError(
            f"with recovery there is no choice {wrong}; there are tokens, {', '.join(RECOVERY_CHOICES[1:])}; units say "
            "where the STGM stands"
        )
    if choices.get("units") is not None:
        choices["units"] = whole_units(choices["units"])
    sparse = equipped(
        model, RECOVERED[type(model)], {**choices, "num_semantic_tokens": 16 if tokens is None else tokens}
    )
    sparse._model_args["recovery"] = True
    return sparse


def whole_units(units: Sequence[Sequence[int]]) -> list[list[int]]:
    """``units`` as lists of four whole numbers, or ValueError."""
    try:
        found = [list(unit) for unit in units]
    except TypeError:
        found = []
    if not found or not all(len(unit) == 4 and all(map(is_whole, unit)) for unit in found):
        raise ValueError(
            f"units={units!r}: each is four numbers of layers, (image, stgm, semantic, recovery), such as "
            "[(3, 2, 1, 1), (1, 2, 1, 1)] of 12 layers"
        )
    return found


def densify_plain(model: nn.Module) -> nn.Module:
    """A copy of a sparsified ``model`` as the plain ViT it came from; see ``stvit.densify``."""
    if type(model) not in DENSE:
        known = ", ".join(cls.__name__ for cls in DENSE)
        raise ValueError(f"{type(model).__name__} is not a sparsified model; densify() takes one of {known}")
    plain = recast(copied(model), DENSE[type(model)])
    if isinstance(model, ReducedTokens):
        plain.blocks = model.plain_blocks(plain.blocks)
        restore_origin(plain, type(model))
        del plain.method
        return plain
    plain.blocks = nn.Sequential(*map(_plain_block, plain.blocks))
    for name in model.equipment:
        delattr(plain, name)
    patch = plain.feature_info[0]["reduction"]
    plain.feature_info = [dict(info, reduction=patch) for info in plain.feature_info]
    restore_origin(plain, type(model))
    return plain


def obstacle(model: nn.Module) -> str | None:
    """Why ``model`` cannot be sparsified, or None if it can."""
    if isinstance(model, ReducedTokens):
        return "it reduces its tokens already; call stvit.densify(model) first"
    if type(model) in DENSE:
        return "it has semantic tokens already; call stvit.densify(model) first"
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


def restore_origin(plain: nn.Module, sparse: type[nn.Module]) -> None:
    """What timm needs to build the dense model again: its architecture and arguments."""
    cfg, args = getattr(plain, "pretrained_cfg", {}), dict(getattr(plain, "_model_args", {}))
    method = args.get("method", getattr(plain, "method", "stvit"))
    args = {name: value for name, value in args.items() if name not in choice_names(method)}
    architecture = args.pop("base", None) or cfg.get("architecture", "").removeprefix(f"{method}_")
    if cfg.get("architecture") != "stvit_sparsified":  # one of the registered models
        args = {**DEFAULTS.get(sparse, {}), **args}
    plain.pretrained_cfg, plain._model_args = dict(cfg, architecture=architecture), args


def choice_names(method: str) -> tuple[str, ...]:
    return (
        (*SEMANTIC_CHOICES, *RECOVERY_CHOICES)
        if method == "stvit"
        else ("method", "at", *method_choices(method))
    )
