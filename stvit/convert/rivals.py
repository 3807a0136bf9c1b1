"""Rivals' weights: how public programs call what a reduction has learned here."""

from __future__ import annotations

import re

from torch import nn

LEARNED = ("patchmerger", "sinkhorn", "sit")


def official_names(model: nn.Module) -> dict[str, str]:
    """Own name → the public program's, of each entry of a ``ReducedViT``'s state dict.

    PatchMerger, Sinkhorn and SiT keep their parts in ``cluster_layers``, DTEM in the projection of the attention.
    """
    hosts = {layer - 1: stage for stage, layer in enumerate(model.reductions)}
    names = {}
    for name in model.state_dict():
        match = re.match(r"blocks\.(\d+)\.reduction\.(.*)", name)
        if model.method == "dtem":
            official = name.replace(".attn.qkv.", ".attn.qkv.qkv_layer.")
            names[name] = official.replace(".reduction.embed.", ".attn.qkv.metric_layer.")
        elif match and model.method in LEARNED:
            names[name] = f"cluster_layers.{hosts[int(match[1])]}.{match[2]}"
        else:
            names[name] = name
    return names
