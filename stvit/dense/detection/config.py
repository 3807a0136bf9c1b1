"""What a detector may choose, as data, and the two sets of choices that the project uses."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple


class Stage(NamedTuple):
    """One stage of the cascade: overlap that makes a proposal an object, scale of its deltas, its loss's weight."""

    iou: float
    stds: tuple[float, float, float, float]
    weight: float


CASCADE = (
    Stage(0.5, (0.1, 0.1, 0.2, 0.2), 1.0),
    Stage(0.6, (0.05, 0.05, 0.1, 0.1), 0.5),
    Stage(0.7, (0.033, 0.033, 0.067, 0.067), 0.25),
)


@dataclass(frozen=True)
class DetectorConfig:
    """Cascade Mask R-CNN's choices; the defaults are those of Swin's detectors, which STViT-R follows.

    channels: of the feature pyramid
    output_norms: a LayerNorm on each of the backbone's maps, unless the backbone brings its own
    anchor_scale, anchor_ratios: an anchor's side in strides of its map, and height / width
    box_convs, box_width, box_hidden: convolutions of a box head with BatchNorm, their width, the hidden layer's
    mask_convs, mask_width: convolutions of a mask head, their width
    class_agnostic: one box a proposal instead of one a class
    box_size, mask_size: a proposal's map in the box heads and in the mask heads
    finest: proposals with sides of less than twice this are read from the finest map, in pixels
    sampling: points a side that a cell of a proposal's map averages (0: as many as map pixels fall into it)
    min_sizes, max_size: the shorter side of a training image, one drawn at random (the last one is used for
        evaluation), and what the longer side may not exceed
    crops: half of the training images are cut first to what would be 384 to 600 pixels a side if the shorter
        side were one of these; none: no cuts
    mask_weight, box_weight: weights of the mask loss and of the GIoU loss
    """

    channels: int = 256
    output_norms: bool = True
    anchor_scale: float = 8.0
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    rpn_samples: int = 256
    proposals_train: int = 2000
    proposals_test: int = 1000
    stages: tuple[Stage, ...] = CASCADE
    samples: int = 512
    positive_fraction: float = 0.25
    class_agnostic: bool = False
    box_size: int = 7
    box_convs: int = 4
    box_width: int = 256
    box_hidden: int = 1024
    box_weight: float = 10.0
    mask_size: int = 14
    mask_convs: int = 4
    mask_width: int = 256
    mask_weight: float = 1.0
    finest: float = 56.0
    sampling: int = 0
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    detections: int = 100
    min_sizes: tuple[int, ...] = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    max_size: int = 1333
    size_divisible: int = 32
    crops: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("channels", "samples", "box_size", "mask_size", "size_divisible", "detections"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.stages or not self.min_sizes or not self.anchor_ratios:
            raise ValueError("a detector needs at least one stage, one of min_sizes and one of anchor_ratios")

    @classmethod
    def of(cls, preset: str = "swin", **changes: object) -> DetectorConfig:
        """A preset with ``changes``, which may come from JSON: lists become tuples."""
        if preset not in PRESETS:
            raise ValueError(f"unknown preset {preset!r}; choose one of {', '.join(PRESETS)}")
        unknown = sorted(set(changes) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"unknown option {unknown[0]!r} of a detector; choose from {', '.join(OPTIONS)}")
        values = {**PRESETS[preset], **changes}
        if "stages" in changes:
            values["stages"] = tuple(Stage(iou, tuple(stds), w) for iou, stds, w in changes["stages"])
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


OPTIONS = tuple(field.name for field in fields(DetectorConfig))

# For images of 64 × 64 with objects of 9 to 30 pixels a side: narrow heads, few proposals, one box a proposal.
MICRO = dict(
    channels=32, anchor_scale=6.0, rpn_samples=64, proposals_train=96, proposals_test=64, samples=32,
    positive_fraction=0.5, class_agnostic=True, box_size=5, box_convs=1, box_width=32, box_hidden=96,
    mask_size=7, mask_convs=1, mask_width=32, finest=12.0, sampling=1, detections=24, min_sizes=(64,),
    max_size=96, size_divisible=16,
)  # fmt: skip
PRESETS: dict[str, dict] = {"swin": {}, "micro": MICRO}
