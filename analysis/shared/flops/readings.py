"""How each printed FLOPs cell is interpreted: which model, with which options, and how the table rounds.

Plain data and no torch: a reading names a closed form and its numbers, and how to build the same model.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from analysis.results import PAPER
from analysis.shared.flops import closed_global, closed_local, closed_reduced, closed_semantic
from analysis.shared.flops.formulas import Cost

PRINTED_CELLS = PAPER / "flops_cells.csv"
FAMILIES = {
    "deit": closed_global.deit,
    "stvit_deit": closed_global.stvit_deit,
    "lvvit": closed_global.lvvit,
    "reduced_vit": closed_reduced.reduced_vit,
    "reduced_lvvit": closed_reduced.reduced_lvvit,
    "dynamic_vit": closed_reduced.dynamic_vit,
    "swin": closed_local.swin,
    "swin_own_counter": closed_local.swin_own_counter,
    "stvit_swin": closed_semantic.stvit_swin,
    "stvit_video_swin": closed_semantic.stvit_video_swin,
    "stvit_r_swin": closed_semantic.stvit_r_swin,
}
WIDTH = {"T": 192, "S": 384, "B": 768}
SIZE_NAMES = {"T": "tiny", "S": "small", "B": "base"}
IMAGE_SHAPE = (1, 3, 224, 224)


class PrintedCell(NamedTuple):
    """A printed number: in GFLOPs (multiply-adds), with the digits that the paper prints."""

    paper: str
    table: str
    model: str
    setting: str
    printed: str


class Build(NamedTuple):
    """How to make the model itself: its name with timm (or torchvision), options, and its input."""

    name: str
    options: Mapping[str, Any] = MappingProxyType({})
    shape: tuple[int, ...] = IMAGE_SHAPE
    bn_training: bool = False  # count BatchNorm as in training, as some of the papers' counts do


class Reading(NamedTuple):
    """What a cell is taken to mean."""

    family: str  # a closed form of FAMILIES
    numbers: dict[str, Any]
    text: str
    build: Build | None = None
    rounding: str = ROUND_HALF_EVEN
    reproduced: bool = True  # does the printed digit come out?
    uncounted: str = "no registered model is of this reading"  # why there is no ``build``

    def cost(self) -> Cost:
        return FAMILIES[self.family](**self.numbers)

    def flops(self) -> tuple[int, int]:
        """The model's cost as the papers' figures mean it, and what its token reductions spend on top."""
        cost = self.cost()
        apart = cost.by("part").get(closed_reduced.PART, 0)
        return cost.total - apart, apart


def cells() -> list[PrintedCell]:
    with open(PRINTED_CELLS, encoding="utf-8", newline="") as file:
        return [PrintedCell(**row) for row in csv.DictReader(file)]


def rounded(flops: int, printed: str, rounding: str = ROUND_HALF_EVEN) -> str:
    """``flops`` in G with as many decimals as ``printed`` has."""
    return str((Decimal(flops) / 10**9).quantize(Decimal(printed), rounding))


@cache
def readings() -> dict[tuple[str, str, str, str], Reading]:
    """Cell (paper, table, model, setting) → its reading."""
    found: dict[tuple[str, str, str, str], Reading] = {}
    for part in (_table_1, _tables_8_13, _table_2, _tables_3_5_12, _table_6, _tables_10_11, _bat):
        found |= part()
    return found


def dense_deit(size: str, class_token: bool, text: str, rounding: str = ROUND_HALF_EVEN) -> Reading:
    options = {} if class_token else {"class_token": False, "global_pool": "avg", "fc_norm": False}
    build = Build(f"deit_{SIZE_NAMES[size]}_patch16_224", options)
    return Reading("deit", {"C": WIDTH[size], "class_token": class_token}, text, build, rounding)


def stvit_deit(size: str, text: str, rounding: str = ROUND_HALF_EVEN, **options) -> Reading:
    """``options`` are the model's own names; the closed form speaks of tokens."""
    numbers = {"C": WIDTH[size], **options}
    numbers["tokens"] = numbers.pop("num_semantic_tokens", 16)
    return Reading(
        "stvit_deit", numbers, text, Build(f"stvit_deit_{SIZE_NAMES[size]}_patch16_224", options), rounding
    )


def _table_1():
    found = {}
    for size in "TSB":
        token = size != "S"
        N = "197 tokens, the class token among them" if token else "196 tokens, no class token"
        found["STViT", "1", f"DeiT-{size}", "base"] = dense_deit(size, token, N)
        text = (
            f"4 base blocks and the STGM's keys on {N}; then the semantic tokens alone; pooling by Eqs. 4-5"
        )
        for M in (16, 36, 64, 100):
            options = {"num_semantic_tokens": M, **({"class_token": True} if token else {})}
            found["STViT", "1", f"STViT-DeiT-{size}", f"M={M}"] = stvit_deit(size, text, **options)
    return found


