"""Vision transformers of Hugging Face's transformers as hosts: a model of the same class comes back.

The model's own forward runs, as it is in the installed version; its layers are recast, and keep their names. No
module of transformers is imported here: a model that comes has brought them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from stvit.hosts.huggingface.guests import (
    ADDED,
    LAYERS,
    Guest,
    GuestLayer,
    is_rotary,
    own_attention,
    release,
    welcome,
)
from stvit.hosts.huggingface.maps import MapsEnd
from stvit.hosts.huggingface.trail import TrailStart
from stvit.layers.pooling import Grid
from stvit.layers.semantic import StgmLayer
from stvit.models.reduced_vit import find_method, host_reductions, method_name
from stvit.models.semantic_layers import semantic_layers
from stvit.models.vit import SemanticTokens, check_semantic_choices
from stvit.reduce import Reduction
from stvit.reduce.reduction import HostBlock
from stvit.surgery import copied

KEY = "stvit"  # in a model's configuration
OLDEST = "5.19"  # version of transformers whose towers are laid out as below
STGM = {  # what STViT chooses by itself
    name: choice.default
    for name, choice in inspect.signature(SemanticTokens.equip).parameters.items()
    if name not in ("self", "keep_prefix")
}


class Tower(NamedTuple):
    """Where a vision tower's layers are, and how many class and register tokens it has."""

    layers: str
    prefix: Callable[[Any], int]


def with_registers(config: Any) -> int:
    return 1 + config.num_register_tokens


def counting(tokens: int) -> Callable[[Any], int]:
    return lambda config: tokens


TOWERS: dict[str, Tower] = {
    "ViTModel": Tower("layers", counting(1)),
    "DeiTModel": Tower("layers", counting(2)),
    "ViTMSNModel": Tower("layers", counting(1)),
    "IJepaModel": Tower("layers", counting(0)),
    "Dinov2Model": Tower("encoder.layer", counting(1)),
    "Dinov2WithRegistersModel": Tower("encoder.layer", with_registers),
    "DINOv3ViTModel": Tower("model.layer", with_registers),
    "CLIPVisionModel": Tower("encoder.layers", counting(1)),
    "SiglipVisionModel": Tower("encoder.layers", counting(0)),
    "Siglip2VisionModel": Tower("encoder.layers", counting(0)),
}
HEADS_OF_ALL = (  # classes with class tokens whose heads read all tokens; without such tokens all heads do
    "Dinov2ForImageClassification",
    "Dinov2WithRegistersForImageClassification",
    "CLIPForImageClassification",
)


def takes_huggingface(model: nn.Module) -> bool:
    return any(cls.__module__.partition(".")[0] == "transformers" for cls in type(model).__mro__)


def sparsify_huggingface(
    model: nn.Module,
    tokens: int | Grid | None,
    at: int | Sequence[int] | None,
    method: str | type[Reduction],
    **choices,
) -> nn.Module:
    """``model`` with semantic tokens or reductions in its vision tower; see ``stvit.sparsify``."""
    reason = obstacle(model)
    if reason:
        raise ValueError(f"cannot sparsify {type(model).__name__}: {reason}")
    sparse = copied(model)
    tower = find_towers(sparse)[0]
    place, config, patch = TOWERS[type(tower).__name__], tower.config, pair(tower.config.patch_size)
    guests = [welcome(layer) for layer in layers_of(tower)]
    sizes = VisionSizes(guests, config.hidden_size, trained_grid(config, patch), place.prefix(config))
    asked = {name: value for name, value in (("tokens", tokens), ("at", at)) if value is not None}
    if method == "stvit":
        guests = with_semantic_tokens(sizes, tower, **asked, **choices)
    else:
        method = method_name(find_method(method))
        guests = with_reductions(sizes, method, **asked, **choices)
    stage = 0
    for guest in guests:
        guest.stage = stage
        stage += isinstance(guest, (HostBlock, StgmLayer))
        like = guest.norm1.weight
        for part in added_parts(guest):
            part.to(device=like.device, dtype=like.dtype).train(model.training)
    put_layers(tower, guests)
    for name, part in list(tower.named_children()):
        if is_rotary(type(part)):
            setattr(tower, name, welcome(part))
    head_reads_all = sizes.prefix == 0 or type(model).__name__ in HEADS_OF_ALL
    start = TrailStart(place.layers, sizes.prefix, patch, head_reads_all)
    tower.register_forward_pre_hook(start, with_kwargs=True)
    tower.register_forward_hook(MapsEnd(), with_kwargs=True, always_call=True)
    setattr(sparse.config, KEY, {"method": method, **asked, **choices})
    return sparse


def densify_huggingface(model: nn.Module) -> nn.Module:
    """A copy of a sparsified ``model`` as it was; see ``stvit.densify``."""
    if not is_sparse(model):
        raise ValueError(
            f"this {type(model).__name__} is not a sparsified model: nothing in it reduces tokens"
        )
    plain = copied(model)
    for tower in find_towers(plain):
        put_layers(tower, [release(guest) for guest in layers_of(tower)])
        for name, part in list(tower.named_children()):
            if isinstance(part, Guest):
                setattr(tower, name, release(part))
        remove_hooks(tower)
    delattr(plain.config, KEY)
    return plain


