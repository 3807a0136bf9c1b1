"""The command line, ``python -m analysis.complexity``; see ``--help``."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from analysis.commands import Parser, at_least, command, new_file, write_text
from analysis.complexity import TABLE_NAMES, sweep, whatif
from analysis.complexity.whatif import BadInput, Request
from analysis.formats import FORMATS, add_arguments, emit, render

DESCRIPTION = """What token-sparsified transformers cost: every FLOPs figure of the papers, printed, in closed
form and counted; the appendix's formulas, corrected; the errata; and, with --model, the cost of any registered
model. Numbers are multiply-adds, the papers' FLOPs."""
PROGRAM = "python -m analysis.complexity"


def parser() -> Parser:
    options = Parser(prog=PROGRAM, description=DESCRIPTION)
    options.add_argument(
        "--table", choices=TABLE_NAMES, help="one table alone, printed or as --json, --csv ... (these: cells)"
    )
    options.add_argument(
        "--count",
        action=argparse.BooleanOptionalAction,
        help="build the models and count them with fvcore and torch (about 20 s; the default of --json alone)",
    )
    options.add_argument(
        "--report", action="store_true", help="write results/complexity/: tables, figures, prose"
    )
    group = options.add_argument_group("what if")
    group.add_argument("--model", metavar="NAME", help="any model of timm, or a checkpoint's folder")
    group.add_argument(
        "--method", help="sparsify the model with stvit, bat, tome, ... and count it before and after"
    )
    group.add_argument("--image-size", type=size, metavar="SIDE", help="384, or 384x512 (224)")
    group.add_argument("--tokens", type=tokens, metavar="M", help="semantic tokens: 16, or a grid 4x6")
    group.add_argument("--depth", type=int, metavar="LAYERS", help="transformer layers")
    group.add_argument("--stgm-at", type=int, metavar="LAYER", help="the first STGM layer, counted from 1")
    group.add_argument("--keep-rate", type=float, metavar="RATE", help="of EViT, BAT, DynamicViT")
    group.add_argument("--batch", type=at_least(1), metavar="IMAGES", help="images in a batch (1)")
    group.add_argument(
        "--sweep",
        nargs=2,
        metavar=("AXIS", "RANGE"),
        help=f"{', '.join(sweep.AXES)}; such as image-size 224:1024:32",
    )
    group.add_argument(
        "--out", type=new_file, metavar="FILE", help="where the sweep's figure goes (.png, .svg, .pdf)"
    )
    add_arguments(options)
    return options


def size(text: str) -> tuple[int, int]:
    sides = numbers(text)
    return sides[0], sides[-1]


def tokens(text: str) -> int | tuple[int, int]:
    sides = numbers(text)
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def numbers(text: str) -> list[int]:
    """One or two whole numbers, the latter as in 4x6."""
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) > 2 or not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor two, as in 4x6")
    return [int(part) for part in parts]


@command("analysis.complexity")
def main(argv: list[str] | None = None) -> int:
    options = parser()
    args = options.parse_args(argv)
    try:
        return dispatch(args)
    except BadInput as error:
        options.error(str(error))


def dispatch(args: argparse.Namespace) -> int:
    if args.report:
        from analysis.complexity import report

        print(f"Written: {report.write()}")
        return 0
    if args.model is not None:
        return what_if(args)
    for name in ("method", "image_size", "tokens", "depth", "stgm_at", "keep_rate", "batch", "sweep", "out"):
        if getattr(args, name) is not None:
            raise BadInput(f"--{name.replace('_', '-')} needs --model NAME")
    return tables(args)


def tables(args: argparse.Namespace) -> int:
    if args.table is None and not any(getattr(args, fmt, None) for fmt in FORMATS):
        from analysis.complexity import text

        print(text.report(bool(args.count)))
        return 0
    from analysis import complexity

    count = bool(args.json) if args.count is None else args.count
    found = complexity.compute(args.table or "cells", count)
    if not emit(found, args):
        print(render(found))
    return 0


def request_of(args: argparse.Namespace) -> Request:
    names = ("method", "image_size", "tokens", "depth", "stgm_at", "keep_rate", "batch")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return Request(args.model, **given)


def what_if(args: argparse.Namespace) -> int:
    request = request_of(args)
    whatif.check_counts(request)
    if args.out is not None and args.sweep is None:
        raise BadInput("--out is where the figure of --sweep goes; there is none without it")
    if args.sweep is not None:
        return run_sweep(args, request)
    cost = None if sparsifies(request) else whatif.closed_form(request)
    if cost is None:
        return by_counting(args, request)
    dense = whatif.dense_of(request)
    dense_cost = None if dense is None else whatif.closed_form(dense)
    if args.json:
        write_json(described(request, cost, dense_cost), args.json)
    elif not emit_rows(whatif.layers(cost), args):
        from analysis.complexity import text

        print(text.answer(request, cost, dense_cost, whatif.KNOWN[request.model].head_dim))
    return 0


def described(request: Request, cost, dense) -> dict[str, Any]:
    """A what-if answer as JSON: FLOPs of one image as whole numbers, memory in values, the layers."""
    crossing = whatif.crossover(request)
    return {
        "model": request.model,
        "image_size": request.image_size,
        **request.changes(),
        "batch": request.batch,
        "flops": cost.total,
        "batch_flops": request.batch * cost.total,
        "dense_flops": None if dense is None else dense.total,
        "saving_percent": None if dense is None else 100 * (1 - cost.total / dense.total),
        "crossover_image_size": None if crossing is None else crossing.side,
        "activation_values": cost.values,
        "attention_map_values": cost.map_values(whatif.KNOWN[request.model].head_dim),
        "terms": cost.by("kind"),
        "parts": cost.by("part"),
        "layers": whatif.layers(cost),
    }


def sparsifies(request: Request) -> bool:
    """Is a dense model with a closed form to get fewer tokens? Then it is sparsified and counted."""
    known = whatif.KNOWN.get(request.model)
    return known is not None and known.dense is None and request.tokens is not None


def by_counting(args: argparse.Namespace, request: Request) -> int:
    from analysis.complexity import own

    found, dense = own.counted(request)
    rows = own.rows(found)
    if args.json:
        answer = {"model": request.model, "image_size": request.image_size, **request.changes()}
        answer |= {
            "flops": found.total,
            "dense_flops": None if dense is None else dense.total,
            "modules": rows,
        }
        write_json(answer, args.json)
    elif not emit_rows(rows, args):
        print(own.text(request, found, dense))
    return 0


def run_sweep(args: argparse.Namespace, request: Request) -> int:
    axis, values = sweep.parse(args.sweep)
    if request.model not in whatif.KNOWN:
        from analysis.complexity import own

        own.check_registered(request.model)
        raise BadInput(
            f"{request.model} has no closed form to sweep over; ask for single sizes, to count them"
        )
    rows, left_out = sweep.rows(request, axis, values)
    for words in left_out:
        print(f"left out: {words}", file=sys.stderr)
    if not emit_rows(rows, args):
        from analysis.complexity import text

        print(text.sweep_table(rows))
    if args.out is not None:
        paths = sweep.save(sweep.plot(rows, axis, request.model), args.out)
        print(f"figure: {', '.join(map(str, paths))}", file=sys.stderr)
    return 0


def emit_rows(rows: list[dict[str, Any]], args: argparse.Namespace) -> bool:
    if not any(getattr(args, fmt, None) for fmt in FORMATS):
        return False
    from analysis.complexity import frame

    return emit(frame(rows), args)


def write_json(value: Any, target: str) -> None:
    write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", target)


if __name__ == "__main__":
    sys.exit(main())
