"""``python -m analysis.offtheshelf``: every reduction in a trained model, without training it again.

python -m analysis.offtheshelf --model dinov2_small --crops 100 --methods bat evit topk
python -m analysis.offtheshelf --model vit_small_patch16_224 --folder holiday --size 224
python -m analysis.offtheshelf --probe --size 98 --methods bat evit topk tome random --rates .5 .7
python -m analysis.offtheshelf --report     results/offtheshelf, from the cells that are shipped
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from analysis import formats
from analysis.commands import Parser, at_least, command
from analysis.offtheshelf.settings import RATES

SHOWN_COLUMNS = (
    "method", "setting", "tokens", "share", "times_as_fast", "cosine", "cosine_low", "cosine_high", "retrieved",
    "correlation", "iou", "front", "linear", "linear_low", "linear_high", "linear_lost", "knn", "knn_lost",
)  # fmt: skip


def measured(args: argparse.Namespace):
    """Measure what is missing, in the order of the rates, so that a run that is stopped has something to show."""
    import torch

    import stvit
    from analysis.crops import cut
    from analysis.offtheshelf import cells, settings
    from analysis.shared.loop import finish
    from analysis.shared.models import open_pretrained
    from stvit.data.photographs import LEAST, in_folder, installed, shipped

    torch.set_num_threads(args.threads)
    subject = open_pretrained(args.model, args.size)
    head = stvit.saliency_head() if args.model == "dinov2_small" else None
    if args.folder:
        photographs = in_folder(args.folder, min(LEAST, args.size))
    else:
        photographs = installed() if args.debian else shipped()
    crops = cut(photographs, args.crops, args.size, args.seed)
    folder = args.cells or cells.OWN
    study = cells.begin(subject, head, crops, folder, args.seed, args.size)
    plan, notes = settings.plan(subject.model, study.cost, args.methods, tuple(args.rates))
    plan = sorted(plan, key=lambda one: args.rates.index(one.rate) if one.rate else len(args.rates))
    finish(plan, partial(cells.read, study), partial(cells.measured, study), after=report_progress)
    print(*notes, sep="\n", file=sys.stderr)
    wanted = {one.key for one in plan}
    found = next(one for one in cells.studies(folder) if one["address"] == study.folder.name)
    kept = [cell for cell in found["cells"] if key_of(cell) in wanted]
    return {**found, "cells": kept}


def probed(args: argparse.Namespace):
    """Labelled images by the dense model's own probes; what an earlier run has kept is read."""
    import torch

    from analysis.offtheshelf import cells, probes, settings
    from analysis.shared.loop import finish
    from analysis.shared.models import open_pretrained

    torch.set_num_threads(args.threads)
    subject = open_pretrained(args.model, args.size)
    folder = args.cells or probes.OWN
    asked = probes.begin(subject, args.probe, args.size, args.train_images, args.test_images, folder)
    plan, notes = settings.plan(subject.model, asked.cost, args.methods, tuple(args.rates))
    plan = sorted(plan, key=lambda one: args.rates.index(one.rate) if one.rate else len(args.rates))
    finish([None, *plan], partial(probes.read, asked), partial(probes.measured, asked))
    print(*notes, sep="\n", file=sys.stderr)
    return next(one for one in cells.studies(folder) if one["address"] == asked.folder.name)


def report_progress(setting, cell: dict) -> None:
    from tqdm import tqdm

    tqdm.write(f"{setting.key}: {cell['time']['times_as_fast']:.2f} times as fast", file=sys.stderr)


def key_of(cell: dict) -> str:
    from analysis.offtheshelf.settings import Setting

    return Setting(cell["row"], cell["method"], cell["rate"], cell["choices"]).key


@command("analysis.offtheshelf")
def main(argv: list[str] | None = None) -> int:
    from analysis.offtheshelf import probes, tables

    parser = Parser(
        prog="python -m analysis.offtheshelf",
        description=__doc__,
    )
    parser.add_argument("--model", default="dinov2_small", help="a name that stvit.pretrained knows")
    parser.add_argument(
        "--folder", type=Path, help="photographs of your own (default: those that packages ship)"
    )
    parser.add_argument("--debian", action="store_true", help="with the photographs of Debian's packages")
    parser.add_argument("--size", type=at_least(14), default=126, help="pixels of a crop's side (126)")
    parser.add_argument("--crops", type=at_least(2), default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="+", default=[], metavar="METHOD", help="default: all")
    parser.add_argument("--rates", nargs="+", type=float, default=list(RATES), metavar="RATE")
    parser.add_argument("--threads", type=at_least(1), default=1)
    parser.add_argument("--cells", type=Path, help="folder that keeps what is measured")
    parser.add_argument(
        "--probe",
        nargs="?",
        const="fashion_mnist",
        metavar="DATA",
        help="labelled images instead, by the dense model's linear and k-NN probes (fashion_mnist)",
    )
    parser.add_argument(
        "--train-images", type=at_least(1), default=2000, help="that --probe is fitted on (2000)"
    )
    parser.add_argument(
        "--test-images", type=at_least(1), default=1000, help="that --probe is asked about (1000)"
    )
    parser.add_argument(
        "--report", action="store_true", help="write results/offtheshelf from the shipped cells"
    )
    parser.add_argument("--out", type=Path, help="folder for the report")
    formats.add_arguments(parser)
    args = parser.parse_args(argv)
    if args.report:
        from analysis.offtheshelf import report

        frame = report.write(args.out)
        if frame.empty:
            print(report.LACKING)
            return 0
    else:
        frame = probes.table(probed(args)) if args.probe else tables.table(measured(args))
    if not formats.emit(frame, args):
        print(formats.render(frame[[name for name in SHOWN_COLUMNS if name in frame]], digits=3))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
