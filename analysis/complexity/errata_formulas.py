"""Errata of formulas: the complexity appendix, the STGM's keys, BAT's FFN."""

from __future__ import annotations

from typing import NamedTuple

from analysis.complexity import appendix
from analysis.complexity.erratum import Erratum
from analysis.shared.flops.formulas import products, projections


class Formula(NamedTuple):
    """An equation of the appendix whose two values ``appendix.EQUATIONS`` has."""

    number: str
    row: str  # part of its description there
    kind: str
    printed: str
    against: str
    why: str


FORMULAS = (
    Formula(
        "9", "both layers", "inconsistency",
        "the attention of one layer", "two layers, each with its FFN",
        "Eq. 10 counts two layers of it (4NC² and 4MNC), and Section 3.1 gives the STGM two layers or more",
    ),
    Formula(
        "10", "STViT-DeiT", "error",
        "76MC² and 12M²C", "94MC² (both FFNs of the STGM, and S¹ among the keys) and 14M²C",
        "76 = 6 · 12 + 2 · 2: the FFNs of Eqs. 1 and 2 (8MC² each) and Concat(S¹, X) are left out",
    ),
    Formula(
        "11", "MHA", "error",
        "2W²NC", "2WNC",
        "N queries meet W keys each; the same count in Eq. 12 reads 2M²(N/W)C, which for W tokens is 2WNC",
    ),
    Formula(
        "12", "FFN", "error",
        "FFN 8MC²", "8(N/W)MC²; and 2(NM/W)²C in global layers",
        "M is the number in each window, and there are N/W windows, as the line above it has it",
    ),
    Formula(
        "13", "both layers", "error",
        "2(N/W)M²C, no FFN", "2(N/W)MKC with K keys a window; FFN and second layer are missing",
        "semantic tokens compare with the image tokens of the key window, not with each other (Eq. 1)",
    ),
)  # fmt: skip


def errata() -> list[Erratum]:
    return [much_smaller(), *map(formula, FORMULAS), concatenation(), sigmoid()]


def much_smaller() -> Erratum:
    N, M = appendix.DEIT_S["N"], appendix.DEIT_S["M"]
    return Erratum(
        "error",
        "STViT",
        "text after Eq. 8",
        "N ≪ M",
        "M ≪ N",
        "N is defined as the number of image tokens and M as that of semantic tokens",
        "the left side over the right, DeiT-S, M = 16",
        N / M,
        M / N,
    )


def formula(one: Formula) -> Erratum:
    values = next(
        equation.values()
        for equation in appendix.EQUATIONS
        if equation.number == one.number and equation.corrected and one.row in equation.what
    )
    return Erratum(
        one.kind,
        "STViT",
        f"Eq. {one.number}",
        one.printed,
        one.against,
        one.why,
        f"MFLOPs of {values['what']}, at {values['at']}",
        values["printed_flops"] / 1e6,
        values["corrected_flops"] / 1e6,
    )


def concatenation() -> Erratum:
    N, M, C = (appendix.DEIT_S[name] for name in "NMC")
    sums, concatenated = (projections(M, K, C) + products(M, K, C) for K in (N, N + M))
    return Erratum(
        "inconsistency",
        "STViT",
        "Eqs. 2-3",
        "S¹ + X in Eq. 3",
        "Concat(S¹, X) in Eq. 2",
        "the shapes (16, C) and (196, C) have no sum; Figure 4a's 16 × 212 map is Eq. 2's",
        "MFLOPs of the second layer's attention with 196 and with 212 keys",
        sums / 1e6,
        concatenated / 1e6,
    )


def sigmoid(layers: int = 12) -> Erratum:
    """At zero weights, where an FFN should add nothing: σ(0) in each layer."""
    half = 0.5  # σ(0)
    return Erratum(
        "error",
        "BAT",
        "Eq. 3",
        "FFN(Z) = Sigmoid(Linear(GeLU(Linear(Z))))",
        "Linear(GeLU(Linear(Z)))",
        "DeiT, whose layers and weights are used, has no Sigmoid there; with it a residual branch adds only to (0, 1)",
        f"what {layers} FFNs with zero weights add to each channel",
        layers * half,
        0.0,
    )
