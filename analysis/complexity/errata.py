"""Errata of the two papers, each with a number that is computed here and now."""

from __future__ import annotations

from typing import Any, NamedTuple

from analysis.complexity import appendix
from analysis.complexity.closed_global import lvvit, stvit_deit, window_of
from analysis.complexity.closed_local import SWIN, swin
from analysis.complexity.closed_reduced import reduced_lvvit
from analysis.complexity.closed_semantic import stvit_r_swin, without_units
from analysis.complexity.formulas import products, projections
from analysis.complexity.readings import dense_deit


class Erratum(NamedTuple):
    paper: str
    place: str
    printed: str
    correct: str
    quantity: str  # what the two numbers are
    as_printed: float
    as_correct: float

    @property
    def difference_percent(self) -> float:
        return 100 * (self.as_printed / self.as_correct - 1)


def rows() -> list[dict[str, Any]]:
    return [
        {"item": number, **erratum._asdict(), "difference_percent": erratum.difference_percent}
        for number, erratum in enumerate(errata(), 1)
    ]


def errata() -> list[Erratum]:
    return [
        much_smaller(),
        *(formula(*words) for words in FORMULAS),
        concatenation(),
        table_9(),
        parameters(),
        throughput(),
        table_numbers(),
        table_1_bases(),
        table_13_digits(),
        lvvit_100(),
        swin_bases(),
        bat_layers(),
        *contradictions(),
        other_gains(),
    ]


def much_smaller() -> Erratum:
    N, M = appendix.DEIT_S["N"], appendix.DEIT_S["M"]
    return Erratum(
        "STViT",
        "text after Eq. 8",
        "N ≪ M",
        "M ≪ N",
        "the left side over the right, DeiT-S, M = 16",
        N / M,
        M / N,
    )


FORMULAS = [
    # equation, row of the appendix's table, words
    ("9", "both layers", "the attention of one layer", "two layers, each with its FFN"),
    ("10", "STViT-DeiT", "76MC² and 12M²C", "94MC² (both FFNs of the STGM, and S¹ among the keys) and 14M²C"),
    ("11", "MHA", "2W²NC", "2WNC"),
    ("12", "FFN", "FFN 8MC²", "8(N/W)MC²; and 2(NM/W)²C in global layers"),
    (
        "13",
        "both layers",
        "2(N/W)M²C, no FFN",
        "2(N/W)MKC with K keys a window; FFN and second layer are missing",
    ),
]


def formula(number: str, what: str, printed: str, correct: str) -> Erratum:
    values = next(
        equation.values()
        for equation in appendix.EQUATIONS
        if equation.number == number and equation.corrected and what in equation.what
    )
    quantity = f"MFLOPs of {values['what']}, at {values['at']}"
    return Erratum(
        "STViT",
        f"Eq. {number}",
        printed,
        correct,
        quantity,
        values["printed_flops"] / 1e6,
        values["corrected_flops"] / 1e6,
    )


def concatenation() -> Erratum:
    N, M, C = (appendix.DEIT_S[name] for name in "NMC")
    sums, concatenated = (projections(M, K, C) + products(M, K, C) for K in (N, N + M))
    return Erratum(
        "STViT",
        "Eqs. 2-3",
        "S¹ + X in Eq. 3; S² on the left of Eq. 2's first line",
        "Concat(S¹, X), as shapes (16, C) and (196, C) have no sum; Ŝ²",
        "MFLOPs of the second layer's attention with 196 and with 212 keys",
        sums / 1e6,
        concatenated / 1e6,
    )


def table_9() -> Erratum:
    full = stvit_r_swin(*SWIN["small"], pooling="max", once=False, bn_training=True).total / 1e9
    near = without_units(*SWIN["small"], base=6).total / 1e9
    return Erratum(
        "STViT",
        "Section 4.4, Table 9",
        f"STGM in layers 6 and 7, FLOPs the same as STViT-R's {full:.3f} G",
        f"layers 7 and 8: {near:.3f} G",
        "GFLOPs with the layers as printed, and STViT-R's",
        without_units(*SWIN["small"], base=5).total / 1e9,
        full,
    )


def deit_parameters(C: int, depth: int = 12, N: int = 196, classes: int = 1000) -> int:
    """DeiT with its class token: embedding, positions, blocks, norm, head."""
    return (768 * C + C) + C + (N + 1) * C + depth * (12 * C**2 + 13 * C) + 2 * C + (C + 1) * classes


def pooling_parameters(C: int, window: int) -> tuple[int, int]:
    """f_intra and f_inter: 3×3 depthwise with bias, norm, and C → 1 without bias or C → window with."""
    shared = 9 * C + C + 2 * C
    return shared + C, shared + (C + 1) * window


def parameters() -> Erratum:
    intra, inter = pooling_parameters(192, window_of((14, 14), (4, 4)))
    total = deit_parameters(192)
    return Erratum(
        "STViT",
        "Section 3.1, on DeiT-T",
        "intra- and inter-window pooling add 0.05 % parameters",
        f"{intra + inter:,} of {total:,}; f_intra alone is {100 * intra / total:.3f} %",
        "percent more parameters",
        0.05,
        100 * (intra + inter) / total,
    )


