"""Closed forms of the rivals that choose by image or by layer, in DeiT; see ``closed_rivals`` for the others.

What an image keeps is its own where a threshold decides (SPViT, IA-RED², A-ViT, DGE): the form takes the numbers, and
gives the bound that no image exceeds where there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from analysis.shared.flops.closed_reduced import class_attention, kept
from analysis.shared.flops.closed_rivals import EVERY, Here, KnownMethod, Left, deit_with
from analysis.shared.flops.formulas import (
    Cost,
    Term,
    block,
    ffn,
    layer_norm,
    linear,
    products,
    projections,
)

HIDDEN = 64  # of TokenLearner's network, and the channels of a head


def evovit(here: Here, keep_rate: float = 0.5) -> Left:
    """Class attention of the tokens that are computed, up to the last stage, by which it sorts."""
    m = max(1, int(keep_rate * here.n + 1e-9)) if here.stage else here.n
    return Left(m, class_attention(m, here.C) if here.layer <= 2 * here.depth // 3 else 0)


def avit(here: Here, left: Sequence[int] = ()) -> Left:
    """left: the image tokens that have not halted, in front of each layer."""
    return Left(left[here.stage] if left else here.n, 0)


def dge(here: Here, left: Sequence[int] = (), split_sizes: Sequence[int] = (4, 2, 1)) -> Left:
    """left: the image's queries in each layer; without it queries of all sizes. Pooling is sums alone."""
    region = max(split_sizes)
    side = round(here.n**0.5)
    squares = {split: (-(-side // (region // split))) ** 2 for split in (*split_sizes, 1)}
    router = linear(squares[1], here.C, len(split_sizes))
    return Left(left[here.stage] if left else sum(squares[split] for split in split_sizes), router)


def iared2(here: Here, left: Sequence[int] = ()) -> Left:
    """Keys of all tokens, the class token's query, and their products; norms without parameters."""
    n, C = here[:2]
    return Left(left[here.stage] if left else n, linear(n + 1, C, C) + n * C, 4 * (n + 1) * C)


def spvit(here: Here, left: Sequence[int] = ()) -> Left:
    """left: the patch tokens that stay; packages, one more a stage, come on top. The predictor sees both."""
    n, C = here[:2]
    heads, c = C // HIDDEN, HIDDEN
    predictor = heads * (
        linear(n, c, c) + linear(n, c, c // 2) + linear(n, c // 2, c // 4) + linear(n, c // 4, 2)
    )
    excitation = 2 * linear(n, heads, max(1, heads // 2))
    mean = n * C // 2 if here.stage else 0  # weighted by what is a token
    package = n * C
    tokens = left[here.stage] + here.stage + 1 if left else n + 1
    return Left(tokens, predictor + excitation + mean + package, layer_norm(n, C))


def svite(here: Here, keep_rate: float = 0.7) -> Left:
    """A score for each token; the zero token is a sum of the others, and comes beside those that are chosen."""
    n, C = here[:2]
    m = kept(n + 1, keep_rate)
    return Left(m + 1, linear(n + 1, C, 1) + (n - m + 1) * C) if m <= n else Left(n, 0)


def tokenlearner(here: Here, num_tokens: int = 16) -> Left:
    n, C = here[:2]
    if num_tokens >= n:
        return Left(n, 0)
    network = linear(n, C, HIDDEN) + linear(n, HIDDEN, num_tokens)
    return Left(num_tokens, network + num_tokens * n * C, layer_norm(n, C))


def psvit(here: Here, keep_rate: float = 0.7) -> Left:
    return Left(max(1, int(here.initial * keep_rate ** (3 * here.layer / here.depth) + 1e-9)), 0)


METHODS: dict[str, KnownMethod] = {
    "evovit": KnownMethod(evovit, "around", EVERY[3:]),
    "avit": KnownMethod(avit, "around", EVERY),
    "dge": KnownMethod(dge, "queries", EVERY),
    "iared2": KnownMethod(iared2, "in front", (1, 5, 9)),
    "spvit": KnownMethod(spvit, "in front"),
    "svite": KnownMethod(svite, "in front", (1,)),
    "tokenlearner": KnownMethod(tokenlearner, "in front", (10,)),
    "psvit": KnownMethod(psvit, "rows", EVERY),
}


def adaptive_vit(C: int, method: str, **shape_and_choices) -> Cost:
    """DeiT with one of ``METHODS``; keywords are those of ``closed_rivals.deit_with``."""
    return deit_with(METHODS, LAYER_TERMS, C, method, **shape_and_choices)


def few_queries(layer: str, C: int, N: int, M: int) -> Iterator[Term]:
    """M queries and N keys, normed each for itself; FFN on the queries."""
    yield Term("base", layer, "norms", layer_norm(N, C) + 2 * layer_norm(M, C), (N + 2 * M) * C)
    yield Term("base", layer, "attention projections", projections(M, N, C), 2 * (N + M) * C)
    yield Term("base", layer, "attention products", products(M, N, C), (N + M) * C)
    yield Term("base", layer, "FFN", ffn(M, C), 9 * M * C)


LAYER_TERMS: dict[str, Callable[[str, int, int, int], Iterator[Term]]] = {
    "in front": lambda layer, C, N, M: block("base", layer, C, M),
    "around": lambda layer, C, N, M: block("base", layer, C, M),
    "queries": few_queries,
    "rows": lambda layer, C, N, M: few_queries(layer, C, N, M) if M < N else block("base", layer, C, N),
}
