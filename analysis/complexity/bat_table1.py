"""BAT's Table 1, a row a method: printed FLOPs, the count of the models here, and what the public program runs.

Rows that the papers quote are counted at the setting that a method's program or paper names; where an image's own
tokens decide, and with them trained weights, the count is the bound that no image exceeds, and says so.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from analysis.complexity.rival_figures import figures
from analysis.shared.flops.closed_adaptive import adaptive_vit
from analysis.shared.flops.closed_reduced import PART
from analysis.shared.flops.formulas import Cost
from analysis.shared.flops.readings import WIDTH, cells, readings, rounded

BOUND = "bound: how many tokens leave depends on trained weights"


class QuotedSetting(NamedTuple):
    method: str
    words: str
    choices: dict[str, Any]

    def cost(self, width: int) -> Cost:
        return adaptive_vit(width, self.method, **self.choices)


QUOTED: dict[str, QuotedSetting] = {
    "Evo-ViT": QuotedSetting("evovit", "ratio 0.5 from layer 5 on, its program's default", {}),
    "PS-ViT": QuotedSetting(
        "psvit", "places spread evenly, 0.7 · 0.7 · 0.7 over the depth: the paper's are not public", {}
    ),
    "IA-RED2": QuotedSetting("iared2", BOUND, {}),
    "A-ViT": QuotedSetting("avit", BOUND, {}),
    "SPViT": QuotedSetting(
        "spvit", "trained rates of its program's script: 0.617, 0.369, 0.137", dict(left=(120, 72, 26))
    ),
    "SViTE": QuotedSetting(
        "svite", "95 % of the tokens; its weights' sparsity is not counted", dict(keep_rate=0.95)
    ),
}


def rows() -> list[dict[str, Any]]:
    known, runs = readings(), {figure.method: figure for figure in figures()}
    found = []
    for cell in cells():
        if (cell.paper, cell.table) != ("BAT", "1"):
            continue
        name, _, size = cell.model.rpartition("-DeiT-")
        reading, quoted = known.get(cell[:4]), QUOTED.get(name)
        if reading is not None:
            total, apart = reading.flops()
            words = cell.setting
        else:
            cost = quoted.cost(WIDTH[size])
            apart = cost.by("part").get(PART, 0)
            total, words = cost.total - apart, quoted.words
        digits = {rounded(flops, cell.printed) for flops in (total, total + apart)}
        run = runs.get(quoted.method) if quoted and size == "S" else None
        found.append(
            {
                "model": cell.model,
                "setting": words,
                "printed": float(cell.printed),
                "counted": total / 1e9,
                "reduction": apart / 1e9,
                "digit_reproduced": cell.printed in digits,
                "program_runs": run.printed if run else None,
                "leaves_out": run.leaves_out if run else "",
            }
        )
    return found
