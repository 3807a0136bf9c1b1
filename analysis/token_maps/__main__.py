"""``python -m analysis.token_maps``: kept, merged, dropped and semantic tokens drawn back on the image.

python -m analysis.token_maps --image china --checkpoint micro_bat --out pictures
python -m analysis.token_maps --image a.jpg --checkpoint vit_small_patch16_224 --method tome --size 224 336
python -m analysis.token_maps             shares of kept, merged and dropped patches by method
python -m analysis.token_maps --report    results/token_maps
"""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis import formats, style
from analysis.commands import Parser, command
from analysis.images import photo
from analysis.results import output
from analysis.shared.models import REAL, Subject, add_arguments, subject_of

CHECKPOINT = "micro_stvit_16"
DEFAULT = "bat"  # put into the real model, which reduces nothing by itself


def draw(subject, picture, label: str | None = None):
    """One image through one model: a token map for each layer that reduces."""
    from analysis.images import normalised
    from analysis.token_maps import figures, follow

    stages = follow(subject.model, normalised(picture, subject.model))
    drawn = [(stage.labels[0], stage.grid, f"{stage.tokens} tokens") for stage in stages]
    lines = [drawn[i : i + 4] for i in range(0, len(drawn), 4)]
    soft = range(len(lines)) if not hasattr(subject.model, "reductions") else ()
    titles = ["image", *("" for _ in range(4))]
    for line, first in zip(lines, range(0, len(drawn), 4), strict=True):
        for i, (labels, grid, below) in enumerate(line):
            line[i] = (labels, grid, f"layer {stages[first + i].layer}: {below}")
    return figures.rows([picture] * len(lines), lines, titles, label or subject.label, soft=soft, side=2.0)


def picture(args: argparse.Namespace) -> list[Path]:
    import stvit

    subject = subject_of(args, CHECKPOINT)
    method = args.method or (DEFAULT if args.checkpoint is None and subject.name == REAL else None)
    if method:
        model = stvit.sparsify(subject.model, method=method).eval()
        subject = Subject(f"{subject.name} with {method}", model, subject.trained, subject.weights)
    shown = photo(args.image, subject.size)
    return style.save(draw(subject, shown), args.out / "token_map")


@command("analysis.token_maps")
def main(argv: list[str] | None = None) -> int:
    from stvit.reduce import METHODS

    parser = Parser(
        prog="python -m analysis.token_maps",
        description=__doc__,
    )
    add_arguments(parser, "token_maps", CHECKPOINT)
    parser.add_argument(
        "--method", choices=("stvit", *METHODS), help="sparsify the checkpoint with this first"
    )
    formats.add_arguments(parser)
    args = parser.parse_args(argv)
    if args.image and not args.report:
        args.out = args.out or Path("pictures")
        print(*picture(args), sep="\n")
        return 0
    if args.report:
        from analysis.token_maps import report

        frame = report.write(args.out or output("token_maps"), args.images)
    else:
        import pandas as pd

        from analysis.token_maps import fates
        from analysis.token_maps.subjects import methods

        frame = pd.concat([fates(name, subject, args.images) for name, subject in methods().items()])
    if not formats.emit(frame, args):
        print(formats.render(frame.drop(columns=["weights", "images"]), digits=3))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
