"""The command line, ``python -m analysis.throughput``; see ``--help``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable
from itertools import product
from typing import TYPE_CHECKING

from analysis import formats
from analysis.commands import Parser, command, new_folder
from analysis.results import output
from analysis.throughput import specs
from analysis.throughput.suites import SUITES, Suite, find
from analysis.throughput.turns import USUAL, Patience
from analysis.throughput.variants import ATTENTION, PRECISIONS, RUNTIMES, Mode

if TYPE_CHECKING:
    from analysis.throughput.measure import TimedCell

BUSY = 0.5  # load average from which on it is worth a word
PROGRAM = "python -m analysis.throughput"
DEFAULT_MODELS = (
    "swin_small_patch4_window7_224",
    "stvit_swin_small_patch4_window7_224",
    "stvit_r_swin_small_patch4_window7_224",
)
DESCRIPTION = """How fast models are, side by side, and how much of the FLOPs saving is time saved.

The first model is the base. Models take turns, A B A B, so that whatever else the machine does falls on all of
them; "ratio" is how many times as fast as the base a model is, the median over rounds of the two times of one
round, between its quartiles; "limit" is what the FLOPs alone would give, attention counted; "realised" is
(1 - time ratio) / (1 - FLOPs ratio). Several values of an option are measured one after the other, and the
batch or image size from which a method pays follows from them."""
EXAMPLES = f"""examples:
  {PROGRAM} --models deit_small_patch16_224,stvit_deit_small_patch16_224 --batch-size 32
  {PROGRAM} --models a,b:semantic_window=2 --image-size 800x1336 --dense
  {PROGRAM} --models a,b --batch-size 1,4,16 --optimize --json -
  {PROGRAM} --models a,b --profile                the time of each part beside its roofline
  {PROGRAM} --suite deit,swin                     measure and keep the records
  {PROGRAM} --report --readme                     results/throughput and README from the records, without measuring

