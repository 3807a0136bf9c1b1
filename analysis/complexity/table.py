"""The table of printed cells: printed, by closed form, counted, with the reading and the residual."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from typing import Any

from analysis.shared.flops.readings import PrintedCell, Reading, cells, readings, rounded

FIELDS = (
    "paper",
    "table",
    "model",
    "setting",
    "printed",
    "closed_form",
    "counted",
    "residual_percent",
    "verdict",
    "reading",
    "closed_form_flops",
    "counted_flops",
    "torch_flops",
    "closed_form_reduction_flops",
    "counted_reduction_flops",
    "reason",
    "printed_text",
)
NOT_ASKED = "not counted: ask with --count"
NOT_MODELLED = "quoted from another paper; no such model in this toolkit"


def rows(count: bool = False) -> list[dict[str, Any]]:
    """A row for each cell with FIELDS; numbers without ``_flops`` in the name are in G (10⁹ multiply-adds).

    ``reason`` says why a cell was not counted. ``torch_flops`` is the total of torch's FlopCounterMode ÷ 2,
    which leaves out all norms. What token reductions (EViT, BAT, DynamicViT) spend themselves is not part of
    the papers' figures: it stands in the columns named so.
    """
    known = readings()
    counter = _counter(known) if count else None
    return [_row(cell, known.get(cell[:4]), counter) for cell in cells()]


def _counter(known: dict[tuple[str, ...], Reading]):
    from analysis.shared.counting import Registry

    return Registry(reading.build for reading in known.values() if reading.build is not None)


def _row(cell: PrintedCell, reading: Reading | None, counter) -> dict[str, Any]:
    row = dict.fromkeys(FIELDS)
    row |= {"paper": cell.paper, "table": cell.table, "model": cell.model, "setting": cell.setting}
    row |= {"printed": float(cell.printed), "printed_text": cell.printed}
    if reading is None:
        return row | {"verdict": "not modelled", "reading": NOT_MODELLED, "reason": NOT_MODELLED}
    total, apart = reading.flops()
    row |= {
        "closed_form": total / 1e9,
        "closed_form_flops": total,
        "closed_form_reduction_flops": apart or None,
        "residual_percent": 100 * (total / 1e9 / row["printed"] - 1),
        "verdict": verdict(cell, reading, total),
        "reading": reading.text,
    }
    return row | _counted(reading, counter)


def verdict(cell: PrintedCell, reading: Reading, total: int) -> str:
    if Decimal(rounded(total, cell.printed, reading.rounding)) == Decimal(cell.printed):
        return "reproduced, digits cut off" if reading.rounding == ROUND_DOWN else "reproduced"
    return "not reproduced"


def _counted(reading: Reading, counter) -> dict[str, Any]:
    if reading.build is None:
        return {"reason": reading.uncounted}
    if counter is None:
        return {"reason": NOT_ASKED}
    found = counter.count(reading.build)
    if isinstance(found, str):
        return {"reason": found}
    apart = found.reductions()
    return {
        "counted": (found.total - apart) / 1e9,
        "counted_flops": found.total - apart,
        "torch_flops": found.torch_total,
        "counted_reduction_flops": apart or None,
    }
