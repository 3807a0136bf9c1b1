"""Speed-ups against a dense model with the same short cuts: what sparsity alone gives.

stvit's models run their layers on groups of images (``stvit.fast.groups``), which timm's do not, and anybody's weights
can be packed. A dense model that has both is the fair one to compare with, beside the one that users have.
"""

from __future__ import annotations

from analysis.throughput.variants import ALIKE

WORKLOAD = ("task", "batch_size", "image_size", "precision", "device", "four_maps")


def beside_alike(rows: list[dict]) -> list[dict]:
    """Rows with ``ratio_alike``: against the dense model in ``ALIKE`` at the same workload; None where it is not timed.

    Both speeds are known against the first row, round by round, so that a busy minute falls on neither alone. In a
    graph (compiled, or in another runtime) no model runs in groups, and the ratio is the one to its own base.
    """
    alike = {
        (base_of(row), *workload(row)): row["ratio_to_first"]
        for row in rows
        if row["mode"] == str(ALIKE) and row["model"] == base_of(row)
    }
    found = []
    for row in rows:
        fair = alike.get((base_of(row), *workload(row)))
        if row["mode"] in ("eager", str(ALIKE)):
            ratio = None if fair is None else row["ratio_to_first"] / fair
        else:
            ratio = row["ratio"]
        found.append({**row, "ratio_alike": ratio})
    return found


def base_of(row: dict) -> str:
    """The model that a row is compared with."""
    return row["against"].split(", ")[0]


def workload(row: dict) -> tuple:
    return tuple(row[name] for name in WORKLOAD)
