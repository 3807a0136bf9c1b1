"""The authors' detectors, whole: Cascade Mask R-CNN as mmdetection names it, into ``stvit.dense.detection``.

    model = load_released_detector("cascade_mask_rcnn_stvit_r_swin_small.pth")
    found = model([image])           # (3, H, W) in [0, 1] → boxes, scores, labels from 1, masks
    python -m stvit.dense.detection.released cascade_mask_rcnn_stvit_r_swin_small.pth     what was mapped, what differs

Pyramid, proposals, box and mask heads agree in structure and are mapped tensor by tensor; whatever has no
place is an error. What agrees in the weights and yet not to the last bit in what it computes is listed in
``DIFFERENCES``. Files are read as in ``released.py``: no code in them runs.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch
from torch import Tensor

from stvit.checkpoints import fill
from stvit.convert.released import convert, describe, read_tensors, strip
from stvit.dense.detection import CascadeMaskRCNN, create_detector
from stvit.dense.detection.config import CASCADE

# Theirs → here; {i} and {j} are numbers. A box head's hidden layer is numbered after its convolutions.
RENAMED = (
    (r"neck\.lateral_convs\.(\d+)\.conv\.", r"backbone.fpn.inner_blocks.\1.0."),
    (r"neck\.fpn_convs\.(\d+)\.conv\.", r"backbone.fpn.layer_blocks.\1.0."),
    (r"rpn_head\.rpn_conv\.", "rpn.head.conv.0.0."),
    (r"rpn_head\.rpn_cls\.", "rpn.head.cls_logits."),
    (r"rpn_head\.rpn_reg\.", "rpn.head.bbox_pred."),
    (
        r"roi_head\.bbox_head\.(\d+)\.shared_convs\.(\d+)\.conv\.",
        r"roi_heads.stages.\1.box_head.shared.\2.0.",
    ),
    (r"roi_head\.bbox_head\.(\d+)\.shared_convs\.(\d+)\.bn\.", r"roi_heads.stages.\1.box_head.shared.\2.1."),
    (r"roi_head\.bbox_head\.(\d+)\.fc_cls\.", r"roi_heads.stages.\1.box_head.classes."),
    (r"roi_head\.bbox_head\.(\d+)\.fc_reg\.", r"roi_heads.stages.\1.box_head.deltas."),
    (r"roi_head\.mask_head\.(\d+)\.convs\.(\d+)\.conv\.", r"roi_heads.stages.\1.masks.convs.\2.0."),
    (r"roi_head\.mask_head\.(\d+)\.upsample\.", r"roi_heads.stages.\1.masks.upsample."),
    (r"roi_head\.mask_head\.(\d+)\.conv_logits\.", r"roi_heads.stages.\1.masks.logits."),
)
HIDDEN = re.compile(r"roi_head\.bbox_head\.(\d+)\.shared_fcs\.0\.(weight|bias)")

# What the weights do not decide: (part, in mmdetection, here).
AGREES = (
    ("order of classes", "background last", "background first: the rows of fc_cls are turned by one"),
    ("anchors", "8 strides wide at strides 4 to 64, ratios 0.5, 1, 2 of height to width", "the same, unrounded"),
    ("box deltas", "divided by 0.1, 0.05, 0.033 (sides 0.2, 0.1, 0.067)", "the same by stage"),
    ("box coordinates", "corners in pixels, no +1; RoIAlign without half-pixel shift", "the same"),
    ("pyramid", "nearest upsampling, a fifth map by subsampling", "the same"),
    ("scores", "logits averaged over stages, threshold 0.05, suppression at 0.5, 100 an image", "the same"),
    ("masks", "probabilities averaged over stages, 0.5", "the same; returned as probabilities"),
)  # fmt: skip
DIFFERENCES = (
    ("resizing", "8-bit image by OpenCV, rounded", "normalised image by torch, not rounded"),
    ("deltas of sides", "cut at ±log(1000/16)", "cut at +log(1000/16) alone: differs for boxes shrunk 62 times"),
    ("matching of anchors (training)", "best anchor of an object if its IoU is 0.3 or more", "at any IoU"),
)  # fmt: skip


def load_released_detector(path: str | Path, **options: object) -> CascadeMaskRCNN:
    """The whole detector of one of the authors' checkpoints, in evaluation mode.

    ``options`` are the backbone's, as in ``stvit.load_released``: ``border="released"`` masks padding as the
    authors' program does. Raises ValueError where the file is no such detector.
    """
    state_dict = {key.removeprefix("module."): value for key, value in read_tensors(path).items()}
    model = build(state_dict, path, **options)
    fill(model, convert_detector(state_dict), source=str(path), fresh=("*.num_batches_tracked",))
    return model.eval()


def build(state_dict: dict[str, Tensor], path: str | Path = "these", **options: object) -> CascadeMaskRCNN:
    """An untrained detector of the structure that the shapes tell."""
    if not any(key.startswith("roi_head.") for key in state_dict):
        raise ValueError(
            f"{path} are not weights of a detector: no roi_head.… among {len(state_dict)} tensors such as "
            f"{', '.join(list(state_dict)[:3])}; stvit.load_released reads classifiers and backbones"
        )
    name, found = describe(strip(state_dict))
    found.pop("features_only", None)
    heads = structure(state_dict, path)
    return create_detector(name, heads.pop("num_classes"), {**found, **options}, **heads)


def structure(state_dict: dict[str, Tensor], path: str | Path = "these") -> dict:
    """Widths and numbers of the heads' layers."""

    def count(pattern: str) -> int:
        return len({match[1] for key in state_dict if (match := re.match(pattern, key))})

    def shape(key: str) -> torch.Size:
        if key not in state_dict:
            raise ValueError(f"{path} has no {key}, as a Cascade Mask R-CNN of mmdetection has")
        return state_dict[key].shape

    stages = count(r"roi_head\.bbox_head\.(\d+)\.fc_cls\.weight")
    if stages != len(CASCADE):
        raise ValueError(f"{path} has box heads for {stages} stages, Cascade Mask R-CNN has {len(CASCADE)}")
    box, mask = "roi_head.bbox_head.0", "roi_head.mask_head.0"
    num_classes, hidden = shape(f"{box}.fc_cls.weight")
    convs = count(rf"{re.escape(box)}\.shared_convs\.(\d+)\.conv\.weight")
    mask_convs = count(rf"{re.escape(mask)}\.convs\.(\d+)\.conv\.weight")
    width = shape(f"{box}.shared_convs.0.conv.weight")[0] if convs else 0
    channels = shape("rpn_head.rpn_conv.weight")[0]
    cells = shape(f"{box}.shared_fcs.0.weight")[1] // (width or channels)
    return dict(
        num_classes=num_classes - 1,
        channels=channels,
        class_agnostic=shape(f"{box}.fc_reg.weight")[0] == 4,
        box_convs=convs, box_width=width or channels, box_hidden=hidden, box_size=round(cells**0.5),
        mask_convs=mask_convs, mask_width=shape(f"{mask}.upsample.weight")[0],
    )  # fmt: skip


