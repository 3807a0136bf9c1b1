"""``python -m stvit.dense.segmentation.evaluate``: mIoU of a segmenter, from one view or from many.

python -m stvit.dense.segmentation.evaluate runs/mine/model
python -m stvit.dense.segmentation.evaluate runs/mine/model --data path/to/ade --image-size 512 --multi-scale --flip
"""

from __future__ import annotations

import argparse
import json

from tqdm import tqdm

from stvit.command import run_command
from stvit.dense.command import build_parser, check_class_count, open_model
from stvit.dense.segmentation.inference import SCALES
from stvit.dense.segmentation.scores import evaluate
from stvit.dense.segmentation.source import held_out_batches


def main(argv: list[str] | None = None) -> int:
    parser = build_parser("stvit.dense.segmentation.evaluate", __doc__, "segment")
    parser.add_argument("--multi-scale", action="store_true", help=f"average over scales {SCALES}")
    parser.add_argument("--flip", action="store_true", help="average over mirror images too")
    args = parser.parse_args(argv)
    return run_command(lambda: run(args), status=2, debug=args.debug)


def run(args: argparse.Namespace) -> None:
    """Score the segmenter as the command line says, and print the scores."""
    model, config, device = open_model(args, "segment")
    names, batches = held_out_batches(config, args.split)
    check_class_count(names, model, args.data)
    scales = SCALES if args.multi_scale else (1.0,)
    found = evaluate(model, tqdm(batches, leave=False), len(names), device, scales, args.flip)
    views = len(scales) * (2 if args.flip else 1)
    print(json.dumps({**found, "views": views}) if args.json else describe(found, names, views))


def describe(found: dict, names: tuple[str, ...], views: int) -> str:
    seen = f"{views} view{'s' if views > 1 else ''} of each"
    lines = [
        f"images          {found['images']:,}, {seen}",
        f"mIoU            {found['miou']:.2f} %",
        f"pixel accuracy  {found['pixel_accuracy']:.2f} %",
        "",
        *(
            f"  {name:<24} {'-' if iou is None else f'{iou:.2f}'}"
            for name, iou in zip(names, found["iou"], strict=True)
        ),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
