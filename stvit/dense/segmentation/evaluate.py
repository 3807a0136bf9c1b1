"""``python -m stvit.dense.segmentation.evaluate``: mIoU of a segmenter, from one view or from many.

python -m stvit.dense.segmentation.evaluate runs/mine/model
python -m stvit.dense.segmentation.evaluate runs/mine/model --data path/to/ade --image-size 512 --multi-scale --flip
"""

from __future__ import annotations

import argparse
import json

import torch
from tqdm import tqdm

from stvit.dense.saved import load
from stvit.dense.segmentation.inference import SCALES
from stvit.dense.segmentation.scores import evaluate
from stvit.dense.segmentation.source import held_out_batches
from stvit.training.config import TrainConfig


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m stvit.dense.segmentation.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", help="folder that training wrote: runs/…/model")
    parser.add_argument("--data", default="scenes", help="scenes, or a folder in ADE20K's layout")
    parser.add_argument("--split", default="", help="which scenes, or which folder (test; validation)")
    parser.add_argument("--images", type=int, default=0, help="how many (0: all; scenes: 2048)")
    parser.add_argument("--image-size", type=int, default=64, help="scenes' size, or the shorter side (64)")
    parser.add_argument("--multi-scale", action="store_true", help=f"average over scales {SCALES}")
    parser.add_argument("--flip", action="store_true", help="average over mirror images too")
    parser.add_argument("--data-seed", type=int, default=0, help="which scenes (0)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", action="store_true", help="all scores as JSON")
    args = parser.parse_args(argv)
    model = load(args.checkpoint).to(args.device)
    config = TrainConfig(
        task="segment", model=model.built_from[1]["backbone"], data=args.data, image_size=args.image_size,
        eval_images=args.images, data_seed=args.data_seed,
    )  # fmt: skip
    names, batches = held_out_batches(config, args.split)
    if len(names) != model.config.num_labels:
        parser.error(f"{args.data} has {len(names)} classes, the model {model.config.num_labels}")
    scales = SCALES if args.multi_scale else (1.0,)
    found = evaluate(model, tqdm(batches, leave=False), len(names), args.device, scales, args.flip)
    views = len(scales) * (2 if args.flip else 1)
    print(json.dumps({**found, "views": views}) if args.json else describe(found, names, views))
    return 0


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
