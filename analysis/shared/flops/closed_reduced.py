"""Closed forms of the methods that drop or merge tokens between blocks: EViT, BAT and DynamicViT.

What a reduction itself spends (class attention, similarities, merging, predictors) has the part "reduction".
The papers' figures leave it out: BAT's come from a counter of the blocks alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from analysis.shared.flops.closed_global import conv_stem, patch_embedding
from analysis.shared.flops.formulas import Cost, Grid, Term, block, head, layer_norm, linear

PART = "reduction"


class Reduced(NamedTuple):
    """What is left of n patch tokens, and what finding that out costs."""

    tokens: int
    flops: int


ReducedForm = Callable[[int, int], Reduced]  # (patch tokens n, channels C) → Reduced


def kept(n: int, keep_rate: float) -> int:
    return max(1, math.ceil(keep_rate * n - 1e-9))  # 0.7 · 10 is 7 and not 7.000000000000001


def class_attention(n: int, C: int) -> int:
    """The class token's row of the attention map, over itself and n tokens."""
    return (n + 1) * C


def evit(n: int, C: int, keep_rate: float = 0.7) -> Reduced:
    """⌈keep·n⌉ tokens, and one more, the sum of the others weighted by class attention."""
    k = kept(n, keep_rate)
    return (
        Reduced(n, class_attention(n, C)) if k == n else Reduced(k + 1, class_attention(n, C) + (n - k) * C)
    )


def bat(
    n: int,
    C: int,
    keep_rate: float = 0.7,
    clusters: int | float = 0.1,
    pairs: int | None = None,
    merger: str = "density_peaks",
    fuse_token: bool = False,
) -> Reduced:
    """⌈keep·n⌉ + 1 tokens: K attentive ones of which ``pairs`` fuse, and ``clusters`` made of the rest.

    Similarities of the K tokens K²C, of the n − K others (n − K)²C; each new token is a weighted sum.
    """
    new = kept(n, keep_rate) + 1
    if new >= n:
        return Reduced(n, 0)
    others = new - fuse_token
    wanted = {"none": 0, "pack": 1}.get(merger, max(1, int(clusters * new) if clusters < 1 else clusters))
    M = min(wanted, others - 1)
    fused = max(0, min(M - 1 if pairs is None else pairs, n - new))
    K = others + fused - M
    matching = K**2 * C if fused else 0  # fusing the pairs is additions alone
    clustering = (n - K) ** 2 * C if merger == "density_peaks" else 0
    return Reduced(new, class_attention(n, C) + matching + clustering + (M + fuse_token) * (n - K) * C)


METHODS = {"evit": evit, "bat": bat}


def blocks(
    n: int, C: int, depth: int, reduce_at: Sequence[int], method: ReducedForm, r: int = 4
) -> tuple[list[Term], int]:
    """Plain blocks, some of which reduce between attention and FFN; and the patch tokens that are left."""
    terms: list[Term] = []
    for i in range(1, depth + 1):
        left = method(n, C) if i in reduce_at else Reduced(n, 0)
        attention, name = block("base", f"block {i}", C, n + 1, kept=left.tokens + 1, r=r), f"block {i}"
        terms += attention
        if left.flops:
            terms.append(Term(PART, name, "token reduction", left.flops, n * C))
        n = left.tokens
    return terms, n


def reduced_vit(
    C: int,
    method: str = "bat",
    reduce_at: Sequence[int] = (4, 7, 10),
    depth: int = 12,
    grid: Grid = (14, 14),
    patch: int = 16,
    channels: int = 3,
    classes: int = 1000,
    **choices,
) -> Cost:
    """EViT and BAT on DeiT; ``choices`` are the method's."""
    terms, n = blocks(grid[0] * grid[1], C, depth, reduce_at, partial(METHODS[method], **choices))
    return Cost([*patch_embedding(grid, patch, channels, C), *terms, *head(n + 1, C, classes)])


def reduced_lvvit(
    C: int = 384,
    method: str = "bat",
    reduce_at: Sequence[int] = (5, 9, 13),
    depth: int = 16,
    grid: Grid = (14, 14),
    classes: int = 1000,
    **choices,
) -> Cost:
    """EViT and BAT on LV-ViT; the auxiliary head classifies the patch tokens that are left."""
    terms, n = blocks(grid[0] * grid[1], C, depth, reduce_at, partial(METHODS[method], **choices), r=3)
    auxiliary = Term("head", "aux_head", "head", linear(n, C, classes), n * C)
    return Cost([*conv_stem(grid, C), *terms, *head(n + 1, C, classes), auxiliary])


def dynamic_vit(
    C: int,
    keep_rate: float = 0.7,
    reduce_at: Sequence[int] = (4, 7, 10),
    depth: int = 12,
    grid: Grid = (14, 14),
    patch: int = 16,
    channels: int = 3,
    classes: int = 1000,
) -> Cost:
    """DynamicViT: before some blocks a predictor on the patch tokens keeps ⌊N₀·keepⁱ⌋ of them."""
    N0 = n = grid[0] * grid[1]
    terms = [*patch_embedding(grid, patch, channels, C)]
    for i in range(1, depth + 1):
        if i in reduce_at:
            stage = list(reduce_at).index(i) + 1
            left = max(1, int(N0 * keep_rate**stage + 1e-9))
            terms += predictor(f"block {i}", n, C) if left < n else ()
            n = min(n, left)
        terms += block("base", f"block {i}", C, n + 1)
    return Cost([*terms, *head(n + 1, C, classes)])


def predictor(layer: str, n: int, C: int) -> Iterator[Term]:
    """Norm and C → C, then on the local and the averaged half: C → C/2 → C/4 → 2."""
    mlp = linear(n, C, C) + linear(n, C, C // 2) + linear(n, C // 2, C // 4) + linear(n, C // 4, 2)
    yield Term(PART, layer, "norms", layer_norm(n, C), n * C)
    yield Term(PART, layer, "token reduction", mlp, 4 * n * C)
