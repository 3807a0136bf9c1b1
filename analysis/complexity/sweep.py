"""How cost grows with the image, the number of semantic tokens, the depth or the STGM's place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.complexity.whatif import BadInput, Request, closed_form, dense_of
from analysis.shared.flops.formulas import Cost

AXES = {
    "image-size": "image side (pixels)",
    "tokens": "semantic tokens M",
    "depth": "layers",
    "stgm-at": "first STGM layer",
}


def parse(words: list[str]) -> tuple[str, range]:
    """``image-size 224:1024:32`` → the axis and its values, the last one included."""
    if len(words) != 2 or words[0] not in AXES:
        raise BadInput(
            f"--sweep is an axis ({', '.join(AXES)}) and a range such as 224:1024:32, not {' '.join(words)!r}"
        )
    try:
        start, stop, step = (int(word) for word in words[1].split(":"))
    except ValueError:
        raise BadInput(
            f"a range is START:STOP:STEP in integers, such as 224:1024:32, not {words[1]!r}"
        ) from None
    if step < 1 or stop < start or start < 1:
        raise BadInput(f"a range goes upwards from at least 1 in steps of at least 1, not {words[1]!r}")
    return words[0], range(start, stop + 1, step)


def at(request: Request, axis: str, value: int) -> Request:
    if axis == "image-size":
        return replace(request, image_size=(value, value))
    return replace(request, **{axis.replace("-", "_"): value})


def rows(request: Request, axis: str, values: range) -> tuple[list[dict[str, Any]], list[str]]:
    """A row for each value, and what was left out, in words; costs are FLOPs of one batch."""
    found, left_out = [], []
    for value in values:
        point = at(request, axis, value)
        try:
            cost = closed_form(point)
        except BadInput as error:
            left_out.append(f"{axis} {value}: {error}")
            continue
        if cost is None:
            raise BadInput(
                f"no closed form of {request.model} covers {axis} {value}; ask for it alone, to count it"
            )
        dense = dense_of(point)
        found.append(
            {axis: value, **_costs(cost, None if dense is None else closed_form(dense), request.batch)}
        )
    if not found:
        raise BadInput(left_out[0])
    return found, left_out


def _costs(cost: Cost, dense: Cost | None, batch: int) -> dict[str, Any]:
    products = "attention products"
    row = {"flops": batch * cost.total, "attention_products": batch * cost.by("kind").get(products, 0)}
    if dense is not None:
        row["dense_flops"] = batch * dense.total
        row["dense_attention_products"] = batch * dense.by("kind").get(products, 0)
        row["saving_percent"] = 100 * (1 - cost.total / dense.total)
    return row


def plot(table: list[dict[str, Any]], axis: str, model: str):
    """Totals as lines, the attention products within them, which are quadratic, as areas."""
    from analysis import style

    method = "stvit_r" if model.startswith("stvit_r") else model.split("_")[0]
    ours = style.METHOD.get(method, style.BLUE)
    with style.house_style():
        fig, ax = style.figure(style.PAGE * 0.72, 3.0)
        x = [row[axis] for row in table]
        if "dense_flops" in table[0]:
            curve(ax, x, table, "dense_", "dense", style.METHOD["dense"])
        curve(ax, x, table, "", model, ours)
        ax.set(xlabel=AXES[axis], ylabel="GFLOPs (multiply-adds)", xlim=(x[0], x[-1]) if len(x) > 1 else None)
        ax.set_ylim(bottom=0)
        ax.legend(loc="upper left")
    return fig


def curve(ax, x: list[int], table: list[dict[str, Any]], prefix: str, name: str, colour: str) -> None:
    products = [row[f"{prefix}attention_products"] / 1e9 for row in table]
    ax.plot(x, [row[f"{prefix}flops"] / 1e9 for row in table], color=colour, label=name)
    ax.plot(
        x, products, color=colour, linestyle="--", linewidth=1.0, label=f"{name}: attention products alone"
    )
    ax.fill_between(x, products, color=colour, alpha=0.12, linewidth=0)


def save(fig, out: str) -> list[Path]:
    """To ``out`` in the format of its suffix, or as .svg and .png without one."""
    from analysis import style

    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.suffix:
        return style.save(fig, path)
    import matplotlib.pyplot as plt

    kinds = fig.canvas.get_supported_filetypes()
    if path.suffix[1:] not in kinds:
        raise BadInput(f"cannot write {path.suffix!r} figures; choose one of {', '.join(sorted(kinds))}")
    with style.house_style():
        fig.savefig(path, dpi=200)
    plt.close(fig)
    return [path]