def obstacle(model: nn.Module) -> str | None:
    """Why ``model`` cannot be sparsified, or None if it can."""
    if is_sparse(model):
        return "it is sparsified already; call stvit.densify(model) first"
    towers = find_towers(model)
    if len(towers) != 1:
        found = (
            f"it has {len(towers)} vision towers" if towers else "it has no vision tower that is known here"
        )
        return f"{found}; a tower is one of {', '.join(TOWERS)}, alone or inside a model"
    if "MaskedImageModeling" in type(model).__name__:
        return "its decoder lays all image tokens on the map"
    try:
        layers = layers_of(towers[0])
        attentions = [getattr(layer, LAYERS[type(layer).__name__]["attn"]) for layer in layers]
        whole = all(
            hasattr(attention, name) for attention in attentions for name in ("q_proj", "k_proj", "v_proj")
        )
    except (AttributeError, KeyError):
        whole = False
    if not whole:
        line = f"pip install 'transformers>={OLDEST}'"
        return f"its layers are not laid out as in transformers {OLDEST} and later: {line}"
    if any("forward" in part.__dict__ for layer in layers for part in layer.modules()):
        return "its layers' forward is replaced, as device maps and offloading do; sparsify the model before that"
    return None


class VisionSizes(NamedTuple):
    """What reductions and semantic tokens are built from."""

    guests: list[nn.Module]
    dim: int
    grid: Grid  # of the image tokens, at the size that the model was trained on
    prefix: int  # class and register tokens


def with_reductions(
    sizes: VisionSizes, method: str, at=None, tokens: int | None = None, **choices
) -> list[nn.Module]:
    if tokens is not None:
        choices["num_tokens"] = tokens
    count = sizes.grid[0] * sizes.grid[1]
    guests = host_reductions(sizes.guests, method, at, choices, sizes.dim, count, sizes.prefix > 0)
    return [own_attention(guest) for guest in guests]


def with_semantic_tokens(
    sizes: VisionSizes, tower: nn.Module, tokens: int | Grid = 16, at: int = 5, **choices
) -> list[nn.Module]:
    """The layers with an STGM; class and register tokens are kept, since heads and users read them."""
    check_semantic_choices(choices)
    if choices.pop("keep_prefix", None) is False and sizes.prefix:
        raise ValueError(f"{type(tower).__name__} returns its class token first: keep_prefix must stay")
    if any(is_rotary(type(part)) for part in tower.children()):
        raise ValueError(
            "its positions are rotary, and a semantic token, which looks at the whole image, has no place to be turned "
            "by; a method that keeps or merges tokens can be had: method='tome', 'bat', 'evit', …"
        )
    chosen = {**STGM, "num_semantic_tokens": tokens, "stgm_at": at, **choices}
    made = semantic_layers(sizes.guests, sizes.dim, sizes.grid, (sizes.prefix, sizes.prefix), **chosen)
    first, last = made.stgm.start, made.stgm.stop - 1
    made.blocks[first].initial = made.initial
    for i in range(first, last + 1):
        made.blocks[i].position = made.position if i == last else nn.Identity()
    return made.blocks


def added_parts(guest: nn.Module) -> list[nn.Module]:
    """The modules that a guest has from us."""
    own = [guest._modules[name] for name in ADDED if name in guest._modules]
    return own + [part for part in (guest.attn._modules.get("rel_pos"),) if part is not None]


def find_towers(model: nn.Module) -> list[nn.Module]:
    return [part for part in model.modules() if takes_huggingface(part) and type(part).__name__ in TOWERS]


def is_sparse(model: nn.Module) -> bool:
    return any(isinstance(part, GuestLayer) for part in model.modules())


def layers_of(tower: nn.Module) -> nn.ModuleList:
    return tower.get_submodule(TOWERS[type(tower).__name__].layers)


def put_layers(tower: nn.Module, layers: list[nn.Module]) -> None:
    parent, _, name = TOWERS[type(tower).__name__].layers.rpartition(".")
    setattr(tower.get_submodule(parent), name, nn.ModuleList(layers).train(tower.training))


def remove_hooks(tower: nn.Module) -> None:
    """Those that ``sparsify`` gave to the tower."""
    for number, hook in list(tower._forward_pre_hooks.items()):
        if isinstance(hook, TrailStart):
            del tower._forward_pre_hooks[number], tower._forward_pre_hooks_with_kwargs[number]
    for number, hook in list(tower._forward_hooks.items()):
        if isinstance(hook, MapsEnd):
            del tower._forward_hooks[number], tower._forward_hooks_with_kwargs[number]
            del tower._forward_hooks_always_called[number]


def trained_grid(config: Any, patch: tuple[int, int]) -> Grid:
    """The image tokens' grid at the size that the model was trained on."""
    if hasattr(config, "num_patches"):  # SigLIP 2, which has a square of places and no image size
        return (math.isqrt(config.num_patches),) * 2
    height, width = pair(config.image_size)
    return height // patch[0], width // patch[1]


def image_inputs(tower: nn.Module) -> dict[str, torch.Tensor]:
    """A black image of the size that the tower was trained on, as its forward takes it."""
    config, channels = tower.config, tower.config.num_channels
    (rows, columns), patch = trained_grid(config, pair(config.patch_size)), pair(config.patch_size)
    if not hasattr(config, "num_patches"):
        return {"pixel_values": torch.zeros(1, channels, rows * patch[0], columns * patch[1])}
    return {
        "pixel_values": torch.zeros(1, rows * columns, channels * patch[0] * patch[1]),
        "pixel_attention_mask": torch.ones(1, rows * columns, dtype=torch.long),
        "spatial_shapes": torch.tensor([[rows, columns]]),
    }


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)
