"""``python -m analysis.dense``: detection and segmentation with STViT-R, trained on scenes.

python -m analysis.dense list                          the cells and how many of them are finished
python -m analysis.dense run --task segmentation       train what has no record yet; stop and repeat as you like
python -m analysis.dense tabulate                      tables and verdicts from the records
python -m analysis.dense ship                          copy the trained models that the repository ships
python -m analysis.dense step --task segment --size 800 1333     one step of a whole model, and its memory
python -m analysis.dense --report                      results/dense from the records and shipped models
"""

from __future__ import annotations

import argparse

from analysis import formats
from analysis.commands import Parser, at_least, command, new_folder
from analysis.shared import loop

TASKS = ("segmentation", "detection")


def list_cells(args: argparse.Namespace) -> int:
    from analysis.dense.tables import progress

    print(formats.render(progress()))
    return 0


def run(args: argparse.Namespace) -> int:
    from analysis.dense.cells import run as run_cells
    from analysis.dense.tables import SECTIONS

    for section in SECTIONS:
        if section.task in args.task:
            run_cells(section.plan(seeds=tuple(range(args.seeds))), **loop.arguments_of(args))
    return 0


def tabulate(args: argparse.Namespace) -> int:
    from analysis.dense.report import derived

    for name, (frame, caption) in derived().items():
        print(f"\n{name}\n\n{formats.render(frame)}\n{caption}")
    return 0


def ship(args: argparse.Namespace) -> int:
    from analysis.dense import shipped

    print("\n".join(shipped.ship()) or "nothing new to ship")
    return 0


def step(args: argparse.Namespace) -> int:
    from analysis.dense import step as module

    record = module.write(args.task, tuple(args.size), args.device)
    missing = record["without_gradient"]
    print(
        f"{args.task} at {args.size[0]} × {args.size[1]}: loss {record['loss']}, "
        f"{len(missing)} of {record['parameters']:,} parameters' tensors without gradient, "
        f"{record['memory_gib']} GiB at most, {record['seconds']} s"
    )
    return 1 if missing else 0


@command("analysis.dense")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m analysis.dense",
        description=__doc__,
    )
    parser.add_argument("--report", action="store_true", help="write results/dense with its record")
    parser.add_argument("--out", type=new_folder, help="folder for the report")
    actions = parser.add_subparsers(dest="action")
    actions.add_parser("list", help="the cells and their progress").set_defaults(do=list_cells)
    runner = actions.add_parser("run", help="train what has no record yet")
    runner.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS), help="these alone (both)")
    runner.add_argument("--seeds", type=at_least(1), default=3, help="seeds a row (3)")
    loop.add_arguments(runner)
    runner.set_defaults(do=run)
    actions.add_parser("tabulate", help="tables and verdicts from the records").set_defaults(do=tabulate)
    actions.add_parser("ship", help="copy trained models to results/dense/checkpoints").set_defaults(do=ship)
    stepper = actions.add_parser("step", help="forward, loss and backward of a whole model on one image")
    stepper.add_argument("--task", choices=("segment", "detect"), default="segment")
    stepper.add_argument(
        "--size", nargs=2, type=at_least(1), default=[512, 512], metavar=("H", "W"), help="(512 512)"
    )
    stepper.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    stepper.set_defaults(do=step)
    args = parser.parse_args(argv)
    if args.report:
        from analysis.dense import report

        return report.write(args.out)
    return list_cells(args) if args.action is None else args.do(args)


if __name__ == "__main__":
    raise SystemExit(main())