def throughput() -> Erratum:
    base, sparse = 626, 1087
    return Erratum(
        "STViT",
        "Table 1, DeiT-B, M = 64",
        f"{sparse} images/s (+61 %)",
        f"{sparse} is +{100 * (sparse / base - 1):.0f} % of {base}; +61 % would be {1.61 * base:.0f}",
        "percent of gain",
        61,
        100 * (sparse / base - 1),
    )


def table_numbers() -> Erratum:
    dense, sparse = segmentation()
    return Erratum(
        "STViT",
        "Table 12 and the poster",
        "the poster's Table 14 is the segmentation table",
        f"the paper's Table 12, with the same cells ({dense / 1e9:.2f} and {sparse / 1e9:.2f} G for Swin-S)",
        "percent of FLOPs saved in Swin-S",
        31,
        100 * (1 - sparse / dense),
    )


def segmentation() -> tuple[int, int]:
    options = {"grid": (128, 128), "dense": True}
    return (
        swin(*SWIN["small"], **options).total,
        stvit_r_swin(*SWIN["small"], **options, bordered=True, pooling="max").total,
    )


def table_1_bases() -> Erratum:
    without, with_token = (dense_deit("S", token, "").cost().total / 1e9 for token in (False, True))
    return Erratum(
        "STViT",
        "Table 1, base of DeiT-S",
        f"4.58, a model without class token ({without:.3f} G), beside T and B with one",
        f"{with_token:.2f} for DeiT-S with its class token",
        "GFLOPs of DeiT-S",
        without,
        with_token,
    )


def table_13_digits() -> Erratum:
    total = stvit_deit(384, 16, stgm_at=6, pooling="mean").total / 1e9
    learned = stvit_deit(384, 16, stgm_at=6).total / 1e9
    return Erratum(
        "STViT",
        "Table 13",
        "2.25, 2.95 and 3.30 (Tables 1 and 8 round, this one does not)",
        f"2.26, 2.96 and 3.31 when rounded; {learned:.4f} instead of {total:.4f} with the pooling of Eqs. 4-5",
        "GFLOPs at 5-7",
        2.25,
        total,
    )


def lvvit_100() -> Erratum:
    total, base = lvvit(tokens=100).total / 1e9, lvvit().total / 1e9
    return Erratum(
        "STViT",
        "Tables 10 and 11, M = 100",
        "4.62 and 4.6 (−30 %)",
        f"{total:.2f} ({100 * (total / base - 1):.0f} %), with what gives the columns 3.69 and 3.91 exactly",
        "GFLOPs",
        4.62,
        total,
    )


def swin_bases() -> Erratum:
    fvcore = {size: swin(*SWIN[size]).total / 1e9 for size in SWIN}
    return Erratum(
        "STViT",
        "Table 2, base column",
        "4.5, 8.7, 15.4: quoted from the Swin paper, which counts a norm 1 a value",
        "by the counter of the other columns " + ", ".join(f"{value:.3f}" for value in fvcore.values()),
        "GFLOPs of Swin-S",
        8.7,
        fvcore["small"],
    )


def bat_layers() -> Erratum:
    printed, correct = (
        reduced_lvvit(method="evit", reduce_at=at).total / 1e9 for at in ((4, 8, 12), (5, 9, 13))
    )
    return Erratum(
        "BAT",
        "Section 5.1, LV-ViT-S",
        f"layers 4, 8 and 12 ({printed:.2f} G)",
        f"layers 5, 9 and 13 (4, 8, 12 counted from 0): {correct:.2f} G, where 4.7 is printed",
        "GFLOPs",
        printed,
        correct,
    )


def contradictions() -> list[Erratum]:
    """The same method on the same model, in BAT's Table 1 and in STViT's Table 4."""
    return [
        Erratum(
            "BAT",
            f"Table 1, {method} on DeiT-B",
            f"{bat} G",
            f"{stvit} G in STViT's Table 4",
            "GFLOPs; the papers contradict each other",
            bat,
            stvit,
        )
        for method, bat, stvit in (("DynamicViT", 11.6, 11.2), ("PS-ViT", 11.6, 9.8), ("Evo-ViT", 11.6, 10.2))
    ]


GAINS = {  # Table 1: images/s of the base model; of the sparse ones, and the gain printed beside
    2752: {5511: 101, 4769: 74, 4214: 53, 3551: 29},
    1408: {2891: 105, 2542: 80, 2229: 58, 1837: 30},
    626: {1308: 110, 1150: 85, 826: 33},
}


def other_gains() -> Erratum:
    wrong = [
        (fast, gain, 100 * (fast / base - 1))
        for base, column in GAINS.items()
        for fast, gain in column.items()
        if abs(100 * (fast / base - 1) - gain) > 0.6
    ]
    return Erratum(
        "STViT",
        f"Table 1, {len(wrong)} more gains",
        ", ".join(f"{fast} (+{gain} %)" for fast, gain, _ in wrong),
        ", ".join(f"+{actual:.1f} %" for *_, actual in wrong)
        + "; a base of 622 images/s would give DeiT-B's",
        "percent of gain, DeiT-B, M = 16",
        110,
        100 * (1308 / 626 - 1),
    )
