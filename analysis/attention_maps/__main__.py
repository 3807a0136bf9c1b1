"""``python -m analysis.attention_maps``: what a model's tokens look at, on any image.

python -m analysis.attention_maps --image holiday.jpg --checkpoint runs/my-stvit --out pictures
python -m analysis.attention_maps --image scene:7 --head 2 --out pictures
python -m analysis.attention_maps             the captions of the paper's figures in numbers
python -m analysis.attention_maps --report    results/attention_maps
"""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis import formats, style
from analysis.commands import Parser, at_least, command
from analysis.images import photo
from analysis.results import output
from analysis.shared.models import add_arguments, open_model, subject_of

CHECKPOINT = "micro_stvit_16"


def pictures(args: argparse.Namespace) -> list[Path]:
    from analysis.attention_maps.draw import draw

    subject = subject_of(args, CHECKPOINT)
    drawn = draw(subject, photo(args.image, subject.size), args.head)
    return [path for name, fig in drawn.items() for path in style.save(fig, args.out / name)]


def measured(args: argparse.Namespace):
    """The real model's captions; of a checkpoint that is named, or without the real weights, the semantic tokens'."""
    from analysis.attention_maps import real, semantic

    subject, crops, _ = (None, None, "") if args.checkpoint else real.at_hand()
    if subject is None:
        return semantic(open_model(args.checkpoint or CHECKPOINT), args.images)
    return real.judged(subject, crops).drop(columns="margin")


@command("analysis.attention_maps")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m analysis.attention_maps",
        description=__doc__,
    )
    add_arguments(parser, "attention_maps", CHECKPOINT)
    parser.add_argument("--head", type=at_least(1), help="one head, counted from 1 (default: the mean)")
    formats.add_arguments(parser)
    args = parser.parse_args(argv)
    if args.image and not args.report:
        args.out = args.out or Path("pictures")
        print(*pictures(args), sep="\n")
        return 0
    from analysis.attention_maps import report

    if args.report:
        judged, frame = report.write(args.out or output("attention_maps"), args.images)
        if judged is not None:
            print(
                formats.render(judged[["figure", "claim", "difference", "low", "high", "verdict"]], digits=3)
            )
        shown = ["figure", "model", "measure", "value", "beside", "holds_here"]
        print(formats.render(frame[shown], digits=3))
        return 0
    frame = measured(args)
    if not formats.emit(frame, args):
        print(formats.render(frame.dropna(axis=1, how="all"), digits=3))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
