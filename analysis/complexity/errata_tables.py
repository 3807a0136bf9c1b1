"""Errata of tables and text: FLOPs, parameters, images a second, and where the two papers disagree."""

from __future__ import annotations

from analysis.complexity.erratum import Erratum
from analysis.shared.flops.closed_global import lvvit, stvit_deit, window_of
from analysis.shared.flops.closed_local import SWIN, swin
from analysis.shared.flops.closed_reduced import reduced_lvvit
from analysis.shared.flops.closed_semantic import stvit_r_swin, without_units
from analysis.shared.flops.readings import dense_deit


def errata() -> list[Erratum]:
    return [
        table_9(),
        parameters(),
        throughput(),
        other_gains(),
        table_numbers(),
        table_1_bases(),
        table_13_digits(),
        lvvit_100(),
        swin_bases(),
        bat_layers(),
        *contradictions(),
    ]


def table_9() -> Erratum:
    full = stvit_r_swin(*SWIN["small"], pooling="max", once=False, bn_training=True).total / 1e9
    one, two = (without_units(*SWIN["small"], base=5, recoveries=n).total / 1e9 for n in (1, 2))
    dense, later = without_units(*SWIN["small"], base=5, dense=1), without_units(*SWIN["small"], base=6)
    return Erratum(
        "doubt",
        "STViT",
        "Section 4.4, Table 9",
        f"STGM in layers 6 and 7, recovery in the last layers, FLOPs the same as STViT-R's {full:.3f} G",
        f"{one:.3f} G with one recovery layer; {two:.3f} with two, {dense.total / 1e9:.3f} with a dense layer before "
        f"it, as much as with the STGM in layers 7 and 8 ({later.total / 1e9:.3f})",
        "the text says layers, in the plural, and not how many; with two the FLOPs are within 1 % as claimed",
        "GFLOPs with layers 6 and 7 and one recovery layer, and STViT-R's",
        one,
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
        "doubt",
        "STViT",
        "Section 3.1, on DeiT-T",
        "intra- and inter-window pooling add 0.05 % parameters",
        f"{intra + inter:,} of {total:,}; f_intra alone is {100 * intra / total:.3f} %",
        "rests on 3 × 3 kernels and windows of 4 × 4, which 14 × 14 tokens must be padded to: the text prints neither",
        "percent more parameters",
        0.05,
        100 * (intra + inter) / total,
    )


def throughput() -> Erratum:
    base, sparse = 626, 1087
    return Erratum(
        "inconsistency",
        "STViT",
        "Table 1, DeiT-B, M = 64",
        f"{sparse} images/s (+61 %)",
        f"{sparse} is +{100 * (sparse / base - 1):.0f} % of {base}; +61 % would be {1.61 * base:.0f}",
        "the two numbers of one cell and the base in its row; which of them is wrong is not said",
        "percent of gain",
        61,
        100 * (sparse / base - 1),
    )


def table_numbers() -> Erratum:
    dense, sparse = segmentation()
    return Erratum(
        "convention",
        "STViT",
        "Table 12 and the poster",
        "the poster's Table 14 is the segmentation table",
        f"Table 12 here, with the same cells ({dense / 1e9:.2f} and {sparse / 1e9:.2f} G for Swin-S)",
        "the poster counts another edition's tables",
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
        "convention",
        "STViT",
        "Table 1, base of DeiT-S",
        f"4.58, a model without class token ({without:.3f} G), beside T and B with one",
        f"{with_token:.2f} for DeiT-S with its class token",
        "both are DeiT-S; STViT reads the mean of its tokens and needs no class token",
        "GFLOPs of DeiT-S",
        without,
        with_token,
    )


def table_13_digits() -> Erratum:
    total = stvit_deit(384, 16, stgm_at=6, pooling="mean").total / 1e9
    learned = stvit_deit(384, 16, stgm_at=6).total / 1e9
    return Erratum(
        "convention",
        "STViT",
        "Table 13",
        "2.25, 2.95 and 3.30 (Tables 1 and 8 round, this one does not)",
        f"2.26, 2.96 and 3.31 when rounded; {learned:.4f} instead of {total:.4f} with the pooling of Eqs. 4-5",
        "a number cut after two decimals is not wrong",
        "GFLOPs at 5-7",
        2.25,
        total,
    )


def lvvit_100() -> Erratum:
    total, base = lvvit(tokens=100).total / 1e9, lvvit().total / 1e9
    return Erratum(
        "doubt",
        "STViT",
        "Tables 10 and 11, M = 100",
        "4.62 and 4.6 (−30 %)",
        f"{total:.2f} ({100 * (total / base - 1):.0f} %), with what gives the columns 3.69 and 3.91 exactly",
        "4.62, 4.6 and −30 % agree with each other, so that it is no slip of a digit; the model may be another one",
        "GFLOPs",
        4.62,
        total,
    )


def swin_bases() -> Erratum:
    fvcore = {size: swin(*SWIN[size]).total / 1e9 for size in SWIN}
    return Erratum(
        "convention",
        "STViT",
        "Table 2, base column",
        "4.5, 8.7, 15.4: quoted from the Swin paper, which counts a norm 1 a value",
        "by the counter of the other columns " + ", ".join(f"{value:.3f}" for value in fvcore.values()),
        "two counters in one table: savings in per cent mix them, by less than one per cent",
        "GFLOPs of Swin-S",
        8.7,
        fvcore["small"],
    )


def bat_layers() -> Erratum:
    printed, shifted = (
        reduced_lvvit(method="evit", reduce_at=at).total / 1e9 for at in ((4, 8, 12), (5, 9, 13))
    )
    return Erratum(
        "convention",
        "BAT",
        "Section 5.1, LV-ViT-S",
        f"layers 4, 8 and 12 ({printed:.2f} G)",
        f"layers 5, 9 and 13: {shifted:.2f} G, where 4.7 is printed",
        "counted from 0 these are the same layers; the same section counts DeiT's 4, 7 and 10 from 1",
        "GFLOPs",
        printed,
        shifted,
    )


def contradictions() -> list[Erratum]:
    """The same method on the same model, in BAT's Table 1 and in STViT's Table 4."""
    return [
        Erratum(
            "inconsistency",
            "BAT",
            f"Table 1, {method} on DeiT-B",
            f"{bat} G",
            f"{stvit} G in STViT's Table 4",
            "one of the papers, or a setting that neither prints; this repository cannot say which",
            "GFLOPs in BAT's and in STViT's table",
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
        "inconsistency",
        "STViT",
        f"Table 1, {len(wrong)} more gains",
        ", ".join(f"{fast} (+{gain} %)" for fast, gain, _ in wrong),
        ", ".join(f"+{actual:.1f} %" for *_, actual in wrong)
        + "; a base of 622 images/s would give DeiT-B's",
        "the printed base and images/s do not give the printed gain; which of the three is off is not said",
        "percent of gain, DeiT-B, M = 16",
        110,
        100 * (1308 / 626 - 1),
    )
