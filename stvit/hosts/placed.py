"""timm's EVA and BEiT families as hosts."""

from __future__ import annotations

from collections.abc import Sequence

from timm.models.beit import Beit
from timm.models.beit import Block as BeitBlock
from timm.models.eva import Eva, EvaBlock
from torch import nn

from stvit.hosts.plain import equipped, restore_origin
from stvit.layers.pooling import Grid
from stvit.layers.timm_rotary import KNOWN
from stvit.models.placed import PlacedTokens, ReducedBeit, ReducedEva
from stvit.models.reduced_vit import find_method
from stvit.reduce import Reduction
from stvit.surgery import copied, recast

REDUCED: dict[type[nn.Module], type[nn.Module]] = {Eva: ReducedEva, Beit: ReducedBeit}
DENSE = {reduced: dense for dense, reduced in REDUCED.items()}


def takes_placed(model: nn.Module) -> bool:
    return isinstance(model, (Eva, Beit))


def sparsify_placed(
    model: nn.Module,
    tokens: int | Grid | None,
    at: int | Sequence[int] | None,
    method: str | type[Reduction],
    **choices,
) -> nn.Module:
    """``model`` with reductions; see ``stvit.sparsify``."""
    reason = obstacle(model, method)
    if reason:
        raise ValueError(f"cannot sparsify {type(model).__name__}: {reason}")
    find_method(method)
    choices.update({} if tokens is None else {"num_tokens": tokens}, method=method, at=at)
    return equipped(model, REDUCED[type(model)], choices)


def densify_placed(model: nn.Module) -> nn.Module:
    """A copy of a sparsified ``model`` as the one of timm that it came from; see ``stvit.densify``."""
    if type(model) not in DENSE:
        raise ValueError(f"{type(model).__name__} is not a sparsified model")
    plain = recast(copied(model), DENSE[type(model)])
    plain.blocks = model.plain_blocks(plain.blocks)
    restore_origin(plain, type(model))
    del plain.method
    return plain


def obstacle(model: nn.Module, method: str | type[Reduction]) -> str | None:
    """Why ``model`` cannot be sparsified, or None if it can."""
    if isinstance(model, PlacedTokens):
        return "it reduces its tokens already; call stvit.densify(model) first"
    if type(model) not in REDUCED:
        return f"it changes the forward pass of {', '.join(cls.__name__ for cls in REDUCED)}"
    if method == "stvit":
        return "semantic tokens have no place, which its kind of layers asks for; choose another method"
    for block in model.blocks:
        if type(block) not in (EvaBlock, BeitBlock):
            return f"its layers are {type(block).__name__}, which normalise after attention, not before"
        if not isinstance(block.attn.proj, nn.Linear) or not isinstance(block.mlp.fc2, nn.Linear):
            return "its linear layers are quantised or replaced; sparsify the model before that"
    if getattr(model, "rel_pos_bias", None) is not None:
        return "its layers share one bias of relative positions, which each would have to be told"
    if getattr(model, "patch_drop", None) is not None:
        return "it drops patches at random in training (patch_drop_rate), which leaves no map"
    rope = getattr(model, "rope", None)
    if rope is not None and not isinstance(rope, KNOWN):
        return f"its positions are {type(rope).__name__}, whose angles are not known here"
    if rope is not None and rope.aug_active:
        return "its rotary positions are moved at random in training; build it without rope_*_coords"
    return None
