"""FLOPs that rivals' programs print or run, what these figures leave out, and the count of the same tokens here.

A figure is rebuilt from the program's own accounting, term by term: what it leaves out is known and not guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from analysis.shared.flops import closed_adaptive
from analysis.shared.flops.closed_adaptive import adaptive_vit
from analysis.shared.flops.closed_global import deit
from analysis.shared.flops.closed_reduced import PART
from analysis.shared.flops.closed_rivals import rival_vit
from analysis.shared.flops.formulas import ffn, linear, products, projections

C, N0, CLASSES, DEPTH = 384, 196, 1000, 12  # DeiT-S at 224 × 224
DIFFRATE = dict(  # its published rates for 2.7 GFLOPs, the class token among them
    prune=(197, 196, 182, 160, 141, 127, 115, 105, 88, 66, 49, 3),
    merge=(197, 188, 170, 147, 131, 119, 109, 96, 76, 54, 45, 3),
)
RADII = (184, 156, 136, 84, 60, 24, 12)  # patch tokens within the heuristic's radius, in layers 4 to 10


class Figure(NamedTuple):
    """A figure in GFLOPs of DeiT-S with a method, and how it comes about."""

    method: str
    setting: str
    source: str  # who says so: the program's own counter, or its run under a counter
    printed: float
    rebuilt: float  # by that accounting, from token numbers
    counted: float  # here: all layers, norms and head, without the reduction's own work
    reduction: float  # that work
    leaves_out: str  # of the printed figure


def figures() -> list[Figure]:
    return [diffrate(), pitome(), mctf(), heuristic(), *masking(), evovit()]


def rows() -> list[dict]:
    return [
        {
            **figure._asdict(),
            "difference_percent": 100 * (figure.printed / (figure.counted + figure.reduction) - 1),
        }
        for figure in figures()
    ]


def diffrate() -> Figure:
    """A row too many in the patch embedding, attention before the cut, FFN after it; no norms and no matching."""
    before, flops = N0 + 1, linear(N0 + 1, 3 * 16 * 16, C) + linear(1, C, CLASSES)
    for after in DIFFRATE["merge"]:
        flops += projections(before, before, C) + products(before, before, C) + ffn(after, C)
        before = after
    return figure(
        "diffrate",
        "rates for 2.7",
        "its counter",
        2.709186816,
        flops,
        "class attention, matching and norms",
        **DIFFRATE,
    )


def pitome() -> Figure:
    """Attention and FFN of each layer on the tokens that enter it; neither patch embedding nor head."""
    flops = sum(projections(n, n, C) + products(n, n, C) + ffn(n, C) for n in entering_pitome())
    missing = "patch embedding, head, norms and energies; and it has the FFN on the tokens before merging"
    return figure("pitome", "ratio 0.9125", "its counter", 2.857, flops, missing)


def entering_pitome(ratio: float = 0.9125) -> Iterator[int]:
    n = N0
    for _ in range(DEPTH):
        yield n + 1
        n -= int(n - n * ratio + 1e-9)


def mctf() -> Figure:
    """fvcore's count: everything, norms and matching, too."""
    cost = rival_vit(C, "mctf").total
    return figure("mctf", "r = 16", "README, by fvcore", 2.60, cost, "nothing")


def heuristic() -> Figure:
    """The program masks: it runs all of DeiT, whatever the mask says."""
    cost = deit(C).without("norms")
    return figure(
        "shrinking", "l1, layers 4 to 10", "its run", 4.598882304, cost, "nothing: its tokens are masked, not removed",
        left=RADII,
    )  # fmt: skip


# What one image of the reference runs kept, with weights by rule.
ACTIVE = (197, 197, 197, 195, 195, 194, 178, 178, 172, 164, 156, 143)  # A-ViT, the class token among them
AGENTS, STAGES = (99, 10, 10), (132, 116, 99)  # patch tokens: IA-RED², SPViT


def masking() -> list[Figure]:
    """Programs that run all of DeiT in evaluation, and their predictors; here the same tokens are removed."""
    dense, own = deit(C).without("norms"), "; its tokens are masked, not removed"
    agents = 3 * (
        linear(N0 + 1, C, 3 * C) + (N0 + 1) * C + (N0 + 1) ** 2
    )  # a third is unused; the mask is a product
    shared = 64 * 64 + 64 * 32 + 32 * 16 + 16 * 2  # of each head's channels
    predictors = sum((N0 + stage) * (6 * shared + 6 * 3 * 2) for stage in range(3))
    packages = 3 * sum(layer_products(N0 + 1 + more) - layer_products(N0 + 1) for more in (1, 2, 3))
    zeroed = "nothing; its tokens are multiplied by 0, not removed"
    runs = [
        (
            "avit",
            "scale 10, center 30",
            4.598882304,
            dense,
            "nothing" + own,
            dict(left=[n - 1 for n in ACTIVE]),
        ),
        ("iared2", "groups of 4", 4.860665163, dense + agents, "nothing" + own, dict(left=AGENTS)),
        (
            "spvit",
            "three stages",
            4.659948636,
            dense + predictors + packages,
            "nothing" + own,
            dict(left=STAGES),
        ),
        ("svite", "100 of 197 tokens", 4.598957952, dense + (N0 + 1) * C, zeroed, dict(keep_rate=100 / 197)),
    ]
    return [
        figure(method, setting, "its run", ran, rebuilt, words, **choices)
        for method, setting, ran, rebuilt, words, choices in runs
    ]


def layer_products(n: int) -> int:
    return projections(n, n, C) + products(n, n, C) + ffn(n, C)


def evovit() -> Figure:
    cost = adaptive_vit(C, "evovit")
    rebuilt = cost.without("norms") - cost.by("part")[PART]
    return figure(
        "evovit", "ratio 0.5", "its run", 3.033391104, rebuilt, "norms; its attention has the map at hand"
    )


def figure(
    method: str, setting: str, source: str, printed: float, rebuilt: int, leaves_out: str, **choices
) -> Figure:
    closed = adaptive_vit if method in closed_adaptive.METHODS else rival_vit
    cost = closed(C, method, **choices)
    own = cost.by("part").get(PART, 0)
    return Figure(
        method, setting, source, printed, rebuilt / 1e9, (cost.total - own) / 1e9, own / 1e9, leaves_out
    )
