"""All figures of one model on one image, by name: what the command line writes and notebooks show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.attention_maps import figures, measure
from analysis.attention_maps.capture import capture, class_attention, image_relevance
from analysis.images import normalised

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from analysis.attention_maps.capture import Captured
    from analysis.shared.models import Subject


def heads(weights: Tensor, head: int | None) -> Tensor:
    """(B, heads, rows, columns) as the mean over heads, or one head counted from 1, rows summing to 1."""
    if head is not None and not 1 <= head <= weights.shape[1]:
        raise ValueError(f"head {head} of a model with heads 1 to {weights.shape[1]}")
    rows = weights.mean(1) if head is None else weights[:, head - 1]
    return rows / rows.sum(-1, keepdim=True)


def draw(subject: Subject, photo: np.ndarray, head: int | None = None) -> dict[str, Figure]:
    """``photo`` (H, W, 3) through the model: every figure that it has the layers for."""
    if hasattr(subject.model, "layers"):
        from analysis.attention_maps import swin

        return swin.draw_all(subject.model, normalised(photo, subject.model), photo, subject.label)
    maps = capture(subject.model, normalised(photo, subject.model))
    which = "mean over heads" if head is None else f"head {head}"
    label = f"{subject.label}, {which}"
    drawn = dict(_base(subject, photo, maps, head, label))
    if maps.to_image:
        drawn.update(_stgm(photo, maps, head, label))
    relevance = image_relevance(maps)[:, None]
    drawn["rollout"] = figures.by_layer(
        [photo], relevance, maps.grid, f"{subject.label}: attention through all layers", titles=["rollout"]
    )
    return drawn


def _base(subject: Subject, photo, maps: Captured, head, label: str):
    layers = [heads(layer, head)[:, None] for layer in maps.base]
    if maps.prefix:
        rows = class_attention(maps._replace(base=layers))
        yield (
            "class_attention",
            figures.by_layer([photo], rows, maps.grid, f"{label}: what the class token looks at"),
        )
    import pandas as pd

    shares = [measure.top_column_share(layer) for layer in layers]
    frame = pd.DataFrame(
        [dict(layer=i + 1, top_columns=top, top_columns_even=even) for i, (top, even) in enumerate(shares)]
    )
    yield "whole_maps", figures.whole_maps(layers, f"{label}: rows look at columns", frame)


def _stgm(photo, maps: Captured, head, label: str):
    outlines = None if maps.semantic_grid is None else measure.windows(maps.grid, maps.semantic_grid)
    first = len(maps.base) + 1
    for i, weights in enumerate(maps.to_image):
        name = f"{label}: layer {first + i}, each semantic token's map over the image"
        yield (
            f"semantic_{i + 1}",
            figures.semantic_maps([photo], [heads(weights, head)[0]], maps.grid, outlines, [name]),
        )
    for i, (semantic, image) in enumerate(zip(maps.to_semantic, maps.to_image[1:], strict=True)):
        pick = slice(None) if head is None else slice(head - 1, head)
        yield (
            f"keys_{i + 2}",
            figures.second_layer(
                semantic[0, pick].mean(0), image[0, pick].mean(0), f"{label}: layer {first + 1 + i}"
            ),
        )
