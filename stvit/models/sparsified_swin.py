"""Turn a timm Swin that a user already has into STViT-Swin or STViT-R-Swin with its weights.

sparse = stvit.sparsify(swin, tokens=9)                  # semantic tokens from layer 11 of stage 3 on
dense = stvit.sparsify(swin, tokens=9, recovery=True)    # dumbbell units: four maps as before
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

from timm.models import create_model
from timm.models.swin_transformer import (
    PatchMerging,
    SwinTransformer,
    SwinTransformerBlock,
    SwinTransformerStage,
    checkpoint_filter_fn,
)
from timm.models.swin_transformer import WindowAttention as TimmWindowAttention
from torch import nn

from stvit.layers.window_options import OPTIONS
from stvit.models.dumbbell import Dumbbell
from stvit.models.registry import STAGES, register, swin_cfg
from stvit.models.stvit_swin import STViTRSwin, STViTSwin
from stvit.models.swin import AnySizeSwin
from stvit.surgery import copied, recast


def sparsify_swin(
    model: nn.Module,
    tokens: int | None = None,
    at: int | None = None,
    method: str = "stvit",
    recovery: bool = False,
    units: list | None = None,
    stgm_layers: int = 2,
    mask_padding: bool = True,
    **options,
) -> nn.Module:
    """A copy of a timm Swin with ``tokens`` semantic tokens in each window (9: w_s = 3) of stage 3.

    Without recovery the STGM stands at layer ``at`` of stage 3 (counted from 1); with it the stage is made
    of dumbbell ``units``. ``options`` are those of ``SemanticOptions``. The weights are the model's; the
    semantic layers leave its relative position bias, and fresh are pooling, G and, without recovery, the
    linear layer that replaces the last patch merging. Raises ValueError with the reason where it cannot be.
    """
    reason = obstacle_swin(model) or _misuse(method, at, units, recovery, stgm_layers)
    if reason:
        raise ValueError(f"cannot sparsify {type(model).__name__}: {reason}")
    if tokens is not None:
        options.setdefault("semantic_window", _side(tokens))
    like = next(model.parameters())
    sparse = recast(copied(model), STViTRSwin if recovery else STViTSwin)
    sparse.origin = Origin.of(sparse)
    sparse.feature_info = copy.deepcopy(list(model.feature_info))
    if recovery:
        sparse.output_norms = nn.ModuleList()
        if units is None:
            units = [Dumbbell()] * max(1, len(model.layers[2].blocks) // 6)
        sparse.equip(units, mask_padding, False, options)
        choices = dict(options, recovery=True, units=[list(unit) for unit in units])
    else:
        base = None if at is None else at - 1
        sparse.equip_without_recovery(base, stgm_layers, mask_padding, options)
        choices = dict(options, at=at, stgm_layers=stgm_layers)
    sparse.to(device=like.device, dtype=like.dtype).train(model.training)
    base_name = getattr(model, "pretrained_cfg", {}).get("architecture")
    sparse.pretrained_cfg = dict(getattr(model, "pretrained_cfg", {}), architecture="stvit_sparsified_swin")
    sparse._model_args = dict(getattr(model, "_model_args", {}), base=base_name, **choices)
    return sparse


class Origin(NamedTuple):
    """The layers of a timm Swin as they were: what ``densify`` puts back.

    They share norms, projections and FFNs with the sparse model's layers, and so follow its training. What the
    sparse model has no use for (relative position biases of semantic layers, the last patch merging) stays as
    it was; no checkpoint holds it.
    """

    blocks: list[list[nn.Module]]
    merging: nn.Module
    patch_settings: dict
    settings: dict

    @classmethod
    def of(cls, swin: SwinTransformer) -> Origin:
        patch = {
            name: getattr(swin.patch_embed, name)
            for name in PATCH_SETTINGS
            if hasattr(swin.patch_embed, name)
        }
        settings = dict(
            feature_info=copy.deepcopy(list(swin.feature_info)),
            pretrained_cfg=dict(getattr(swin, "pretrained_cfg", {})),
            _model_args=dict(getattr(swin, "_model_args", {})),
        )
        blocks = [[recast(block, type(block)) for block in stage.blocks] for stage in swin.layers]
        return cls(blocks, swin.layers[3].downsample, patch, settings)


PATCH_SETTINGS = ("strict_img_size", "dynamic_img_pad")


def densify_swin(model: nn.Module) -> nn.Module:
    """A copy of what ``sparsify_swin`` made as the timm Swin it came from."""
    if getattr(model, "origin", None) is None:
        raise ValueError(
            f"this {type(model).__name__} cannot be made dense: its checkpoint, or its architecture, holds neither the "
            "relative position biases of the semantic layers nor the last patch merging; densify the model that "
            "sparsify returned"
        )
    model, like = copied(model), next(model.parameters())
    plain = recast(model, SwinTransformer)
    plain.layers = nn.Sequential(*(recast(stage, SwinTransformerStage) for stage in model.layers))
    for stage, blocks in zip(plain.layers, model.origin.blocks, strict=True):
        stage.blocks = nn.Sequential(*blocks)
        for name in ("units", "window", "options", "plan"):
            stage.__dict__.pop(name, None)
        for name in ("initial", "position"):
            stage._modules.pop(name, None)
    plain.layers[3].downsample = model.origin.merging
    for name, value in model.origin.patch_settings.items():
        setattr(plain.patch_embed, name, value)
    for name, value in model.origin.settings.items():
        setattr(plain, name, value)
    for name in ("origin", "semantic_options", "dynamic_img_size"):
        plain.__dict__.pop(name, None)
    plain._modules.pop("output_norms", None)
    return plain.to(device=like.device, dtype=like.dtype).train(model.training)


def obstacle_swin(model: nn.Module) -> str | None:
    """Why ``model`` cannot be sparsified, or None if it can."""
    if isinstance(model, AnySizeSwin):
        return "it has semantic tokens already"
    if type(model) is not SwinTransformer:
        return "it is not timm's SwinTransformer, the only windowed model whose layers are known here"
    if len(model.layers) != 4:
        return f"semantic tokens go into stage 3 of 4, and it has {len(model.layers)} stages"
    for stage in model.layers:
        if type(stage) is not SwinTransformerStage:
            return f"a stage of it is {type(stage).__name__}"
        for block in stage.blocks:
            attention = type(getattr(block, "attn", None))
            if type(block) is not SwinTransformerBlock or attention is not TimmWindowAttention:
                return f"a layer of it is {type(block).__name__} with {attention.__name__}"
    if type(model.layers[3].downsample) is not PatchMerging:
        return f"it enters stage 4 by {type(model.layers[3].downsample).__name__}, not by patch merging"
    return None


def _misuse(method: str, at: int | None, units: list | None, recovery: bool, stgm_layers: int) -> str | None:
    if method != "stvit":
        return f"method {method!r} drops tokens that its windows need; only 'stvit' keeps windows"
    if recovery and (at is not None or stgm_layers != 2):
        return "with recovery, units says where the STGM stands and how many layers it has"
    if units is not None and not recovery:
        return "units are of a model with recovery=True"
    return None


def _side(tokens: int | tuple[int, int]) -> int:
    side = math.isqrt(tokens) if isinstance(tokens, int) else tokens[0]
    if side < 1 or tokens not in (side * side, (side, side)):
        raise ValueError(
            f"semantic tokens fill a square in each window: 4, 9 or 16, for example, not {tokens}"
        )
    return side


CHOICES = ("at", "recovery", "units", "stgm_layers", "mask_padding", *OPTIONS)


def _build(base: str, **kwargs) -> nn.Module:
    choices = {name: kwargs.pop(name) for name in CHOICES if name in kwargs}
    sparse = sparsify_swin(create_model(base, **kwargs), **choices)
    sparse.origin = None  # its layers are not those that the checkpoint's weights came from
    return sparse


register(
    "stvit_sparsified_swin",
    _build,
    "What ``sparsify`` makes of the timm Swin ``base``; the architecture of its checkpoints.",
    swin_cfg(first_conv="patch_embed.proj"),
    out_indices=STAGES,
    pretrained_filter_fn=checkpoint_filter_fn,
    base="swin_small_patch4_window7_224",
)
