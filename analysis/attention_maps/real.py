"""STViT's Figure 1 on a real model and photographs: the pictures, and its captions measured over crops.

Class attention differs between layers (left); in deep layers a few columns hold the attention (right).
Each measure is taken crop by crop; intervals and verdicts are over photographs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from analysis import style
from analysis.attention_maps import figures, measure
from analysis.attention_maps.capture import capture, class_attention
from analysis.bootstrap import by_photograph, claim, draws, interval
from analysis.crops import cut
from analysis.images import normalised
from analysis.panels import CMAP, blank
from analysis.shared.models import real_or_none
from stvit.data.photographs import missing, shipped

if TYPE_CHECKING:
    import pandas as pd

    from analysis.crops import Crops
    from analysis.results import Report
    from analysis.shared.models import Subject

CROPS, BATCH = 200, 10
SHOWN = ("astronaut", "chelsea", "coffee")
MEASURES = {
    "top_columns": "part of the attention in the top 5 % of columns",
    "rank_correlation": "rank correlation of class attention with the last layer's",
    "top_overlap": "top 30 % by class attention that are the last layer's, too",
    "alike": "mean cosine between image tokens",
}


def by_crop(subject: Subject, images: np.ndarray) -> dict[str, np.ndarray]:
    """Measure → (crops, layers)."""
    parts = [one_batch(subject, images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in MEASURES}


def one_batch(subject: Subject, images: np.ndarray) -> dict[str, np.ndarray]:
    pixels = normalised(images, subject.model)
    maps = capture(subject.model, pixels)
    cls = class_attention(maps)  # (B, layers, N)
    with torch.inference_mode():
        tokens = subject.model.forward_intermediates(pixels, output_fmt="NLC", intermediates_only=True)
    return {
        "top_columns": torch.stack([top_columns(layer) for layer in maps.base], 1).numpy(),
        "rank_correlation": rank_correlation(cls, cls[:, -1:]).numpy(),
        "top_overlap": top_overlap(cls, cls[:, -1:]).numpy(),
        "alike": torch.stack([mean_cosine(layer) for layer in tokens], 1).numpy(),
    }


def top_columns(weights: Tensor, share: float = measure.TOP_COLUMNS) -> Tensor:
    """(B, heads, rows, columns) → (B,): what falls on the columns that are looked at most, heads averaged."""
    columns = weights.mean((1, 2))
    return columns.topk(math.ceil(share * columns.shape[1])).values.sum(1)


def rank_correlation(one: Tensor, two: Tensor) -> Tensor:
    """Spearman's over the last dimension."""
    one, two = measure.ranks(one), measure.ranks(two)
    one, two = one - one.mean(-1, keepdim=True), two - two.mean(-1, keepdim=True)
    return F.cosine_similarity(one, two, dim=-1)


def top_overlap(one: Tensor, two: Tensor, share: float = measure.TOP_TOKENS) -> Tensor:
    count = math.ceil(share * one.shape[-1])
    chosen = [torch.zeros_like(t).scatter(-1, t.topk(count).indices, 1.0) for t in (one, two)]
    return (chosen[0] * chosen[1]).sum(-1) / count


def mean_cosine(tokens: Tensor) -> Tensor:
    """(B, N, C) → (B,), over pairs of different tokens."""
    count = tokens.shape[1]
    total = F.normalize(tokens, dim=2).sum(1).square().sum(1)
    return (total - count) / (count * (count - 1))


