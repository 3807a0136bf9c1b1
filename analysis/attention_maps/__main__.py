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
from analysis.commands import Parser, at_least, command, new_folder
from analysis.images import SAMPLES, photo
from analysis.results import output

CHECKPOINT = "micro_stvit_16"


def pictures(args: argparse.Namespace) -> list[Path]:
    from analysis.attention_maps.draw import draw
    from analysis.shared.models import open_model

    subject = open_model(args.checkpoint)
    if args.size:
        subject = subject.resized(tuple(args.size))
    drawn = draw(subject, photo(args.image, subject.size), args.head)
    return [path for name, fig in drawn.items() for path in style.save(fig, args.out / name)]


@command("analysis.attention_maps")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m analysis.attention_maps",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--image", help=f"a file, or one of {', '.join(SAMPLES)} (scene:7 is scene 7)")
    parser.add_argument(
        "--checkpoint", default=CHECKPOINT, help=f"shipped name, path or timm model ({CHECKPOINT})"
    )
    parser.add_argument("--head", type=at_least(1), help="one head, counted from 1 (default: the mean)")
    parser.add_argument(
        "--size", type=at_least(1), nargs=2, metavar=("H", "W"), help="image size (the model's)"
    )
    parser.add_argument(
        "--images", type=at_least(1), default=256, help="scenes that numbers are taken over (256)"
    )
    parser.add_argument("--report", action="store_true", help="write results/attention_maps with its record")
    parser.add_argument("--out", type=new_folder, help="folder for pictures or report")
    formats.add_arguments(parser)
    args = parser.parse_args(argv)
    if args.image and not args.report:
        args.out = args.out or Path("pictures")
        print(*pictures(args), sep="\n")
        return 0
    from analysis.attention_maps import report

    if args.report:
        frame = report.write(args.out or output("attention_maps"), args.images)
        print(
            formats.render(frame[["figure", "model", "measure", "value", "beside", "holds_here"]], digits=3)
        )
        return 0
    from analysis.attention_maps import semantic
    from analysis.shared.models import open_model

    frame = semantic(open_model(args.checkpoint), args.images)
    if not formats.emit(frame, args):
        print(formats.render(frame.dropna(axis=1, how="all"), digits=3))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
