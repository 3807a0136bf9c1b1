"""Closed forms of the models with global attention: DeiT and LV-ViT, dense and with STViT.

Each function takes plain numbers and returns the model's ``Cost``, one named term after the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from analysis.shared.flops.formulas import (
    Cost,
    Grid,
    Term,
    batch_norm,
    block,
    conv,
    head,
    linear,
    pooling_intra,
    pooling_intra_inter,
    pooling_mean,
)


def squarest(tokens: int | Sequence[int]) -> Grid:
    """The grid (h, w) of semantic tokens: as given, or the squarest factorisation of a number."""
    if not isinstance(tokens, int):
        h, w = tokens
        return int(h), int(w)
    h = next(h for h in range(math.isqrt(tokens), 0, -1) if tokens % h == 0)
    return h, tokens // h


def window_of(grid: Grid, tokens: Grid) -> int:
    """Positions of one pooling window, ⌈H/h⌉·⌈W/w⌉: windows that are short are filled up."""
    return -(-grid[0] // tokens[0]) * -(-grid[1] // tokens[1])


def patch_embedding(grid: Grid, patch: int, channels: int, C: int) -> Iterator[Term]:
    N = grid[0] * grid[1]
    yield Term(
        "stem", "patch_embed", "patch embedding", conv(N, channels, C, patch**2), N * channels * patch**2
    )


def pool(name: str, grid: Grid, tokens: Grid, C: int) -> Iterator[Term]:
    M, N, window = tokens[0] * tokens[1], grid[0] * grid[1], window_of(grid, tokens)
    if name == "intra_inter":
        return pooling_intra_inter(M, window, C)
    if name == "intra":
        return pooling_intra(M, window, C)
    if name == "mean":
        return pooling_mean(N, C)
    if name == "max":  # comparisons count nothing
        return iter(())
    raise ValueError(f"no closed form for pooling {name!r}; choose from intra_inter, intra, mean, max")


def stgm(
    layers: Sequence[str], M: int, N: int, C: int, r: int = 4, later_keys_semantic: bool = True
) -> Iterator[Term]:
    """Semantic token generation (Eqs. 1-2): M queries over the N image tokens, then over Concat(S, X).

    ``later_keys_semantic=False`` leaves S out of the later layers' keys: a reading that is not Eq. 2's.
    """
    for number, layer in enumerate(layers, 1):
        K = N + M if number > 1 and later_keys_semantic else N
        yield from block(f"STGM {number}", layer, C, M, K, normed=N + M, r=r)


def deit(
    C: int,
    depth: int = 12,
    grid: Grid = (14, 14),
    patch: int = 16,
    channels: int = 3,
    classes: int = 1000,
    class_token: bool = True,
    r: int = 4,
) -> Cost:
    """A plain vision transformer. Its last norm runs on all tokens."""
    N = grid[0] * grid[1] + class_token
    terms = [*patch_embedding(grid, patch, channels, C)]
    for i in range(1, depth + 1):
        terms += block("base", f"block {i}", C, N, r=r)
    return Cost([*terms, *head(N, C, classes)])


def stvit_deit(
    C: int,
    tokens: int | Sequence[int] = 16,
    depth: int = 12,
    stgm_at: int = 5,
    stgm_layers: int = 2,
    pooling: str = "intra_inter",
    grid: Grid = (14, 14),
    patch: int = 16,
    channels: int = 3,
    classes: int = 1000,
    class_token: bool = False,
    r: int = 4,
    later_keys_semantic: bool = True,
) -> Cost:
    """Base blocks on the image tokens, STGM, then plain blocks on the M semantic tokens."""
    tokens = squarest(tokens)
    M, N = tokens[0] * tokens[1], grid[0] * grid[1] + class_token
    terms = [*patch_embedding(grid, patch, channels, C)]
    for i in range(1, stgm_at):
        terms += block("base", f"block {i}", C, N, r=r)
    terms += pool(pooling, grid, tokens, C)
    names = [f"block {i}" for i in range(stgm_at, stgm_at + stgm_layers)]
    terms += stgm(names, M, N, C, r, later_keys_semantic)
    for i in range(stgm_at + stgm_layers, depth + 1):
        terms += block("semantic", f"block {i}", C, M, r=r)
    return Cost([*terms, *head(M, C, classes)])


def conv_stem(grid: Grid, C: int, hidden: int = 64, channels: int = 3) -> Iterator[Term]:
    """LV-ViT's stem: 7×7 stride 2, two 3×3, each with BatchNorm; then 8×8 patches of its map."""
    positions = (8 * grid[0]) * (8 * grid[1])
    convolutions = conv(positions, channels, hidden, 49) + 2 * conv(positions, hidden, hidden, 9)
    patches = conv(grid[0] * grid[1], hidden, C, 64)
    yield Term(
        "stem",
        "patch_embed",
        "patch embedding",
        convolutions + patches,
        positions * (4 * channels + 3 * hidden),
    )
    yield Term(
        "stem",
        "patch_embed",
        "norms",
        3 * batch_norm(positions, hidden, training=False),
        3 * positions * hidden,
    )


def lvvit(
    C: int = 384,
    depth: int = 16,
    grid: Grid = (14, 14),
    classes: int = 1000,
    r: int = 3,
    tokens: int | Sequence[int] | None = None,
    stgm_at: int = 6,
    stgm_layers: int = 2,
    pooling: str = "intra_inter",
) -> Cost:
    """LV-ViT, dense or with STViT (``tokens``).

    The auxiliary head classifies every token but the class token. With STViT the class token takes part
    in the base blocks and the keys, and the head classifies the mean of the semantic tokens.
    """
    N = grid[0] * grid[1]
    terms = [*conv_stem(grid, C)]
    for i in range(1, (depth if tokens is None else stgm_at - 1) + 1):
        terms += block("base", f"block {i}", C, N + 1, r=r)
    last, words = N + 1, N
    if tokens is not None:
        tokens = squarest(tokens)
        last = words = M = tokens[0] * tokens[1]
        terms += pool(pooling, grid, tokens, C)
        names = [f"block {i}" for i in range(stgm_at, stgm_at + stgm_layers)]
        terms += stgm(names, M, N + 1, C, r)
        for i in range(stgm_at + stgm_layers, depth + 1):
            terms += block("semantic", f"block {i}", C, M, r=r)
    auxiliary = Term("head", "aux_head", "head", linear(words, C, classes), words * C)
    return Cost([*terms, *head(last, C, classes), auxiliary])
