"""Closed forms of the methods that people compare to, in DeiT: tokens by layer, and what deciding and merging cost.

As in ``closed_reduced``, a reduction's own work has the part "reduction"; printed figures mostly leave it out.
Where images keep different numbers of tokens (ATS), the form is the bound that no image exceeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from analysis.shared.flops.closed_global import patch_embedding
from analysis.shared.flops.closed_reduced import PART, class_attention, kept
from analysis.shared.flops.formulas import Cost, Grid, Term, block, ffn, head, layer_norm, linear, products

HEAD_DIM = 64


class Here(NamedTuple):
    """Where a method reduces: n patch tokens of N₀, C channels; its stage (from 0), and that layer (from 1) of all."""

    n: int
    C: int
    initial: int
    stage: int
    layer: int
    depth: int

    def staged(self, keep_rate: float) -> int:
        return min(self.n, max(1, int(self.initial * keep_rate ** (self.stage + 1) + 1e-9)))

    def pairs(self, width: int) -> int:
        """Similarities between two alternating sets."""
        return (self.n // 2) * (self.n - self.n // 2) * width


class Left(NamedTuple):
    """The patch tokens that are left, and the multiply-adds of finding them: products (``flops``) and ``norms``."""

    tokens: int
    flops: int
    norms: int = 0


LeftForm = Callable[..., Left]


def ats(here: Here, keep_rate: float = 0.7) -> Left:
    m = here.staged(keep_rate)
    return Left(m, class_attention(here.n, here.C) if m < here.n else 0)


def ats_sorted(here: Here) -> Left:
    """What images keep is theirs: none keeps more than all."""
    return Left(here.n, class_attention(here.n, here.C))


def topk(here: Here, keep_rate: float = 0.7) -> Left:
    m = kept(here.n, keep_rate)
    return Left(m, class_attention(here.n, here.C) if m < here.n else 0)


def random(here: Here, keep_rate: float = 0.7) -> Left:
    return Left(kept(here.n, keep_rate), 0)


def patchmerger(here: Here, keep_rate: float = 0.7) -> Left:
    """Queries by tokens, weights by tokens, and the tokens' norm for each of the two."""
    m = here.staged(keep_rate)
    return Left(m, 2 * m * here.n * here.C, 2 * layer_norm(here.n, here.C)) if m < here.n else Left(m, 0)


def sinkhorn(here: Here, keep_rate: float = 0.7) -> Left:
    """Centers by tokens, weights by tokens; the iterations are sums and exponentials."""
    m = here.staged(keep_rate)
    return Left(m, 2 * m * here.n * here.C if m < here.n else 0)


