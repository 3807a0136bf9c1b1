"""The report that a terminal shows: cells by table, formulas, errata, and answers to what-if questions."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from tabulate import tabulate

from analysis.complexity import appendix, default_reading, errata, table
from analysis.complexity.whatif import Request, crossover, layers
from analysis.shared.flops.formulas import Cost

LINE_WIDTH = 110
PAPERS = {
    "STViT": "STViT — Making Vision Transformers Efficient from A Token Sparsification View",
    "BAT": "BAT — Beyond Attentive Tokens",
}


def report(count: bool = False) -> str:
    rows = table.rows(count)
    blocks = [introduction(rows)]
    for paper, title in PAPERS.items():
        mine = [row for row in rows if row["paper"] == paper]
        blocks.append(f"{title}\n{'=' * len(title)}")
        for number in dict.fromkeys(row["table"] for row in mine):
            blocks.append(cell_table(number, [row for row in mine if row["table"] == number], count))
    return "\n\n".join([*blocks, formula_table(), errata_table()])


def introduction(rows: list[dict[str, Any]]) -> str:
    known = [row for row in rows if row["closed_form"] is not None]
    good = sum(row["verdict"].startswith("reproduced") for row in known)
    words = (
        f"FLOPs of token-sparsified transformers, in G: 10⁹ multiply-adds of one image. {good} of {len(known)} printed "
        f"cells come out at the printed digit in closed form, with readings fitted to each column, and "
        f"{default_reading.rows()[1]['come_out']} under one reading; {len(rows) - len(known)} more are quoted by the "
        "papers from others. Residuals are closed form against printed."
    )
    counted = [row for row in known if row["counted_flops"] is not None]
    if counted:
        equal = sum(row["counted_flops"] == row["closed_form_flops"] for row in counted)
        words += f" {len(counted)} cells were counted by fvcore on the model; {equal} equal the closed form exactly."
    else:
        words += " --count builds the models and counts them; --help lists what else can be asked."
    return textwrap.fill(words, LINE_WIDTH)


def cell_table(number: str, rows: list[dict[str, Any]], count: bool) -> str:
    title = f"Table {number}" if number.isdigit() else number
    marks = {text: chr(97 + i) for i, text in enumerate(dict.fromkeys(row["reading"] for row in rows))}
    head = ["model", "setting", "printed", "closed form", *(["counted", "torch ÷ 2"] if count else [])]
    apart = any(row["closed_form_reduction_flops"] for row in rows)
    head += [*(["reduction"] if apart else []), "residual %", "verdict", "reading"]
    lines = [_cell_line(row, marks[row["reading"]], count, apart) for row in rows]
    aligned = ("left", "left", *("right",) * (len(head) - 4), "left", "left")
    body = tabulate(lines, head, tablefmt="simple", disable_numparse=True, colalign=aligned)
    notes = [_wrapped(f"({mark}) {text}") for text, mark in marks.items()]
    reasons = dict.fromkeys(
        row["reason"] for row in rows if count and row["reason"] not in (None, table.NOT_MODELLED)
    )
    return "\n".join([title, body, *notes, *(_wrapped(f"not counted: {reason}") for reason in reasons)])


def _cell_line(row: dict[str, Any], mark: str, count: bool, apart: bool) -> list[str]:
    reduction = [giga(row["closed_form_reduction_flops"])] if apart else []
    counted = [giga(row["counted_flops"]), giga(row["torch_flops"])] if count else []
    residual = "" if row["residual_percent"] is None else f"{row['residual_percent']:+.3f}"
    start = [row["model"], row["setting"], row["printed_text"], giga(row["closed_form_flops"])]
    return [*start, *counted, *reduction, residual, row["verdict"], f"({mark})"]


def giga(flops: int | None, digits: int = 4) -> str:
    return "" if flops is None else f"{flops / 1e9:.{digits}f}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, LINE_WIDTH, subsequent_indent="    ")


def formula_table() -> str:
    lines = [[f"Eq. {row['equation']}", row["what"], *_numbers(row), row["at"]] for row in appendix.rows()]
    head = ["", "what", "as printed (M)", "corrected (M)", "error %", "at"]
    aligned = ("left", "left", "right", "right", "right", "left")
    body = tabulate(lines, head, tablefmt="simple", disable_numparse=True, colalign=aligned)
    wrong = dict.fromkeys(
        f"Eq. {equation.number}, {equation.what}: {equation.printed}  →  {equation.corrected}"
        for equation in appendix.EQUATIONS
        if equation.corrected
    )
    title = "The appendix's formulas (Eqs. 7-13), norms, embedding and head left out"
    return "\n".join([title, "=" * len(title), body, "", *map(_wrapped, wrong)])


def _numbers(row: dict[str, Any]) -> list[str]:
    printed, corrected = row["printed_flops"] / 1e6, row["corrected_flops"] / 1e6
    return [f"{printed:.2f}", f"{corrected:.2f}", f"{row['error_percent']:+.2f}"]


def errata_table() -> str:
    title = "Errata of the papers"
    return "\n".join([title, "=" * len(title), *(_erratum(row) for row in errata.rows())])


def _erratum(row: dict[str, Any]) -> str:
    words = (
        f"{row['item']:>2}. {row['kind'].upper()} {row['paper']}, {row['place']}: {row['printed']}  /  "
        f"{row['against']}. "
        f"{row['why']} [{row['quantity']}: {row['as_printed']:.4g} against {row['as_against']:.4g}"
        + ("]" if row["difference_percent"] is None else f", {row['difference_percent']:+,.2f} %]")
    )
    return textwrap.fill(words, LINE_WIDTH, subsequent_indent="    ")


def answer(request: Request, cost: Cost, dense: Cost | None, head_dim: int) -> str:
    """The reply to a what-if question."""
    side, batch = "×".join(map(str, request.image_size)), request.batch
    total = f"{giga(cost.total)} GFLOPs (multiply-adds) for an image"
    lines = [f"{request.model} at {side}{_settings(request)}: {total}"]
    lines[0] += f", {giga(batch * cost.total)} for a batch of {batch}" if batch > 1 else ""
    if dense is not None:
        saving = 100 * (1 - cost.total / dense.total)
        lines.append(f"dense model of the same size: {giga(dense.total)} GFLOPs; saving {saving:.1f} %")
        lines += list(_crossovers(request))
    return "\n".join(
        [*lines, *memory_lines(cost, batch, head_dim), "", layer_table(cost), "", share_table(cost)]
    )


def _settings(request: Request) -> str:
    return "".join(f", {name.replace('_', ' ')} {value}" for name, value in request.changes().items())


def _crossovers(request: Request) -> Iterator[str]:
    for saving, words in ((0.0, "sparsification pays"), (0.5, "it saves half")):
        found = crossover(request, saving=saving)
        if found is not None:
            yield f"{words} from {found.side}×{found.side} pixels on ({found.tokens} image tokens)"


def sweep_table(rows: list[dict[str, Any]]) -> str:
    names = {"flops": "GFLOPs", "attention_products": "attention products"}
    names |= {f"dense_{name}": f"dense {title}" for name, title in names.items()} | {
        "saving_percent": "saving %"
    }
    lines = []
    for row in rows:
        whole = [value for value in row.values() if isinstance(value, int)]
        shares = [f"{value:.2f}" for value in row.values() if isinstance(value, float)]
        lines.append([whole[0], *map(giga, whole[1:]), *shares])
    head = [names.get(name, name) for name in rows[0]]
    return tabulate(lines, head, tablefmt="simple", disable_numparse=True, colalign=("right",) * len(head))


def memory_lines(cost: Cost, batch: int, head_dim: int) -> list[str]:
    fused = 4 * batch * cost.values / 2**20
    maps = 4 * batch * cost.map_values(head_dim) / 2**20
    return [
        f"activations kept for the backward pass, float32, batch {batch}: {fused:,.1f} MiB with fused attention, "
        f"{fused + maps:,.1f} MiB without",
        "    (inputs of norms, linear layers, convolutions and activation functions; queries, keys, values; without",
        "    fusion also one attention map a head; parameters, gradients and buffers of the library not included)",
    ]


def layer_table(cost: Cost) -> str:
    kinds = list(cost.by("kind"))
    lines = [
        [row["layer"], row["part"], *(f"{row[kind] / 1e6:,.2f}" if row[kind] else "" for kind in kinds),
         f"{row['total'] / 1e6:,.2f}", f"{row['share_percent']:.1f}"]
        for row in layers(cost)
    ]  # fmt: skip
    sums = cost.by("kind")
    lines.append(
        ["total", "", *(f"{sums[kind] / 1e6:,.2f}" for kind in kinds), f"{cost.total / 1e6:,.2f}", "100.0"]
    )
    head = ["MFLOPs", "part", *(kind.replace(" ", "\n") for kind in kinds), "total", "%"]
    aligned = ("left", "left", *("right",) * (len(head) - 2))
    return tabulate(lines, head, tablefmt="simple", disable_numparse=True, colalign=aligned)


def share_table(cost: Cost) -> str:
    shares = [*cost.by("kind").items(), *cost.by("part").items()]
    lines = [[name, f"{flops / 1e6:,.2f}", f"{100 * flops / cost.total:.2f}"] for name, flops in shares]
    lines.insert(len(cost.by("kind")), ["", "", ""])
    aligned = ("left", "right", "right")
    return tabulate(
        lines, ["term, then part", "MFLOPs", "%"], tablefmt="simple", disable_numparse=True, colalign=aligned
    )