def convert_detector(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """From mmdetection's names to those here; what has no name here keeps its own."""
    backbone = convert(strip(state_dict))
    converted = {f"backbone.body.model.{key}": value for key, value in backbone.items()}
    convs = len(
        {
            key
            for key in state_dict
            if re.fullmatch(r"roi_head\.bbox_head\.0\.shared_convs\.\d+\.conv\.weight", key)
        }
    )
    for key, value in state_dict.items():
        if key.startswith("backbone."):
            continue
        new = HIDDEN.sub(rf"roi_heads.stages.\1.box_head.shared.{convs + 1}.\2", key)
        for pattern, replacement in RENAMED:
            new = re.sub(f"^{pattern}", replacement, new)
        if ".fc_cls." in key:
            value = value.roll(1, 0)  # the last row, background, becomes the first
        converted[new] = value
    return converted


def report(path: str | Path) -> str:
    """What a checkpoint holds, what was mapped, what agrees and what does not, in words."""
    model = load_released_detector(path)
    state_dict = read_tensors(path)
    parts: dict[str, int] = {}
    for key, value in state_dict.items():
        part = key.removeprefix("module.").split(".")[0]
        parts[part] = parts.get(part, 0) + value.numel()
    arguments = {k: v for k, v in model.built_from[1].items() if k != "model_args"}
    lines = [f"{path}: {arguments}", ""]
    lines += [f"  {part:<10} {numbers:>12,} numbers, all mapped" for part, numbers in parts.items()]
    for title, rows in (("Agrees", AGREES), ("Differs", DIFFERENCES)):
        lines += ["", f"{title}:", *(f"  {part}: {theirs} — {here}" for part, theirs, here in rows)]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m stvit.dense.detection.released",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", help="a detector's file from the authors")
    try:
        print(report(parser.parse_args(argv).checkpoint))
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
