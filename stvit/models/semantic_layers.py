"""The layers of a model of the STGM's frame: those in front of it, the STGM, and those of the semantic tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import nn

from stvit.fast.token_linear import for_few_tokens
from stvit.layers.attention import ContextBlock, RelativeAttention
from stvit.layers.pooling import Grid, create_pooling, is_whole
from stvit.layers.semantic import (
    ClusterLayer,
    ConditionalPosition,
    GenerationLayer,
    GlobalCenters,
    GlobalInitialization,
    LearnedEncodingLayer,
)

INITIALIZATIONS = ("both", "spatial", "global", "learned")  # the rows of Table 7
POSITIONS = ("none", "learned", "conditional", "relative")  # the rows of Table 14


class SemanticLayers(NamedTuple):
    """A model's layers with an STGM among them, and the modules that go with it."""

    blocks: list[nn.Module]
    initial: nn.Module  # what the first centers come from
    position: nn.Module  # what is added to the semantic tokens after the STGM
    stgm: slice
    num_tokens: int
    tokens: Grid | None  # the semantic tokens' grid


def semantic_layers(
    blocks: Iterable[nn.Module],
    dim: int,
    grid: Grid,
    prefix: tuple[int, int],
    num_semantic_tokens: int | Grid,
    stgm_at: int,
    stgm_layers: int,
    pooling: str,
    initialization: str,
    position: str,
) -> SemanticLayers:
    """The layers of a model as ``SemanticTokens.equip`` wants them; ValueError with the reason where it cannot be.

    grid: the image tokens'
    prefix: how many class and register tokens the model has, and how many are kept after the STGM
    """
    _choose("initialization", initialization, INITIALIZATIONS)
    _choose("position", position, POSITIONS)
    for name, value in (("at (stgm_at)", stgm_at), ("stgm_layers", stgm_layers)):
        if not is_whole(value):
            raise ValueError(f"{name} is one layer's number or a number of layers, not {value!r}")
    blocks = list(blocks)
    first, last, depth = stgm_at - 1, stgm_at - 1 + stgm_layers, len(blocks)
    if not (first >= 0 and stgm_layers >= 1 and last <= depth):
        raise ValueError(
            f"an STGM of {stgm_layers} layers at layer {stgm_at} does not fit a model of {depth} layers; choose "
            f"stgm_layers ≥ 1 and 1 ≤ at (stgm_at) ≤ {max(1, depth + 1 - max(stgm_layers, 1))}"
        )
    pool = create_pooling(pooling, dim, num_semantic_tokens, grid)
    new_position = _create_position(position, pool, dim)
    blocks[first] = GenerationLayer.from_block(blocks[first])
    layer = LearnedEncodingLayer if initialization == "learned" else ClusterLayer
    for i in range(first + 1, last):
        blocks[i] = layer.from_block(blocks[i])
        guided = initialization in ("both", "learned")
        blocks[i].centers = GlobalCenters(pool.num_tokens, dim) if guided else nn.Identity()
    for i in range(first, last):
        blocks[i].prefix = (prefix[1], prefix[0] - (prefix[1] if i > first else 0))
    if position == "relative":
        blocks[last:] = [_with_relative_positions(block, pool.tokens, prefix[1]) for block in blocks[last:]]
    blocks[first:] = map(for_few_tokens, blocks[first:])
    initial = GlobalInitialization(pool.num_tokens, dim) if initialization == "global" else pool
    return SemanticLayers(blocks, initial, new_position, slice(first, last), pool.num_tokens, pool.tokens)


def _choose(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"unknown {what} {value!r}; choose one of {', '.join(choices)}")


def _create_position(position: str, pool: nn.Module, dim: int) -> nn.Module:
    if position in ("conditional", "relative") and pool.tokens is None:
        raise ValueError(
            f"position={position!r} needs semantic tokens on a grid, which multi-scale pooling does not give"
        )
    if position == "learned":
        return GlobalCenters(pool.num_tokens, dim)
    return ConditionalPosition(pool.tokens, dim) if position == "conditional" else nn.Identity()


def _with_relative_positions(block: nn.Module, tokens: Grid, prefix: int) -> ContextBlock:
    block = ContextBlock.from_block(block)
    block.attn = RelativeAttention.from_attention(block.attn, tokens, prefix)
    return block
