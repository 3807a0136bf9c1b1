"""The cost of one operation and of one block, in the papers' symbols: pure functions of integers.

Unit: multiply-adds (what fvcore and the papers call FLOPs). N image tokens, M semantic tokens, C channels,
Q queries, K keys, r the ratio of the FFN's width. LayerNorm counts 5 a value; BatchNorm 5 in training mode
and 2 in evaluation (fvcore's convention); softmax, activations, additions and biases count nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

Grid = tuple[int, int]  # rows and columns of tokens
TERM_KINDS = (
    "patch embedding",
    "attention projections",
    "attention products",
    "FFN",
    "norms",
    "pooling",
    "downsampling",
    "token reduction",
    "head",
)


class Term(NamedTuple):
    """One named term of a model's cost: ``flops`` of ``kind`` in ``layer``, which belongs to ``part``."""

    part: str  # stem, base, pooling, STGM 1, STGM 2, semantic, recovery, ...
    layer: str  # the layer by its name in the model, for example "block 5"
    kind: str  # one of TERM_KINDS
    flops: int
    values: int = 0  # activations that the backward pass keeps for it: see ``Cost.values``


class Cost(tuple[Term, ...]):
    """The terms of a model, in the order of its layers; they add up to its total."""

    __slots__ = ()

    @property
    def total(self) -> int:
        return sum(term.flops for term in self)

    def by(self, field: str) -> dict[str, int]:
        """Sums over the terms that share ``part``, ``layer`` or ``kind``; the values add up to the total."""
        sums: dict[str, int] = {}
        for term in self:
            key = getattr(term, field)
            sums[key] = sums.get(key, 0) + term.flops
        return sums

    def without(self, *kinds: str) -> int:
        return sum(term.flops for term in self if term.kind not in kinds)

    @property
    def values(self) -> int:
        """Activations that one image's backward pass keeps, with fused attention: the inputs of norms, linear
        layers, convolutions and activation functions, and queries, keys and values. No parameters."""
        return sum(term.values for term in self)

    def map_values(self, head_dim: int) -> int:
        """What attention that is not fused keeps on top: a map for each head, Q·K values."""
        return self.by("kind").get("attention products", 0) // (2 * head_dim)


def linear(N: int, C_in: int, C_out: int) -> int:
    return N * C_in * C_out


def conv(N: int, C_in: int, C_out: int, kernel: int, groups: int = 1) -> int:
    """A convolution with N output positions and ``kernel`` taps (9 for 3×3)."""
    return N * kernel * C_in * C_out // groups


def layer_norm(N: int, C: int) -> int:
    return 5 * N * C


def batch_norm(N: int, C: int, training: bool) -> int:
    return (5 if training else 2) * N * C


def projections(Q: int, K: int, C: int) -> int:
    """Queries and output on Q tokens, keys and values on K tokens: 2QC² + 2KC² (4NC² for Q = K = N)."""
    return 2 * Q * C**2 + 2 * K * C**2


def products(Q: int, K: int, C: int) -> int:
    """Queries by keys and weights by values, each query against K keys: 2QKC."""
    return 2 * Q * K * C


def ffn(N: int, C: int, r: int = 4) -> int:
    return 2 * r * N * C**2


def block(
    part: str,
    layer: str,
    C: int,
    Q: int,
    K: int | None = None,
    *,
    per_query: int | None = None,
    pairs: int | None = None,
    normed: int | None = None,
    kept: int | None = None,
    r: int = 4,
) -> Iterator[Term]:
    """A pre-norm transformer block.

    Q tokens ask; keys and values are projected from K (default: the same tokens). Each query meets
    ``per_query`` keys (default: all), or ``pairs`` of a query and a key meet in all. The first norm runs on
    ``normed`` tokens, the second norm and the FFN on ``kept`` (default of both: Q); they differ under
    padding, cross-attention and reduction.
    """
    K = Q if K is None else K
    kept = Q if kept is None else kept
    normed = Q if normed is None else normed
    pairs = Q * (K if per_query is None else per_query) if pairs is None else pairs
    yield Term(part, layer, "norms", layer_norm(normed, C) + layer_norm(kept, C), (normed + kept) * C)
    yield Term(part, layer, "attention projections", projections(Q, K, C), (normed + Q) * C)
    yield Term(part, layer, "attention products", products(1, pairs, C), (Q + 2 * K) * C)
    yield Term(part, layer, "FFN", ffn(kept, C, r), (1 + 2 * r) * kept * C)


def head(N: int, C: int, classes: int) -> Iterator[Term]:
    """The last norm, on N tokens, and the classifier, on one."""
    yield Term("head", "norm", "norms", layer_norm(N, C), N * C)
    if classes:
        yield Term("head", "head", "head", linear(1, C, classes), C)


def pooling_intra_inter(M: int, window: int, C: int) -> Iterator[Term]:
    """Eqs. 4-5: M windows, each padded to ``window`` positions.

    The mask M_i (3×3 depthwise, norm, one output a position), P̂ = softmax(M_i)·X, the offset O (the same on
    the M tokens, one output for each position of the window), and P = softmax(M_i + O_i)·X.
    """
    positions = M * window
    intra = conv(positions, C, C, 9, groups=C) + linear(positions, C, 1)
    inter = conv(M, C, C, 9, groups=C) + linear(M, C, window)
    weighted_sums = 2 * positions * C
    yield Term("pooling", "pooling", "pooling", intra + inter + weighted_sums, 3 * (positions + M) * C)
    yield Term(
        "pooling", "pooling", "norms", layer_norm(positions, C) + layer_norm(M, C), (positions + M) * C
    )


def pooling_intra(M: int, window: int, C: int) -> Iterator[Term]:
    """Eq. 4 alone: P = softmax(M_i)·X."""
    positions = M * window
    mask = conv(positions, C, C, 9, groups=C) + linear(positions, C, 1)
    yield Term("pooling", "pooling", "pooling", mask + positions * C, 3 * positions * C)
    yield Term("pooling", "pooling", "norms", layer_norm(positions, C), positions * C)


def pooling_mean(N: int, C: int) -> Iterator[Term]:
    """Adaptive mean pooling: one addition for each value that goes in, as fvcore counts it."""
    yield Term("pooling", "pooling", "pooling", N * C)
