"""Attention maps of one forward pass, sorted by the part of the model that they belong to."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

import stvit
from stvit.layers.windows import Grid


class Captured(NamedTuple):
    """All attention maps, rows summing to 1; ``prefix`` class and register tokens stand in front.

    base: the layers on all tokens, (B, heads, prefix + N, prefix + N) each
    to_image: the STGM's layers, semantic tokens looking at image tokens, (B, heads, M, N) each
    to_semantic: its layers after the first, semantic tokens looking at each other, (B, heads, M, M) each
    after: the layers after the STGM, (B, heads, M, M) each, a kept class token left out
    initial: the initial cluster centers' weights, (B, M, N)
    """

    grid: Grid
    semantic_grid: Grid | None
    prefix: int
    base: list[Tensor]
    to_image: list[Tensor]
    to_semantic: list[Tensor]
    after: list[Tensor]
    initial: Tensor | None

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1]


def capture(model: nn.Module, images: Tensor) -> Captured:
    """The maps of a plain ViT, or of an STViT, those of its STGM listed separately."""
    if not hasattr(model, "blocks") or hasattr(model, "reductions"):
        raise ValueError(
            f"{type(model).__name__} is neither a plain ViT nor an STViT; stvit.record gives its maps by layer, and "
            "python -m analysis.token_maps draws what becomes of its tokens"
        )
    names = [f"blocks.{i}.attn" for i in range(len(model.blocks))]
    with torch.inference_mode(), stvit.record(model) as maps:
        model(images)
    if not maps.keys() >= set(names):
        raise ValueError(f"attention layers of {type(model).__name__} cannot be recorded")
    grid = tuple(model.patch_embed.dynamic_feat_size(images.shape[-2:]))
    layers = [maps[name] for name in names]
    if not hasattr(model, "stgm"):
        return Captured(grid, None, model.num_prefix_tokens, layers, [], [], [], None)
    kept, count = model.num_kept_prefix_tokens, grid[0] * grid[1]
    stgm, semantic = layers[model.stgm], model.num_semantic_tokens
    return Captured(
        grid,
        model.semantic_grid,
        model.num_prefix_tokens,
        layers[: model.stgm.start],
        [layer[:, :, kept:, -count:] for layer in stgm],
        [layer[:, :, kept:, kept : kept + semantic] for layer in stgm[1:]],
        [layer[:, :, kept:, kept:] for layer in layers[model.stgm.stop :]],
        maps.get("initial.assignment"),
    )


def class_attention(captured: Captured) -> Tensor:
    """What the class token looks at, layer by layer, over image tokens alone: (B, layers, N), sums 1."""
    if not captured.prefix:
        raise ValueError("the model has no class token whose attention could be drawn")
    rows = torch.stack([layer.mean(1)[:, 0, captured.prefix :] for layer in captured.base], dim=1)
    return rows / rows.sum(-1, keepdim=True)


def rollout(layers: list[Tensor]) -> Tensor:
    """Attention through all layers, each halved with its residual: (B, N, N) (Abnar and Zuidema, 2020)."""
    total = torch.eye(layers[0].shape[-1]).expand(layers[0].shape[0], -1, -1)
    for layer in layers:
        total = (layer.mean(1) + torch.eye(layer.shape[-1])) / 2 @ total
    return total


def image_relevance(captured: Captured) -> Tensor:
    """What the output reads of each image token by rollout: (B, N), sums 1.

    The class token's row where there is one and no STGM, otherwise the mean over tokens. The STGM's
    residual runs along the semantic tokens, whose first content is the initial centers' windows.
    """
    total = rollout(captured.base) if captured.base else None
    if captured.to_image:
        start = captured.initial
        if start is None:  # global centers have seen nothing of the image yet
            start = torch.full_like(captured.to_image[0].mean(1), 1 / captured.tokens)
        reach = (captured.to_image[0].mean(1) + start) / 2  # (B, M, N)
        reach = reach / reach.sum(-1, keepdim=True)
        for image, semantic in zip(captured.to_image[1:], captured.to_semantic, strict=True):
            reach = (reach + image.mean(1) + semantic.mean(1) @ reach) / 2
            reach = reach / reach.sum(-1, keepdim=True)
        if captured.after:
            reach = rollout(captured.after) @ reach
        row = reach.mean(1)
        if total is not None:
            inner = total[:, captured.prefix :, captured.prefix :]
            row = (row[:, None] @ inner).squeeze(1)
    else:
        row = total[:, 0] if captured.prefix else total.mean(1)
        row = row[:, captured.prefix :]
    return row / row.sum(-1, keepdim=True)