def layers(values: dict[str, np.ndarray], owner: np.ndarray) -> pd.DataFrame:
    """A row a layer: each measure with its interval over photographs."""
    import pandas as pd

    rows = []
    for layer in range(values["top_columns"].shape[1]):
        row = {"layer": layer + 1}
        for name, found in values.items():
            means = by_photograph(found[:, layer], owner)
            low, high = interval(means)
            row |= {name: means.mean(), f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def claims(values: dict[str, np.ndarray], owner: np.ndarray, tokens: int) -> pd.DataFrame:
    """The captions; margins and the layers that are called deep are named here, before anything is measured."""
    import pandas as pd

    mean = {name: by_photograph(found, owner) for name, found in values.items()}
    lines, first, depth = mean["top_columns"], 0, values["top_columns"].shape[1]
    deep, early = slice(depth * 2 // 3, depth), slice(1, depth // 3)  # layers 9-12, and 2-4
    even = math.ceil(measure.TOP_COLUMNS * tokens) / tokens
    reduced = depth // 4  # layer 4, where EViT and BAT reduce first
    rows = [
        ("1 left", "class attention of the first layer ranks tokens in another order than the last layer's",
         "0.7 − rank correlation", 0.7 - mean["rank_correlation"][:, first], 0.0),
        ("1 left", "class attention is imprecise where tokens are first pruned (layer 4)",
         "0.7 − overlap of the top 30 % with the last layer's", 0.7 - mean["top_overlap"][:, reduced], 0.0),
        ("1 left", "it is more precise in the layer before the last than in layer 4",
         "overlap with the last layer's, layer 11 − layer 4",
         mean["top_overlap"][:, -2] - mean["top_overlap"][:, reduced], 0.02),
        ("1 right", "vertical lines in the deep layers: a few columns hold much of the attention",
         "share of the top 5 % of columns, layers 9-12, − twice an even map's", lines[:, deep].mean(1) - 2 * even, 0.0),
        ("1 right", "more so than in the early layers",
         "share of the top 5 %, layers 9-12 − layers 2-4", lines[:, deep].mean(1) - lines[:, early].mean(1), 0.02),
        ("1 right", "more so than in the first layer",
         "share of the top 5 %, layers 9-12 − layer 1", lines[:, deep].mean(1) - lines[:, first], 0.02),
        ("text", "in deep layers tokens say the same: only a few are needed",
         "mean cosine between tokens, layer 12 − layer 1", mean["alike"][:, -1] - mean["alike"][:, first], 0.02),
    ]  # fmt: skip
    drawn = draws(len(lines))
    made = [
        claim(difference, margin, len(rows), drawn, figure=figure, claim=text, measure=what)
        for figure, text, what, difference, margin in rows
    ]
    return pd.DataFrame(made)


def at_hand(count: int = CROPS) -> tuple[Subject | None, Crops | None, str]:
    """The real model and crops of photographs; where they are not at hand None, and a line that says why."""
    subject, reason = real_or_none()
    found = shipped()
    if subject is None or not found:
        return None, None, reason or f"photographs are missing: {', '.join(missing())}"
    return subject, cut(found, count, subject.size[0]), ""


def judged(subject: Subject, crops: Crops) -> pd.DataFrame:
    """The claims alone."""
    grid = subject.model.patch_embed.grid_size
    tokens = grid[0] * grid[1] + subject.model.num_prefix_tokens
    return claims(by_crop(subject, crops.images), crops.owner, tokens)


def write(r: Report, subject: Subject, crops: Crops, pictures: np.ndarray) -> pd.DataFrame:
    """The section of the report; ``pictures`` are the photographs that are drawn."""
    values = by_crop(subject, crops.images)
    maps = capture(subject.model, normalised(pictures, subject.model))
    by_layer, table = layers(values, crops.owner), claims(values, crops.owner, maps.tokens + maps.prefix)
    last = by_layer.iloc[-1]
    r.heading("Figure 1 on a real model")
    r.prose(
        f"**{subject.found}**, at {subject.size[0]} × {subject.size[1]} pixels: {maps.tokens} image tokens, as many as "
        f"DeiT-S has. Numbers are over {len(crops.images)} crops of {len(crops.photographs)} photographs that nothing "
        "here was trained on; intervals are 95 % from bootstrap over photographs."
    )
    r.table(
        "real_claims",
        table,
        "The captions of Figure 1, measured; all verdicts hold together at 95 %.",
        digits=3,
    )
    r.figure(
        "real_figure1_left",
        figures.by_layer(
            pictures, class_attention(maps), maps.grid, f"{subject.name}: what the class token looks at"
        ),
        "Figure 1, left. Class attention by layer, mean over heads, each scaled to its own maximum. Layer 4's top 30 % "
        f"share {by_layer.top_overlap.iloc[3]:.0%} with the last layer's, those of layer 11 "
        f"{by_layer.top_overlap.iloc[-2]:.0%}.",
        alt="Three photographs and, beside each, heat maps of class attention for twelve layers",
    )
    peak = by_layer.iloc[4:].top_columns.idxmax()
    r.figure(
        "real_figure1_right",
        lines_by_layer([layer[:1] for layer in maps.base], by_layer, subject.name),
        "Figure 1, right. Whole maps of the first photograph, rows looking at columns, and the part of the attention "
        f"that the top 5 % of columns hold: {by_layer.top_columns.iloc[0]:.0%} in layer 1, "
        f"{by_layer.top_columns[peak]:.0%} in layer {peak + 1}, {last.top_columns:.0%} in layer 12.",
        alt="Twelve square attention maps, and a curve over layers with intervals",
    )
    r.table("real_layers", by_layer, "The real model, layer by layer.", digits=3)
    return table


def lines_by_layer(maps: list[Tensor], frame: pd.DataFrame, label: str):
    """Twelve maps in two rows, and the share of the top columns over layers with its interval."""
    import matplotlib.pyplot as plt

    columns = -(-len(maps) // 2)
    with style.house_style():
        fig = plt.figure(figsize=(style.PAGE, 2.35), layout="constrained")
        left, right = fig.subfigures(1, 2, width_ratios=[columns * 0.75, 2.2])
        for ax, weights, number in zip(
            left.subplots(2, columns).flat, maps, range(1, len(maps) + 1), strict=False
        ):
            picture = np.asarray(weights[0].mean(0))
            ax.imshow(picture, cmap=CMAP, vmin=0, vmax=np.quantile(picture, 0.995))
            blank(ax, f"layer {number}")
        ax = right.subplots()
        ax.plot(frame.layer, 100 * frame.top_columns, color=style.BLUE, marker="o")
        ax.fill_between(frame.layer, 100 * frame.top_columns_low, 100 * frame.top_columns_high, color=style.BLUE,
                        alpha=0.18, lw=0)  # fmt: skip
        count = maps[0].shape[-1]
        ax.axhline(100 * math.ceil(measure.TOP_COLUMNS * count) / count, color=style.GREY, ls="--", lw=1)
        ax.set(xlabel="layer", ylim=(0, None), xticks=list(frame.layer))
        ax.set_title("% of attention in the top 5 %\nof columns (dashed: even)", fontsize=7.5)
        fig.suptitle(label, fontsize=8, x=0.01, ha="left")
    return fig