def _tables_8_13():
    found = {}
    for layers in (2, 3, 4):
        text = "196 tokens; every STGM layer after the first has the keys Concat(S, X)"
        options = {"stgm_layers": layers} if layers != 2 else {}
        found["STViT", "8", "STViT-DeiT-S", f"{layers} STGM layers"] = stvit_deit("S", text, **options)
    text = (
        "a label is the slice of layers counted from 0, so 3-5 has 3 base blocks; adaptive mean pooling; the table "
        "cuts digits off instead of rounding"
    )
    for at, base in (("3-5", 3), ("4-6", 4), ("5-7", 5), ("7-9", 7), ("8-10", 8), ("10-12", 10)):
        reading = stvit_deit("S", text, ROUND_DOWN, stgm_at=base + 1, pooling="mean")
        found["STViT", "13", "STViT-DeiT-S", f"STGM at {at}"] = reading
    return found


def swin_numbers(size: str) -> dict[str, Any]:
    C, depths = closed_local.SWIN[SIZE_NAMES[size]]
    return {"C": C, "depths": depths}


def _table_2():
    found = {}
    fvcore = {size: closed_local.swin(**swin_numbers(size)).total / 1e9 for size in "TSB"}
    values = ", ".join(f"{value:.3f}" for value in fvcore.values())
    own = f"quoted from the Swin paper, whose own counter counts a LayerNorm 1 a value; fvcore gives {values}"
    why = "the Swin paper's own counter is not fvcore's, which counts {:.3f} G"
    text = (
        "convolutional stem, BatchNorm as in training; pooling by Eqs. 4-5 in each window; STGM keys 4 × (100 + M), "
        "projected window by window, then 196 + 4M; local and global semantic blocks in turn"
    )
    over = "; {:.1f} MFLOPs above what would round to 10.48 (with maximum pooling, which counts nothing, it would)"
    for size in "TSB":
        numbers, base = swin_numbers(size), 2 if size == "T" else 10
        base_cell = Reading("swin_own_counter", numbers, own, uncounted=why.format(fvcore[size]))
        found["STViT", "2", f"Swin-{size}", "base"] = base_cell
        columns = [("M=9, STGM moved", 3, base - (1 if size == "T" else 2))]
        columns += [(f"M={w * w}", w, base) for w in (2, 3, 4)]
        for setting, w, at in columns:
            options = {"semantic_window": w, "base_depth": at, "project_keys": "per_window"}
            build = Build(f"stvit_swin_{SIZE_NAMES[size]}_patch4_window7_224", options, IMAGE_SHAPE, True)
            spec = {**numbers, "base": at, "semantic_window": w, "once": False, "bn_training": True}
            reading = Reading("stvit_swin", spec, text, build)
            if size == "B" and at == 8:
                above = (reading.cost().total - 10_485_000_000) / 1e6
                reading = reading._replace(text=text + over.format(above), reproduced=False)
            found["STViT", "2", f"STViT-Swin-{size}", setting] = reading
    return found


DENSE_INPUTS = {"800x1333": ((200, 334), (1, 3, 800, 1336)), "512x512": ((128, 128), (1, 3, 512, 512))}


def _tables_3_5_12():
    found = {}
    for size in "SB":
        numbers = swin_numbers(size)
        name = f"stvit_r_swin_{SIZE_NAMES[size]}_patch4_window7_224"
        text = "the authors' released model, three dumbbell units of six; BatchNorm as in training"
        spec = {**numbers, "pooling": "max", "once": False, "bn_training": True}
        build = Build(f"{name}.released", {}, IMAGE_SHAPE, True)
        found["STViT", "3", f"STViT-R-Swin-{size}", "224"] = Reading("stvit_r_swin", spec, text, build)
        for table, setting in (("5", "800x1333"), ("12", "512x512")):
            grid, shape = DENSE_INPUTS[setting]
            text = "windows padded, a norm on each of the four maps"
            build = Build(f"torchvision.swin_{size.lower()}", {"dense": True}, shape)
            dense = {**numbers, "grid": grid, "dense": True}
            found["STViT", table, f"Swin-{size}", setting] = Reading("swin", dense, text, build)
            text = "the authors' backbone: key windows 14, 21 and 27 on the padded map, keys and values projected once"
            build = Build(f"{name}.released_detection", {"features_only": True}, shape)
            dense = {**dense, "bordered": True, "pooling": "max"}
            found["STViT", table, f"STViT-R-Swin-{size}", setting] = Reading(
                "stvit_r_swin", dense, text, build
            )
    return found


