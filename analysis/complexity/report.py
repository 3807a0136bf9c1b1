"""``results/complexity/``: the tables, the figures and the prose of the report, with their record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from analysis.complexity import appendix, default_reading, errata, figures, frame, sweep, table
from analysis.complexity.whatif import Request, crossover, layers
from analysis.results import Report
from analysis.shared.flops.closed_global import stvit_deit
from analysis.shared.flops.readings import PRINTED_CELLS

TITLE = "What token-sparsified transformers cost"
COMMAND = "python -m analysis.complexity --report"
COLUMNS = {
    "paper": "paper",
    "table": "table",
    "model": "model",
    "setting": "setting",
    "printed_text": "printed",
    "closed_form": "closed form",
    "counted": "counted",
    "torch_flops": "torch ÷ 2",
    "closed_form_reduction_flops": "reduction",
    "residual_percent": "residual (%)",
    "verdict": "verdict",
}


def write(out: Path | None = None, count: bool = True) -> Path:
    rows = table.rows(count)
    with Report("complexity", TITLE, COMMAND, {"count": count}, inputs=[PRINTED_CELLS], out=out) as report:
        report.prose(opening(rows))
        report.figure("residuals", figures.residuals(rows), RESIDUALS, RESIDUALS_ALT)
        _cells(report, rows)
        _attention(report, count)
        _formulas(report)
        _where(report)
        _growth(report)
    return report.out


def opening(rows: list[dict[str, Any]]) -> str:
    known = [row for row in rows if row["closed_form"] is not None]
    good = [row for row in known if row["verdict"].startswith("reproduced")]
    counted = [row for row in known if row["counted_flops"] is not None]
    equal = sum(row["counted_flops"] == row["closed_form_flops"] for row in counted)
    missed = ", ".join(
        f"{row['model']} {row['setting']} ({row['paper']} Table {row['table']})"
        for row in known
        if row not in good
    )
    return (
        f"The tables treated here print {len(rows)} FLOPs figures. {len(known)} of them are of models with a closed "
        f"form, a sum of named terms; **{len(good)} come out at the printed digit**. Not so: {missed}. {len(counted)} "
        "cells belong to models that this repository or its libraries build today; fvcore, with attention counted, "
        f"gives exactly the closed form for **{equal} of {len(counted)}**. FLOPs are multiply-adds; G is 10⁹.\n\n"
        f"{default_reading.in_words()}"
    )


RESIDUALS = (
    "Printed against closed form. Bars: the values that give the printed digit, by rounding, or by cutting off in "
    "Table 13. Vermilion dots lie outside of theirs."
)
RESIDUALS_ALT = (
    "Left: a log-log scatter of printed and closed-form GFLOPs on the diagonal. Right: a line for each cell with its "
    "residual in percent and the interval that its printed digit allows."
)


SHARES = (
    "GFLOPs at 224×224 by kind of term, of the models as built here by default: STViT-Swin and STViT-R project "
    "the keys of overlapping windows once, and so cost less than the printed 6.53 and 5.83."
)


def _cells(report: Report, rows: list[dict[str, Any]]) -> None:
    cells = frame([{new: row[old] for old, new in COLUMNS.items()} for row in rows])
    for name in ("torch ÷ 2", "reduction"):
        cells[name] = cells[name].map(lambda value: None if pd.isna(value) else value / 1e9)
    caption = (
        "Every cell, in GFLOPs. torch ÷ 2: torch's FlopCounterMode halved, a second opinion that leaves out norms. "
        "reduction: what EViT, BAT and DynamicViT spend on the reduction itself, which the papers leave out. "
        "Cells without a count are of models that are not built here yet, or of other papers."
    )
    report.table("cells", cells, caption, digits=5)
    keys = ("paper", "table", "model", "reading")
    readings = {tuple(row[key] for key in keys): None for row in rows if row["closed_form"] is not None}
    report.table("readings", pd.DataFrame(list(readings), columns=keys), "How each cell is read.")
    report.table(
        "default_reading",
        frame(default_reading.rows()),
        "How many cells come out when all are read alike, and which do not, beside the readings fitted to each column.",
    )


def _attention(report: Report, count: bool) -> None:
    if not count:
        return
    from analysis.shared.counting import HANDLES, create
    from analysis.shared.counting import count as counted
    from analysis.shared.flops.readings import IMAGE_SHAPE, Build

    model = create(Build(figures.MODEL))
    bare, full = counted(model, IMAGE_SHAPE, handles={}), counted(model, IMAGE_SHAPE, handles=HANDLES)
    products = stvit_deit(384).by("kind")["attention products"]
    report.prose(
        f"**Fused attention.** fvcore as it comes counts {bare.total:,} for STViT-DeiT-S with fused attention: it has "
        "no handle for `scaled_dot_product_attention` and passes it over. With the handle used here it is "
        f"{full.total:,}; the difference, {full.total - bare.total:,}, is what the closed form has for attention "
        f"products ({products:,})."
    )


def _formulas(report: Report) -> None:
    report.heading("The appendix's formulas and the errata")
    report.table(
        "formulas",
        frame(appendix.rows()),
        "Eqs. 7-13 as printed and corrected. counted_flops adds up the terms of the blocks; it equals the corrected "
        "formula, for all symbols (proved with sympy in the tests). Norms, embedding and head are left out.",
        digits=4,
    )
    report.table(
        "errata",
        frame(errata.rows()),
        "Errata with their kinds. error: wrong by the paper's own definitions; inconsistency: two places that cannot "
        "both be right, and nothing says which is wrong; convention: rounding or a way to count; doubt: not found "
        "here, and the paper may be right. Each has a number, as printed and what stands against it, and a reason.",
        digits=4,
    )


def _where(report: Report) -> None:
    report.heading("Where the FLOPs go")
    costs = figures.shares_of()
    ffn = {name: 100 * cost.by("kind")["FFN"] / cost.total for name, cost in costs.items()}
    overhead = stvit_deit(384, 16).by("part")
    stgm = 100 * (overhead["STGM 1"] + overhead["STGM 2"]) / sum(overhead.values())
    report.prose(
        f"The FFN is {min(ffn.values()):.0f} to {max(ffn.values()):.0f} % of each model, so that at this size "
        "sparsification saves in FFN and projections more than in attention products. In STViT-DeiT-S (M = 16) the "
        f"initial centers cost {100 * overhead['pooling'] / sum(overhead.values()):.2f} % and the two STGM layers "
        f"{stgm:.1f} %."
    )
    alt = "Stacked horizontal bars of GFLOPs by kind of term for six models at 224×224."
    report.figure("shares", figures.shares(), SHARES, alt)
    cost = stvit_deit(384, 16)
    caption = "STViT-DeiT-S, M = 16: every layer and its terms, in FLOPs; the last column is the share of the whole."
    report.table("layers_stvit_deit_small", frame(layers(cost)), caption)


def _growth(report: Report) -> None:
    report.heading("Growth with the image")
    found = {M: crossover(Request(figures.MODEL, tokens=M)) for M in (16, 36, 64, 100)}
    half = {M: crossover(Request(figures.MODEL, tokens=M), saving=0.5) for M in found}
    pays = ", ".join(f"{point.side} (M = {M})" for M, point in found.items())
    halves = ", ".join(f"{point.side} (M = {M})" for M, point in half.items())
    (last,), _ = sweep.rows(Request(figures.MODEL, tokens=16), "image-size", figures.SIDES[-1:])
    ours, dense = (100 * last[f"{k}attention_products"] / last[f"{k}flops"] for k in ("", "dense_"))
    report.prose(
        f"STViT-DeiT-S costs less than DeiT-S from these image sides on: {pays}; less than half of it from {halves}. "
        f"As images grow the saving nears {figures.saving_limit():.0f} %, whatever M is: 4 of the 12 blocks still "
        f"compare all image tokens with each other, and at {last['image-size']} pixels these products are {ours:.0f} % "
        f"of STViT-DeiT-S (M = 16) and {dense:.0f} % of DeiT-S."
    )
    caption = "Left: totals (solid) and the attention products in them (dashed). Right: FLOPs saved."
    alt = "Two line charts over the image side: GFLOPs of DeiT-S and STViT-DeiT-S, and the saving in percent."
    report.figure("growth", figures.growth(), caption, alt)
