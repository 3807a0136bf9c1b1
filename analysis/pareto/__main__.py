"""``python -m analysis.pareto``: which token reduction pays in your model, on your images, on your machine.

python -m analysis.pareto --model dinov2_small --data holiday-photos
python -m analysis.pareto --model vit_small_patch16_224 --data photos --batch 32 --loss 0.02
python -m analysis.pareto --model runs/mine/model --data photos --methods bat evit tome random --device cuda
python -m analysis.pareto --data photos --methods stvit dynamicvit bat --tune distill --tune-crops 4000

All methods run over a sweep of keep rates: as they are, or each trained first, without labels (--tune distill).
Quality is how well the reduced model agrees with the dense one; FLOPs are those of products and convolutions; speed
and memory are measured in turns with the dense model. What is measured is kept: a sweep that is stopped, or that
--minutes ended, continues where it was.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from analysis import formats
from analysis.commands import Parser, at_least, command, new_folder
from analysis.pareto.choice import QUALITIES
from analysis.pareto.sweep import OWN, RATES, SweepRequest
from analysis.pareto.tuned import TuningBudget

SHOWN_COLUMNS = ("method", "setting", "times_as_fast", "share", "memory_share", "tokens")


def write(out: Path, frame, quality: str, sentence: str, found, request: SweepRequest) -> None:
    """The table, the figure and the page, with their record."""
    from dataclasses import asdict

    from analysis.pareto import pictures
    from analysis.results import Report

    config = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(request).items()}
    config |= {"tune": None if request.tune is None else request.tune._asdict()}
    config |= {"weights": found.study["weights"], "images": found.study["photographs"], "quality": quality}
    with Report("pareto", f"Which method pays: {found.where}", "python -m analysis.pareto", config, request.seed,
                out=out, device=request.device) as report:  # fmt: skip
        report.prose(sentence)
        report.table("table", frame, f"Faster settings first. Quality: {QUALITIES[quality]}.", digits=3)
        report.figure("pareto", pictures.pareto(frame, quality),
                      f"{QUALITIES[quality]} against time and FLOPs; rings: no other setting is better in both.",
                      alt="Curves of methods: quality over time and over FLOPs")  # fmt: skip
        for note in found.notes:
            report.prose(note)
    pictures.write_page(out / "pareto.html", frame, quality, sentence, found.where)


@command("analysis.pareto")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m analysis.pareto", description=__doc__)
    names = "a name that stvit.pretrained knows (timm's among them), or a checkpoint's folder"
    parser.add_argument("--model", default="dinov2_small", help=names)
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="images (default: photographs of packages)"
    )
    parser.add_argument("--size", type=at_least(14), help="pixels of a crop's side (the model's own)")
    parser.add_argument("--crops", type=at_least(2), default=200, help="crops to look at (200)")
    parser.add_argument("--rates", nargs="+", type=float, default=list(RATES), metavar="RATE",
                        help=f"keep rates ({' '.join(map(str, RATES))})")  # fmt: skip
    parser.add_argument("--methods", nargs="+", default=[], metavar="METHOD", help="default: all")
    parser.add_argument("--batch", type=at_least(1), default=8, help="images a batch when timed (8)")
    parser.add_argument("--device", default="cpu", help="where speed and memory are measured (cpu)")
    cores = os.cpu_count() or 1
    parser.add_argument("--threads", type=at_least(1), default=cores, help=f"of the processor (all {cores})")
    parser.add_argument(
        "--minutes", type=float, default=0, help="begin no other setting after so many; 0: measure all"
    )
    parser.add_argument(
        "--quality", choices=tuple(QUALITIES), help="default: answers, else the class feature"
    )
    parser.add_argument("--loss", type=float, default=0.01, help="the most that may be lost of it (0.01)")
    tune = "train every setting on four of five images to give what the dense model gives, and measure on the others"
    parser.add_argument("--tune", choices=("distill",), help=tune)
    parser.add_argument(
        "--tune-crops", type=at_least(2), default=2000, help="crops that it learns from (2000)"
    )
    parser.add_argument("--tune-passes", type=at_least(1), default=2, help="passes over them (2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--kept", type=Path, default=OWN, metavar="FOLDER", help="what earlier sweeps measured"
    )
    parser.add_argument(
        "--out", type=new_folder, default=Path("pareto"), help="folder of table, figure, page (pareto)"
    )
    formats.add_arguments(parser)
    args = parser.parse_args(argv)
    if not 0 <= args.loss < 1:
        raise ValueError(f"--loss must be from 0 to below 1, not {args.loss}")
    if not args.minutes >= 0:
        raise ValueError(f"--minutes must be 0 or more, not {args.minutes}")
    return swept(args)


def swept(args: argparse.Namespace) -> int:
    from analysis.pareto import choice, sweep

    request = SweepRequest(
        args.model, args.data, args.size, args.crops, tuple(args.rates), tuple(args.methods), args.batch, args.device,
        args.threads, args.seed, args.kept, TuningBudget(args.tune_crops, args.tune_passes) if args.tune else None,
        args.minutes,
    )  # fmt: skip
    found = sweep.run(request)
    quality = choice.quality_of(found.rows, args.quality)
    frame = choice.judged(found.rows, quality)
    sentence = choice.recommendation(frame, quality, args.loss, found.where)
    print(*found.notes, sep="\n", file=sys.stderr)
    write(args.out, frame, quality, sentence, found, request)
    if not formats.emit(frame, args):
        columns = [*SHOWN_COLUMNS, quality, f"{quality}_low", f"{quality}_high", "front_time", "front_flops"]
        print(formats.render(frame[columns], digits=3))
        print(f"\n{sentence}\n\nWritten: {args.out / 'pareto.html'}, pareto.png, table.csv")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