def _table_6():
    found = {}
    video = {"frames": 16, "span": 8, "taps": 32, "classes": 400}
    shape = (1, 3, 32, 224, 224)
    for size, base in (("T", 2), ("S", 10)):
        numbers = {**swin_numbers(size), **video}
        text = "patch 2×4×4, so 16 frames of 56×56; window 8×7×7; 400 classes"
        build = Build(f"torchvision.swin3d_{size.lower()}", {"num_classes": 400}, shape)
        found["STViT", "6", f"VideoSwin-{size}", "32x224x224"] = Reading("swin", numbers, text, build)
        text = (
            "patch stem; all that follows the base blocks on each frame; maximum pooling; keys 4 × 100 without P, "
            "projected window by window, then 196 + 36"
        )
        options = {"pooling": "max", "project_keys": "per_window"}
        build = Build(f"stvit_video_swin_{SIZE_NAMES[size]}", options, shape)
        spec = {**swin_numbers(size), "base": base}
        key = ("STViT", "6", f"STViT-VideoSwin-{size}", "32x224x224, M=9")
        found[key] = Reading("stvit_video_swin", spec, text, build)
    return found


def _tables_10_11():
    found = {}
    text = "197 tokens, the auxiliary head counted"
    base = Reading("lvvit", {}, text, Build("lvvit_small_patch16_224"))
    found["STViT", "10", "LV-ViT-S", "base"] = found["BAT", "2", "LV-ViT-S", "base"] = base
    text = "5 base blocks, STGM in blocks 6 and 7, keys with the class token, auxiliary head on the M tokens"
    extra = (
        "; 4.62 does not come out, and a slip of one digit would not explain Table 11's 4.6 and both −30 %"
    )
    for M, tables in ((36, ("10", "11")), (49, ("10",)), (100, ("10", "11"))):
        build = Build("stvit_lvvit_small_patch16_224", {"num_semantic_tokens": M})
        reading = Reading("lvvit", {"tokens": M}, text, build)
        if M == 100:
            reading = reading._replace(text=text + extra, reproduced=False)
        for table in tables:
            found["STViT", table, "STViT-LV-ViT-S", f"M={M}"] = reading
    text = (
        "reduced in blocks 5, 9 and 13 (written 4, 8 and 12, counted from 0): ⌈k·n⌉ + 1 of n patch tokens; "
        + APART
    )
    for paper, table, method, k in (
        ("STViT", "11", "evit", 0.5),
        ("STViT", "11", "evit", 0.7),
        ("BAT", "2", "evit", 0.7),
        ("BAT", "2", "bat", 0.7),
    ):
        spec = {"method": method, "keep_rate": k}
        build = Build(f"{method}_lvvit_small_patch16_224", {"keep_rate": k})
        model = f"{LABEL[method]}-LV-ViT-S"
        found[paper, table, model, f"k={k}"] = Reading("reduced_lvvit", spec, text, build)
    return found


LABEL = {"bat": "BAT", "evit": "EViT"}
APART = "what the reduction itself spends is left out and shown apart"
BAT_STEPS = {  # Table 3: what the method's choices are at each step
    "attentive preservation": {"merger": "none", "pairs": 0},
    "+ inattentive pack": {"merger": "pack", "pairs": 0},
    "+ inattentive clustering": {"pairs": 0},
    "+ attentive matching": {},
}


def reduced(method: str, size: str, k: float, **choices) -> Reading:
    text = "⌈k·n⌉ + 1 of n patch tokens stay in blocks 4, 7 and 10; " + APART
    build = Build(f"{method}_deit_{SIZE_NAMES[size]}_patch16_224", {"keep_rate": k, **choices})
    numbers = {"C": WIDTH[size], "method": method, "keep_rate": k, **choices}
    return Reading("reduced_vit", numbers, text, build)


def _bat():
    found = {}
    for size in "TSB":
        found["BAT", "1", f"DeiT-{size}", "base"] = dense_deit(
            size, True, "197 tokens, the class token among them"
        )
        found["BAT", "1", f"BAT-DeiT-{size}", "k=0.7"] = reduced("bat", size, 0.7)
        if size != "T":
            found["BAT", "1", f"EViT-DeiT-{size}", "k=0.7"] = reduced("evit", size, 0.7)
        found["BAT", "1", f"DynamicViT-DeiT-{size}", "k=0.7"] = Reading(
            "dynamic_vit",
            {"C": WIDTH[size], "keep_rate": 0.7},
            "⌊196·kⁱ⌋ patch tokens stay from blocks 4, 7 and 10 on; predictors are left out and shown apart",
            Build(f"dynamicvit_deit_{SIZE_NAMES[size]}_patch16_224", {"keep_rate": 0.7}),
            reproduced=size == "S",
        )
    found["BAT", "1", "EViT+BAT-DeiT-S", "k=0.7"] = reduced("bat", "S", 0.7, fuse_token=True)
    found["BAT", "3", "DeiT-S", "base"] = found["BAT", "1", "DeiT-S", "base"]
    for k in (0.7, 0.6, 0.5, 0.4, 0.3, 0.2):
        found["BAT", "Fig. 6", "BAT-DeiT-S", f"k={k}"] = reduced("bat", "S", k)
    for k in (0.7, 0.5):
        for step, choices in BAT_STEPS.items():
            found["BAT", "3", "BAT-DeiT-S", f"k={k}, {step}"] = reduced("bat", "S", k, **choices)
    return found