suites:
"""


def parser() -> argparse.ArgumentParser:
    suites = "\n".join(f"  {name:<12} {suite.about}" for name, suite in SUITES.items())
    options = Parser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=EXAMPLES + suites,
    )
    what = options.add_argument_group("what to measure")
    what.add_argument("--models", help="name[:option=value …], by commas; the base first (Swin-S, STViT)")
    what.add_argument("--batch-size", type=numbers, default=[8], metavar="B[,B…]", help="in a batch (8)")
    what.add_argument(
        "--image-size", type=sizes, metavar="S[,S…]", help="224, 800x1333, 32x224x224 for video (the base's)"
    )
    what.add_argument("--train", action="store_true", help="a training step instead of inference")
    what.add_argument("--end-to-end", action="store_true", help="from JPEG files, too, through timm's loader")
    what.add_argument("--dense", action="store_true", help="as backbones of four maps (features_only)")
    what.add_argument("--profile", action="store_true", help="the time of each part beside its FLOPs instead")
    how = options.add_argument_group("how")
    how.add_argument(
        "--precision", type=words(PRECISIONS), default=["float32"], help=f"{', '.join(PRECISIONS)} (float32)"
    )
    how.add_argument("--device", type=lambda t: t.split(","), default=["cpu"], help="cpu, cuda or both (cpu)")
    how.add_argument(
        "--fused",
        type=words(ATTENTION),
        default=["on"],
        help="fused attention on, off, or default: as each model is built (on)",
    )
    how.add_argument("--compile", action="store_true", help="each model also through torch.compile")
    how.add_argument(
        "--runtimes",
        type=words(RUNTIMES),
        default=[],
        help=f"each model also exported and in {', '.join(RUNTIMES)}",
    )
    how.add_argument("--optimize", action="store_true", help="each model also through stvit.optimize")
    how.add_argument(
        "--grouped", action="store_true", help="and with timm's layers on groups of images, as stvit's are"
    )
    how.add_argument("--no-memory", action="store_true", help="leave out the peak memory of a forward")
    long = options.add_argument_group("how long")
    long.add_argument("--threads", type=positive, help="threads of torch (2)")
    long.add_argument("--rounds", type=positive, help="turns of each model (9; a suite's own)")
    long.add_argument("--warmup", type=int, help="rounds before that do not count (2)")
    long.add_argument("--seconds", type=float, help="no new round after so many seconds, once there are five")
    long.add_argument("--turn", type=float, help="a turn is as many calls as fill so many seconds (0.1)")
    long.add_argument("--workers", type=int, default=1, help="processes that decode, end to end (1)")
    kept = options.add_argument_group("records")
    kept.add_argument("--suite", type=lambda t: t.split(","), help="named runs, measured and recorded; below")
    kept.add_argument(
        "--report", action="store_true", help="write results/throughput; with --models, measure them for it"
    )
    kept.add_argument("--readme", action="store_true", help="write README's row on speed from the records")
    kept.add_argument("--name", default="custom", help="the record's name, with --models … --report (custom)")
    kept.add_argument("--out", type=new_folder, help="another folder than results/throughput")
    formats.add_arguments(options)
    return options


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def numbers(text: str) -> list[int]:
    return [positive(word) for word in text.split(",")]


def sizes(text: str) -> list[specs.InputSize]:
    return [size(word) for word in text.split(",")]


def size(text: str) -> specs.InputSize:
    sides = text.lower().split("x")
    if len(sides) > 3 or not all(side.isdecimal() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no image size: 224, or 800x1333, or 32x224x224 for video"
        )
    numbers = [int(side) for side in sides]
    return tuple(numbers * 2 if len(numbers) == 1 else numbers)


def words(choices: Iterable[str]):
    def read(text: str) -> list[str]:
        unknown = [word for word in text.split(",") if word not in choices]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"{unknown[0]!r} is unknown; choose from {', '.join(choices)}, by commas"
            )
        return text.split(",")

    return read


def patience(args: argparse.Namespace, default: Patience = USUAL) -> Patience:
    given = {name: getattr(args, name) for name in Patience._fields if getattr(args, name) is not None}
    return default._replace(**given)


def cells(args: argparse.Namespace) -> list[TimedCell]:
    """A cell for each batch, size, precision, device and task, with all modes in it."""
    from analysis.throughput.measure import TimedCell
    from analysis.throughput.variants import Workload

    models = specs.split_list(args.models) if args.models else DEFAULT_MODELS
    for spec in models:
        name, _ = specs.split(spec)
        if not name.startswith(specs.TORCHVISION):
            specs.check_known(name)
    modes = [Mode(fused, c, o, g) for g, o, c, fused in product(*switches(args), args.fused)]
    modes += [Mode(runtime=runtime) for runtime in args.runtimes]
    tasks = ["training step"] if args.train else ["inference", "end to end"][: 1 + args.end_to_end]
    shapes = args.image_size or [specs.default_size(models)]
    return [
        TimedCell(models, Workload(shape, batch, precision, device, task, args.dense), tuple(modes))
        for device, precision, task, shape, batch in product(
            args.device, args.precision, tasks, shapes, args.batch_size
        )
    ]


def switches(args: argparse.Namespace) -> list[list[bool]]:
    """Without and, where asked for, with ``grouped``, ``optimize`` and ``compile``."""
    return [[False, True][: 1 + asked] for asked in (args.grouped, args.optimize, args.compile)]


@command("analysis.throughput")
def main(argv: list[str] | None = None) -> int:
    options = parser()
    args = options.parse_args(argv)
    try:
        if args.suite:
            run_suites(args, argv)
        elif args.report:
            write_report(args, argv)
        elif not args.readme:
            show(args)
        if args.readme:
            from analysis.throughput import readme

            print(readme.write(args.out or readme.report.FOLDER))
    except (ValueError, AssertionError) as error:
        options.error(str(error))
    return 0


def run_suites(args: argparse.Namespace, argv: list[str] | None) -> None:
    for name in args.suite:
        find(name)  # all are known before the first is measured
    for name in args.suite:
        keep(name, find(name), args, argv)


def warn_if_busy() -> None:
    from analysis.throughput.measure import machine_load

    load = machine_load()
    if load is not None and load > BUSY:
        print(
            f"load average {load:.1f}: others are at work, and the numbers will not be this machine's best",
            file=sys.stderr,
        )


def write_report(args: argparse.Namespace, argv: list[str] | None) -> None:
    if args.models is not None:
        asked = cells(args)
        about = f"{', '.join(asked[0].models)}, as asked for"
        keep(args.name, Suite(about, tuple(asked), USUAL, tuple(asked[:1])), args, argv)
    else:
        from analysis.throughput.report import FOLDER, derive

        derive(args.out or FOLDER, args.out or output("throughput"))


def keep(name: str, suite: Suite, args: argparse.Namespace, argv: list[str] | None) -> None:
    """Measure, write the record, and derive the section again."""
    from analysis.throughput import report
    from analysis.throughput.alike import beside_alike
    from analysis.throughput.printed import beside

    folder = args.out or output("throughput")
    suite = suite._replace(patience=patience(args, suite.patience))
    warn_if_busy()
    print(f"{name}: {suite.about} ...", flush=True)
    path = report.record(name, suite, command_line(argv), args.threads or 2, args.workers, folder)
    rows = beside(beside_alike(report.read(folder, name).to_dict("records")))
    print(f"{name}: {path}\n{formats.render(report.compact(rows))}\n")
    report.derive(folder)


def command_line(argv: list[str] | None) -> str:
    """What was called, but for the folder that it was to write to."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "--out" in words:
        start = words.index("--out")
        del words[start : start + 2]
    return f"{PROGRAM} {shlex.join(words)}"


def show(args: argparse.Namespace) -> None:
    """Measure and print, or write in the formats asked for; nothing is recorded."""
    asked, threads = cells(args), args.threads or 2
    warn_if_busy()
    if args.profile:
        import pandas as pd

        from analysis.throughput.roofline import profile

        frame = pd.concat([profile(cell, patience(args), threads) for cell in asked], ignore_index=True)
        if not formats.emit(frame, args):
            print(formats.render(frame))
        return
    from analysis.throughput.alike import beside_alike
    from analysis.throughput.measure import measure
    from analysis.throughput.printed import beside

    choices = dict(workers=args.workers, track_memory=not args.no_memory)
    found = measure(asked, patience(args), threads, **choices)
    found = found._replace(rows=beside(beside_alike(found.rows)))
    for note in found.notes:
        print(note, file=sys.stderr)
    if not formats.emit(found.frame, args):
        print_all(found.rows)


def print_all(rows: list[dict]) -> None:
    from analysis.throughput.breakeven import break_even
    from analysis.throughput.report import compact

    print(formats.render(compact(rows)))
    points = break_even(rows)
    if len(points):
        print(f"\nFrom where on each method is faster:\n\n{formats.render(points)}")
    load = "" if rows[-1]["load"] is None else f", load average {rows[-1]['load']:.1f}"
    print(f"\n{rows[0]['rounds']} rounds, {rows[0]['threads']} threads{load}")


if __name__ == "__main__":
    raise SystemExit(main())
