"""``python -m analysis.ablations``: the papers' ablations, trained for real on small scenes.

python -m analysis.ablations list             what the grid holds and how much of it is finished
python -m analysis.ablations run --jobs 2     train what has no record yet; stop and repeat as you like
python -m analysis.ablations tabulate         tables, verdicts and advice from the records
python -m analysis.ablations ship             copy the trained models that the repository ships
python -m analysis.ablations --check          derive all tables again and compare them byte for byte
python -m analysis.ablations --report         count shipped checkpoints' accuracy again; results/ablations
"""

from __future__ import annotations

import argparse

from analysis import formats
from analysis.ablations.design import SEEDS, TABLES
from analysis.commands import Parser, at_least, command, new_folder
from analysis.shared import loop, tables


def list_grid(args: argparse.Namespace) -> int:
    from analysis.ablations.tables import progress

    print(formats.render(progress(chosen(args), seeds(args))))
    return 0


def run(args: argparse.Namespace) -> int:
    from analysis.ablations.cells import plan
    from analysis.ablations.cells import run as run_cells

    run_cells(plan(chosen(args), seeds(args)), **loop.arguments_of(args))
    return 0


def tabulate(args: argparse.Namespace) -> int:
    from analysis.ablations.claims import verdicts
    from analysis.ablations.tables import tabulate as one

    for table in chosen(args):
        frame = one(table, seeds(args))
        if not formats.emit(frame.assign(table=table.name), args):
            print(f"\n{table.title}\n\n{formats.render(frame)}\n{table.note}")
    if args.table is None and not any(getattr(args, fmt) for fmt in formats.FORMATS[1:]):
        print(f"\nConclusions\n\n{formats.render(verdicts(seeds=seeds(args)))}")
    return 0


def ship(args: argparse.Namespace) -> int:
    from analysis.ablations import shipped

    if args.retest:
        for name in args.retest:
            print(f"{name}: {shipped.SHELF.rescore(name)['first']['right']:,} right answers")
    else:
        print("\n".join(shipped.ship()) or "nothing new to ship")
    return 0


def chosen(args: argparse.Namespace):
    return tables.chosen(TABLES, args.table)


def seeds(args: argparse.Namespace) -> tuple[int, ...]:
    return tuple(range(args.seeds))


@command("analysis.ablations")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m analysis.ablations",
        description=__doc__,
    )
    parser.add_argument(
        "--check", action="store_true", help="derived tables must equal those of results/ablations"
    )
    parser.add_argument("--report", action="store_true", help="write results/ablations with its record")
    parser.add_argument("--out", type=new_folder, help="folder for the report")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--table", nargs="+", metavar="NAME", help="these alone (default: all)")
    common.add_argument("--seeds", type=at_least(1), default=len(SEEDS), help=f"seeds a row ({len(SEEDS)})")
    actions = parser.add_subparsers(dest="action")
    actions.add_parser("list", parents=[common], help="the grid and its progress").set_defaults(do=list_grid)
    for name in ("run", "resume"):
        runner = actions.add_parser(name, parents=[common], help="train what has no record yet")
        loop.add_arguments(runner)
        runner.set_defaults(do=run)
    printer = actions.add_parser("tabulate", parents=[common], help="tables and verdicts from the records")
    formats.add_arguments(printer)
    printer.set_defaults(do=tabulate)
    shipper = actions.add_parser("ship", help="copy trained models to results/checkpoints")
    shipper.add_argument(
        "--retest", nargs="+", metavar="NAME", help="test these shipped models again instead"
    )
    shipper.set_defaults(do=ship)
    args = parser.parse_args(argv)
    if args.check or args.report:
        from analysis.ablations import report

        return report.check(args.out) if args.check else report.write(args.out)
    if args.action is None:
        args.table, args.seeds = None, len(SEEDS)
        return list_grid(args)
    return args.do(args)


if __name__ == "__main__":
    raise SystemExit(main())
