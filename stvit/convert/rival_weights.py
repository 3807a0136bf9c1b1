"""Weights of rivals' public programs, under the names here.

Names are the public programs'; ``layers`` are the ones that reduce, counted from 1. Whatever training alone reads,
or a file holds twice under two names, is left out; anything else that has no place here is an error of whoever
fills a model with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

StateDict = dict[str, Tensor]


class Names(NamedTuple):
    """renamed: (pattern, name here); a name that begins with ``stage.N.`` is the N-th reduction's."""

    renamed: tuple[tuple[str, str], ...] = ()
    left_out: str | None = None
    joined: Callable[[StateDict], Iterator[tuple[str, Tensor]]] | None = None


def convert_rival(state_dict: StateDict, method: str, layers: Sequence[int]) -> StateDict:
    """``state_dict`` of the public program of ``method`` under the names of ``timm``'s ViT and the reductions here."""
    names = NAMES.get(method, Names())
    if names.joined is not None:
        state_dict = dict(names.joined(state_dict))
    converted = {}
    for key, value in state_dict.items():
        if names.left_out is not None and re.search(names.left_out, key):
            continue
        for pattern, new in names.renamed:
            key = re.sub(pattern, new, key)
        stage = re.match(r"stage\.(\d+)\.", key)
        if stage is not None and int(stage[1]) < len(layers):
            key = f"blocks.{layers[int(stage[1])] - 1}.reduction.{key[stage.end() :]}"
        converted[key] = value
    return converted


def evovit_projections(state_dict: StateDict) -> Iterator[tuple[str, Tensor]]:
    """Queries and keys are one projection there, values another."""
    for key, value in state_dict.items():
        match = re.fullmatch(r"qks\.(\d+)\.qk\.(weight|bias)", key)
        if match is not None:
            number, kind = match.groups()
            yield f"blocks.{number}.attn.qkv.{kind}", torch.cat([value, state_dict[f"vs.{number}.v.{kind}"]])
        elif not re.match(r"vs\.\d+\.v\.", key):
            yield key, value


def dge_projections(state_dict: StateDict) -> Iterator[tuple[str, Tensor]]:
    """Queries are one projection there, keys and values another."""
    for key, value in state_dict.items():
        if ".attn.q." in key:
            yield (
                key.replace(".attn.q.", ".attn.qkv."),
                torch.cat([value, state_dict[key.replace(".q.", ".kv.")]]),
            )
        elif ".attn.kv." not in key:
            yield key, value


def iared2_agents(state_dict: StateDict) -> Iterator[tuple[str, Tensor]]:
    """An agent's projection has a third part there, which nothing reads; layers have two names, of groups the true."""
    depth = 0
    for key, value in state_dict.items():
        agent = re.fullmatch(r"groups\.(\d+)\.agent\.qk\.(weight|bias)", key)
        if agent is not None:
            yield f"stage.{agent[1]}.qk.{agent[2]}", value[: len(value) * 2 // 3]
    groups: dict[int, int] = {}
    for key in state_dict:
        found = re.match(r"groups\.(\d+)\.block_list\.(\d+)\.", key)
        if found is not None:
            groups[int(found[1])] = max(groups.get(int(found[1]), 0), int(found[2]) + 1)
    for group in sorted(groups):
        start = f"groups.{group}.block_list."
        for key, value in state_dict.items():
            if key.startswith(start):
                number, _, rest = key.removeprefix(start).partition(".")
                yield f"blocks.{depth + int(number)}.{rest}", value
        depth += groups[group]
    for key, value in state_dict.items():
        if not key.startswith(("groups.", "blocks.")):
            yield key, value


NAMES: dict[str, Names] = {
    "evovit": Names(
        renamed=(
            (r"^norms\.(\d+)\.", r"blocks.\1.norm1."),
            (r"^projs\.(\d+)\.", r"blocks.\1.attn.proj."),
            (r"^norm\.", "fc_norm."),
        ),
        left_out=r"^(head_cls|norm_cls)\.",
        joined=evovit_projections,
    ),
    "dge": Names(((r"\.dge\.router\.gate\.", ".reduction.router."),), r"\.dge\.splits$", dge_projections),
    "svite": Names(((r"^gumbel\.", "stage.0.score."),)),
    "spvit": Names(  # six numbers for one module that all heads share
        renamed=(
            (r"^score_predictor\.(\d+)\.senet\.", r"stage.\1.excitation."),
            (r"^score_predictor\.(\d+)\.(in_conv|out_conv)\.5\.", r"stage.\1.\2."),
        ),
        left_out=r"^score_predictor\.\d+\.(in_conv|out_conv)\.[0-4]\.",
    ),
    "iared2": Names(joined=iared2_agents),
    "tokenlearner": Names(((r"^token_learner\.", "stage.0."),)),
}
