"""Rivals' weights: files of public programs, by the names that these give to what a reduction has learned.

    model = stvit.load_released("patchmerger_small.pth")                 # what it learned says which method it is
    model = stvit.load_released("deit_small.pth", method="ats", keep_rate=0.5)  # a plain ViT's: say it yourself

Read so are the checkpoints of the TokenReduction collection (Top-K, ATS, PatchMerger, Sinkhorn, SiT, k-medoids,
DynamicViT, EViT, the heuristic), of MCTF, ATC and DTEM, and those of Evo-ViT, A-ViT (a plain ViT's), SPViT, SViTE,
IA-RED² and DGE. DiffRate's rates are a file of their own:
``stvit.reduce.diffrate.read_schedules``.
"""

from __future__ import annotations

import math
import re

import timm
from torch import Tensor, nn

from stvit.checkpoints import CheckpointError, fill
from stvit.convert.rival_weights import NAMES, convert_rival
from stvit.models.registry import DEIT_SIZES
from stvit.reduce.reduction import staged_count

SIGNS = {  # what only a method's own checkpoints have
    "patchmerger": "cluster_layers.0.queries",
    "sinkhorn": "cluster_layers.0.v",
    "sit": "cluster_layers.0.weight.3.weight",
    "dtem": "blocks.0.attn.qkv.metric_layer.weight",
    "dynamicvit": "score_predictor.0.out_conv.0.weight",
    "spvit": "score_predictor.0.senet.0.weight",
    "svite": "gumbel.weight",
    "iared2": "groups.0.agent.qk.weight",
    "evovit": "qks.0.qk.weight",
    "dge": "blocks.0.dge.router.gate.weight",
}
COUNTED = {"patchmerger": "queries", "sinkhorn": "v", "sit": "weight.3.bias"}  # one row a new token
TRUNK = ("cls_token", "pos_embed", "patch_embed.proj.weight", "head.weight")
PLAIN = "blocks.0.attn.qkv.weight"
POOLED: dict[str, dict] = {"evovit": dict(global_pool="avg")}  # what their classifiers read


def is_rival(state_dict: dict[str, Tensor]) -> bool:
    """A DeiT, with or without what a method learns beside it."""
    known = PLAIN in state_dict or any(sign in state_dict for sign in SIGNS.values())
    return known and all(name in state_dict for name in TRUNK)


def load_rival(state_dict: dict[str, Tensor], source: str, **options) -> nn.Module:
    """The model of a public program's state dict, in evaluation mode; ``options`` as in ``timm.create_model``."""
    name, found = describe(state_dict, source, **options)
    model = timm.create_model(name, **{**found, **options})
    if model.method in NAMES:
        tensors = convert_rival(state_dict, model.method, list(model.reductions))
    else:
        own = {official: name for name, official in official_names(model).items()}
        tensors = {own.get(name, name): value for name, value in without_copies(state_dict).items()}
    fill(model, tensors, source=f"{source} as {name}")
    return model.eval()


def describe(state_dict: dict[str, Tensor], source: str, method: str = "", **options) -> tuple[str, dict]:
    """The registered name, and the choices that the shapes tell."""
    signs = [known for known, sign in SIGNS.items() if sign in state_dict]
    if not signs and not method:
        raise CheckpointError(
            f"{source} holds a plain DeiT: say which method it was trained with, as in method='ats', keep_rate=0.7"
        )
    if signs and method and method != signs[0]:
        raise CheckpointError(f"{source} holds {signs[0]}, not {method}")
    method = signs[0] if signs else method
    width, channels, patch, _ = state_dict["patch_embed.proj.weight"].shape
    sizes = {size: settings for size, settings in DEIT_SIZES.items() if settings["embed_dim"] == width}
    if not sizes:
        raise CheckpointError(f"{source} is {width} wide; DeiT's are 192, 384 and 768")
    tokens = state_dict["pos_embed"].shape[1] - 1
    found: dict[str, int | float] = dict(
        num_classes=state_dict["head.weight"].shape[0], in_chans=channels, img_size=patch * math.isqrt(tokens)
    )
    found.update(POOLED.get(method, {}))
    if method in COUNTED and "keep_rate" not in options:
        found["keep_rate"] = keep_rate_of(counts(state_dict, COUNTED[method]), tokens, source)
    return f"{method}_deit_{next(iter(sizes))}_patch16_224", found


def counts(state_dict: dict[str, Tensor], part: str) -> list[int]:
    """How many new tokens each reduction makes."""
    found: list[int] = []
    while (name := f"cluster_layers.{len(found)}.{part}") in state_dict:
        found.append(state_dict[name].shape[0])
    return found


def keep_rate_of(found: list[int], tokens: int, source: str) -> float:
    """The roundest rate with ⌊tokens · rateⁱ⌋ new tokens in the i-th reduction."""
    for steps in (20, 100, 1000):
        for rate in (i / steps for i in range(1, steps)):
            if [staged_count(tokens, rate, stage) for stage in range(len(found))] == found:
                return rate
    raise CheckpointError(f"{source} makes {found} new tokens of {tokens}, which no keep rate gives")


def without_copies(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """DTEM keeps the projections twice: as they are learned, and side by side for inference."""
    copied = {name.split(".qkv_layer.")[0] for name in state_dict if ".qkv_layer." in name}
    copies = {f"{place}.{part}" for place in copied for part in ("weight", "bias")}
    return {name: value for name, value in state_dict.items() if name not in copies}


def official_names(model: nn.Module) -> dict[str, str]:
    """Own name → the public program's, of each entry of a ``ReducedViT``'s state dict.

    PatchMerger, Sinkhorn and SiT keep their parts in ``cluster_layers``, DynamicViT in ``score_predictor``, and DTEM
    in the projection of the attention.
    """
    place = {layer - 1: stage for stage, layer in enumerate(model.reductions)}
    outside = {**dict.fromkeys(COUNTED, "cluster_layers"), "dynamicvit": "score_predictor"}
    names = {}
    for name in model.state_dict():
        match = re.match(r"blocks\.(\d+)\.reduction\.(.*)", name)
        if model.method == "dtem":
            official = name.replace(".attn.qkv.", ".attn.qkv.qkv_layer.")
            names[name] = official.replace(".reduction.embed.", ".attn.qkv.metric_layer.")
        elif match and model.method in outside:
            names[name] = f"{outside[model.method]}.{place[int(match[1])]}.{match[2]}"
        else:
            names[name] = name
    return names
