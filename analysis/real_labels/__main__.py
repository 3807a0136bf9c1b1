"""``python -m analysis.real_labels``: the papers' classification tables on Fashion-MNIST, trained from scratch.

python -m analysis.real_labels list              the grid and how much of it is finished
python -m analysis.real_labels run               train what has no record yet; stop and repeat as you like
python -m analysis.real_labels run --rows dense "4 tokens" --seeds 3
python -m analysis.real_labels run --device auto --jobs 8      on a GPU, several cells at a time
python -m analysis.real_labels run --training epochs=20 --cells runs/longer/cells      a budget of your own
python -m analysis.real_labels tabulate          tables and verdicts from the records, also as CSV, JSON or LaTeX
python -m analysis.real_labels pilot epochs=1 lr=0.02          how the recipe was chosen: the dense model alone
python -m analysis.real_labels --report          tables and figure in results/real_labels, from the records

60,000 training and 10,000 test images of 28 × 28 pixels (Xiao et al. 2017, MIT licence), found where
``--data fashion_mnist`` of stvit.train finds them; on Debian: apt-get install dataset-fashion-mnist. A cell is a
row's model from one seed; it takes some minutes of one core and is one file in results/real_labels/cells.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis import formats
from analysis.commands import Parser, at_least, command, new_folder
from analysis.real_labels.cells import CELLS, SCRATCH
from analysis.real_labels.design import SEEDS, TABLES
from analysis.shared import loop, tables


def list_grid(args: argparse.Namespace) -> int:
    from analysis.real_labels.tables import progress

    print(formats.render(progress(chosen(args), seeds(args), args.cells)))
    return 0


def run(args: argparse.Namespace) -> int:
    from analysis.real_labels.cells import plan
    from analysis.real_labels.cells import run as run_cells
    from stvit.training.config import pairs

    cells = plan(chosen(args), seeds(args))
    if args.rows:
        cells = named(cells, args.rows, chosen(args))
    if args.training:
        cells = [cell.trained_otherwise(pairs(args.training)) for cell in cells]
    scratch = SCRATCH if args.cells == CELLS else args.cells.parent / "cache" / "real_labels"
    run_cells(cells, args.cells, scratch, args.device, **loop.arguments_of(args))
    return 0


def named(cells: list, names: list[str], tables) -> list:
    """Those cells that are a row of one of these names, in whichever table."""
    from analysis.real_labels.cells import RealLabelCell

    rows = [row for table in tables for row in table.rows]
    unknown = [name for name in names if name not in {row.name for row in rows}]
    if unknown:
        known = "; ".join(dict.fromkeys(row.name for row in rows))
        raise ValueError(f"unknown row {unknown[0]!r}; choose from {known}")
    wanted = {RealLabelCell(row, cell.seed).address for row in rows if row.name in names for cell in cells}
    return [cell for cell in cells if cell.address in wanted]


def chosen(args: argparse.Namespace):
    return tables.chosen(TABLES, args.table)


def seeds(args: argparse.Namespace) -> tuple[int, ...]:
    return tuple(range(args.seeds))


def tabulate(args: argparse.Namespace) -> int:
    from analysis.real_labels.tables import tabulate as one
    from analysis.real_labels.verdicts import verdicts

    for table in chosen(args):
        frame = one(table, seeds(args), args.cells)
        if not formats.emit(frame.assign(table=table.name), args):
            print(f"\n{table.title}\n\n{formats.render(frame)}\n{table.note}")
    if args.table is None and not any(getattr(args, fmt) for fmt in formats.FORMATS[1:]):
        print(f"\nConclusions\n\n{formats.render(verdicts(seeds=seeds(args), folder=args.cells))}")
    return 0


def pilot(args: argparse.Namespace) -> int:
    from analysis.real_labels.pilot import run as run_pilot
    from stvit.training.config import pairs

    scores = run_pilot(pairs(args.changes), args.seed)
    print(f"top-1 {scores['top1']:.2f} ± {scores['top1_half']:.2f} % of held-out training images")
    return 0


@command("analysis.real_labels")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m analysis.real_labels",
        description=__doc__,
    )
    parser.add_argument("--report", action="store_true", help="write results/real_labels with its record")
    parser.add_argument("--out", type=new_folder, help="folder for the report")
    parser.add_argument(
        "--cells", type=Path, default=CELLS, help="folder of the records (results/real_labels/cells)"
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--cells", type=Path, default=argparse.SUPPRESS, help="folder of the records")
    common.add_argument("--table", nargs="+", metavar="NAME", help="these alone (default: all)")
    common.add_argument("--seeds", type=at_least(1), default=len(SEEDS), help=f"seeds a row ({len(SEEDS)})")
    actions = parser.add_subparsers(dest="action")
    actions.add_parser("list", parents=[common], help="the grid and its progress").set_defaults(do=list_grid)
    runner = actions.add_parser("run", parents=[common], help="train what has no record yet")
    runner.add_argument("--rows", nargs="+", metavar="ROW", help="these alone, by their names in the tables")
    runner.add_argument(
        "--training",
        nargs="+",
        metavar="NAME=VALUE",
        help="another budget, as epochs=20: other cells than the grid's",
    )
    runner.add_argument(
        "--device", choices=("cpu", "auto"), default="cpu", help="auto takes a GPU where there is one (cpu)"
    )
    loop.add_arguments(runner)
    runner.set_defaults(do=run)
    trial = actions.add_parser(
        "pilot", help="the dense model with another recipe, on held-out training images"
    )
    trial.add_argument("changes", nargs="*", metavar="NAME=VALUE", help="options of stvit.train, as lr=0.02")
    trial.add_argument("--seed", type=at_least(0), default=100, help="one that the grid does not use (100)")
    trial.set_defaults(do=pilot)
    printer = actions.add_parser("tabulate", parents=[common], help="tables and verdicts from the records")
    formats.add_arguments(printer)
    printer.set_defaults(do=tabulate)
    args = parser.parse_args(argv)
    if args.report:
        from analysis.real_labels import report

        return report.write(args.out, args.cells)
    if args.action is None:
        args.table, args.seeds = None, len(SEEDS)
        return list_grid(args)
    return args.do(args)


if __name__ == "__main__":
    raise SystemExit(main())
