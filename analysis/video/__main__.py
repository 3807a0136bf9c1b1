"""``python -m analysis.video``: STViT on Video Swin, Table 6 and a training that a CPU can do.

python -m analysis.video                  printed beside counted, and the trained models
python -m analysis.video run              train what has no record yet; stop and repeat as you like
python -m analysis.video draw --clip 7    semantic tokens over the frames of a test clip, as a strip and a GIF
python -m analysis.video --report         results/video, the shipped models tested again
"""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis import formats, style
from analysis.commands import Parser, at_least, command, new_folder
from analysis.shared import loop
from analysis.video import cells, tables


def run(args: argparse.Namespace) -> int:
    cells.run(cells.plan(tuple(range(args.seeds)), args.models), **loop.arguments_of(args))
    return 0


def draw(args: argparse.Namespace) -> int:
    from analysis.video import report, tokens

    subject, clip = report.open_semantic(args.checkpoint), report.test_clips([args.clip])
    followed = tokens.follow(subject.model, clip.images[0])
    title = report.title(followed, int(clip.labels[0]))
    print(*style.save(tokens.strip([followed], [title], subject.label), args.out / "tokens"), sep="\n")
    print(tokens.animate(followed, args.out / "tokens.gif"))
    return 0


@command("analysis.video")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m analysis.video",
        description=__doc__,
    )
    parser.add_argument("--report", action="store_true", help="write results/video with its record")
    parser.add_argument("--out", type=new_folder, help="folder for the report")
    formats.add_arguments(parser)
    actions = parser.add_subparsers(dest="action")
    runner = actions.add_parser("run", help="train what has no record yet")
    runner.add_argument(
        "--seeds", type=at_least(1), default=len(cells.SEEDS), help=f"seeds a model ({len(cells.SEEDS)})"
    )
    runner.add_argument(
        "--models",
        nargs="+",
        choices=tuple(cells.MODELS),
        default=tuple(cells.MODELS),
        help="these alone (both)",
    )
    loop.add_arguments(runner)
    runner.set_defaults(do=run)
    drawer = actions.add_parser("draw", help="semantic tokens over the frames of a test clip")
    drawer.add_argument("--clip", type=at_least(0), default=0, help="its number (0)")
    drawer.add_argument(
        "--checkpoint", default=cells.SEMANTIC, help=f"a checkpoint ({cells.SEMANTIC}, shipped)"
    )
    drawer.add_argument("--out", type=new_folder, default=Path("pictures"), help="folder (pictures)")
    drawer.set_defaults(do=draw)
    args = parser.parse_args(argv)
    if args.action:
        return args.do(args)
    if args.report:
        from analysis.video import report

        return report.write(args.out)
    printed, trained = tables.printed(), tables.trained()
    if not formats.emit(printed, args):
        print(f"{formats.render(printed)}\n\n{formats.render(trained)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