def sit(here: Here, keep_rate: float = 0.7) -> Left:
    m, (n, C) = here.staged(keep_rate), here[:2]
    mlp = linear(n, C, C // 2) + linear(n, C // 2, m)
    return Left(m, mlp + m * n * C, layer_norm(n, C)) if m < n else Left(m, 0)


def kmedoids(here: Here, keep_rate: float = 0.7) -> Left:
    """The attention map once more, and all distances."""
    m, (n, C) = here.staged(keep_rate), here[:2]
    return Left(m, ((n + 1) ** 2 + n**2) * C if m < n else 0)


def diffrate(here: Here, prune: tuple[int, ...], merge: tuple[int, ...]) -> Left:
    """Class attention, and similarities of those that merge to those that stay."""
    place, whole = (here.layer - 1) * len(prune) // here.depth, max(prune[0], merge[0]) - 1
    rest, m = (
        min(here.n, max(1, int((numbers[place] - 1) / whole * here.initial + 0.5)))
        for numbers in (prune, merge)
    )
    m = min(m, rest)
    return Left(m, class_attention(here.n, here.C) + (rest - m) * m * here.C if m < here.n else 0)


def tome(here: Here, r: int = 13) -> Left:
    r = min(r, here.n // 2)
    return Left(here.n - r, here.pairs(HEAD_DIM) if r else 0)


def dtem(here: Here, r: int = 16, features: int = 64) -> Left:
    r = min(r, here.n // 2)
    return Left(here.n - r, linear(here.n, here.C, features) + here.pairs(features) if r else 0)


def pitome(here: Here, keep_rate: float = 0.9125) -> Left:
    """All similarities, for the energies."""
    r = min(int(here.n - here.n * keep_rate + 1e-9), here.n // 2)
    return Left(here.n - r, here.n**2 * HEAD_DIM if r else 0)


def mctf(here: Here, r: int = 16) -> Left:
    """Similarities of the tokens themselves."""
    r = max(0, min(r, here.n + 1 - 10, here.n // 2))
    return Left(here.n - r, here.pairs(here.C) if r else 0)


def atc(here: Here, keep_rate: float = 0.7) -> Left:
    """All similarities, and the means; joining clusters is additions."""
    m, (n, C) = here.staged(keep_rate), here[:2]
    return Left(m, n**2 * HEAD_DIM + m * n * C if m < n else 0)


def shrinking(here: Here, left: tuple[int, ...]) -> Left:
    """As many as there are within the radius: by the grid alone, at no cost."""
    return Left(left[here.stage], 0)


class KnownMethod(NamedTuple):
    """A method and its layers: at a third each (4, 7, 10 of 12) unless it says more."""

    left: LeftForm
    where: str = "within"
    layers: tuple[int, ...] = (4, 7, 10)


EVERY = tuple(range(1, 13))
ALL_STAY = ("around", "queries")  # layers that compute with fewer tokens and give all of them back
METHODS: dict[str, KnownMethod] = {
    "topk": KnownMethod(topk),
    "random": KnownMethod(random),
    "tome": KnownMethod(tome, layers=EVERY),
    "ats": KnownMethod(ats),
    "ats_sorted": KnownMethod(ats_sorted, layers=EVERY[3:]),
    "patchmerger": KnownMethod(patchmerger, "in front"),
    "sinkhorn": KnownMethod(sinkhorn, "in front"),
    "sit": KnownMethod(sit, "in front"),
    "kmedoids": KnownMethod(kmedoids, "after", (3, 6, 9)),
    "shrinking": KnownMethod(shrinking, "in front", (4, 5, 6, 7, 8, 9, 10)),
    "diffrate": KnownMethod(diffrate, layers=EVERY),
    "tofu": KnownMethod(tome, layers=EVERY),
    "pitome": KnownMethod(pitome, layers=EVERY),
    "mctf": KnownMethod(mctf, "ahead", EVERY[1:]),
    "dtem": KnownMethod(dtem, layers=EVERY),
    "atc": KnownMethod(atc),
}


def deit_with(
    methods: dict[str, KnownMethod],
    layers: dict[str, Callable[[str, int, int, int], Iterator[Term]]],
    C: int,
    method: str,
    depth: int = 12,
    grid: Grid = (14, 14),
    patch: int = 16,
    channels: int = 3,
    classes: int = 1000,
    **choices,
) -> Cost:
    """DeiT with one of ``methods``, whose layers cost what ``layers`` say; ``choices`` are the method's."""
    known, N0 = methods[method], grid[0] * grid[1]
    terms, n = [*patch_embedding(grid, patch, channels, C)], N0
    for layer in range(1, depth + 1):
        name = f"block {layer}"
        if layer not in known.layers:
            terms += block("base", name, C, n + 1)
            continue
        m, flops, norms = known.left(Here(n, C, N0, known.layers.index(layer), layer, depth), **choices)
        if flops:
            terms.append(Term(PART, name, "token reduction", flops, n * C))
        if norms:
            terms.append(Term(PART, name, "norms", norms))
        terms += layers[known.where](name, C, n + 1, m + 1)
        n = n if known.where in ALL_STAY else m
    return Cost([*terms, *head(n + 1, C, classes)])


def rival_vit(C: int, method: str, **shape_and_choices) -> Cost:
    """DeiT with one of ``METHODS``; keywords are those of ``deit_with``."""
    return deit_with(METHODS, LAYER_TERMS, C, method, **shape_and_choices)


def ahead(layer: str, C: int, N: int, M: int) -> Iterator[Term]:
    """Queries, keys and the map of N tokens; values, weights and output of M, which are normed again."""
    yield Term("base", layer, "norms", layer_norm(N, C) + 2 * layer_norm(M, C), (N + 2 * M) * C)
    yield Term(
        "base", layer, "attention projections", 2 * linear(N, C, C) + 2 * linear(M, C, C), (N + 2 * M) * C
    )
    yield Term(
        "base", layer, "attention products", (products(N, N, C) + products(M, M, C)) // 2, (2 * N + M) * C
    )
    yield Term("base", layer, "FFN", ffn(M, C), 9 * M * C)


LAYER_TERMS: dict[str, Callable[[str, int, int, int], Iterator[Term]]] = {
    "in front": lambda layer, C, N, M: block("base", layer, C, M),
    "within": lambda layer, C, N, M: block("base", layer, C, N, kept=M),
    "after": lambda layer, C, N, M: block("base", layer, C, N),
    "ahead": ahead,
}
