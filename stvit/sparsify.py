"""Turn a vision transformer that a user already has into a sparsified one with its weights, and back.

model = timm.create_model("vit_small_patch14_dinov2", pretrained=True)
sparse = stvit.sparsify(model, tokens=16, at=5)
pruned = stvit.sparsify(model, method="bat", keep_rate=0.7)
again = stvit.densify(sparse)  # the function of ``model``, exactly

What is done to a model depends on its kind: see ``stvit.hosts``.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from timm.models import create_model
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from stvit.hosts import find_host
from stvit.hosts.plain import choice_names
from stvit.hosts.refused import why_not
from stvit.layers.pooling import Grid
from stvit.models.recovered_vit import RecoveredTokens, filter_recovered
from stvit.models.reduced_vit import method_choices
from stvit.models.registry import register
from stvit.models.vit import SemanticTokens, filter_checkpoint
from stvit.reduce import METHODS, Reduction


def sparsify(
    model: nn.Module,
    tokens: int | Grid | None = None,
    at: int | Sequence[int] | None = None,
    method: str | type[Reduction] = "stvit",
    **choices,
) -> nn.Module:
    """A copy of ``model`` that computes with fewer tokens; the weights are the model's, new parts are fresh.

    model: a plain ViT of timm, one of its EVA (EVA-02, DINOv3, PE, RoPE-ViT) or BEiT families, a Swin, or a vision
        model of transformers, alone or as the tower of another: ViT, DeiT, DINOv2, DINOv3, CLIP, SigLIP, LLaVA
    method: "stvit", a method of ``stvit.reduce.METHODS`` by name ("bat", "evit", "dynamicvit", "tome", "topk", "ats",
        "pitome", "mctf", "atc", "evovit" and others: ``python -m analysis.field`` lists them all), or a class of
        ``stvit.reduce.Reduction``
    tokens: semantic tokens of STViT (16), a number or (rows, columns); some methods have such a choice too
    at: the layer from which STViT has semantic tokens (5, counted from 1), or the layers in which a method reduces
        (default: the method's own)
    choices: of STViT stgm_layers, pooling, initialization, position, keep_prefix; with recovery=True (STViT-R: dumbbell
        units, all tokens behind the last) units, reuse, pooling, initialization; of a method its own, such as
        keep_rate=0.7 or r=8; an unknown one is an error that names those there are

    A timm Swin gets its semantic tokens in windows: see ``stvit.models.sparsified_swin`` for what it takes.
    Raises ValueError with the reason where a model cannot be sparsified.

    Methods, and what can be chosen of each:

    """
    host = find_host(model)
    if host is None:
        raise ValueError(f"cannot sparsify {type(model).__name__}: {why_not(model)}")
    return host.sparsify(model, tokens, at, method, **choices)


def told(method: str) -> str:
    """A method's name, and its choices with their defaults."""
    known = inspect.signature(METHODS[method]).parameters
    chosen = [f"{name}={known[name].default!r}" for name in method_choices(method)]
    return f"{method}: {', '.join(chosen) or 'nothing'}"


if sparsify.__doc__:  # there is none under python -OO
    sparsify.__doc__ += "\n    ".join(map(told, METHODS.loaded())) + "\n"


def densify(model: nn.Module) -> nn.Module:
    """A copy of a sparsified ``model`` as the dense one that it came from: same layers, same weights."""
    host = find_host(model)
    if host is None:
        raise ValueError(
            f"{type(model).__name__} is not a sparsified model: densify() takes what sparsify() made"
        )
    return host.densify(model)


def _build(base: str, **kwargs) -> nn.Module:
    method = kwargs.get("method", "stvit")
    choices = {name: kwargs.pop(name) for name in choice_names(method) if name in kwargs}
    if method == "stvit":
        choices["tokens"] = choices.pop("num_semantic_tokens", 16)
        if not choices.get("recovery"):
            choices["at"] = choices.pop("stgm_at", 5)
    return sparsify(create_model(base, **kwargs), **choices)


def _filter(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    if isinstance(model, RecoveredTokens):
        return filter_recovered(state_dict, model)
    keep = filter_checkpoint if isinstance(model, SemanticTokens) else checkpoint_filter_fn
    return keep(state_dict, model)


register(
    "stvit_sparsified",
    _build,
    "What ``sparsify`` makes of the timm model ``base``; the architecture of its checkpoints.",
    pretrained_filter_fn=_filter,
    base="vit_base_patch16_224",
)
