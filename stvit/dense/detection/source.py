"""Where a detector's batches come from: scenes, or a folder in COCO's layout, by one interface.

Images and targets are lists, since photographs differ in size. Order, flips and the choice of sizes are
functions of (seed, epoch, image), whatever the number of processes and workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stvit.data.coco import CocoFolder
from stvit.data.objects import SceneObjects
from stvit.data.opened import Share
from stvit.data.scenes import SceneConfig, sized

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]
TRAIN, HELD_OUT = 8192, 1024  # scenes, if nothing is said
LONGEST, CUT = 1333, (384, 600)  # pixels: the longer side at most, and of a cut
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}  # COCO's, in pixels


class DetectionSource:
    """Batches of a data set: ``train(epoch)`` shuffles, flips and cuts, ``evaluate()`` gives each image once.

    sizes: areas in pixels that an object's mask has to be small, medium or large
    crops: see ``DetectorConfig``
    """

    def __init__(
        self,
        train: Dataset,
        held_out: Dataset,
        config,
        share: Share,
        sizes: dict,
        crops: tuple[int, ...] = (),
    ):
        self.data, self.held_out, self.sizes, self.crops = train, held_out, sizes, crops
        self.class_names = train.class_names
        self.seed, self.share, self.workers = config.seed, share, config.workers
        self.batch_size, self.per_process = config.batch_size, share.of(config.batch_size)
        self.steps = len(train) // config.batch_size
        if not self.steps:
            raise ValueError(f"{len(train)} training images do not fill one batch of {config.batch_size}")

    def train(self, epoch: int) -> Iterator[Batch]:
        chance = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.data), generator=chance)
        flips = torch.rand(len(self.data), generator=chance) < 0.5
        cuts = torch.rand(len(self.data), 6, generator=chance)
        batches = [
            batch[self.share.rank :: self.share.processes].tolist()
            for batch in islice(order.split(self.batch_size), self.steps)
        ]
        yield from self.load(Changed(self.data, flips, cuts, self.crops), batches)

    def evaluate(self) -> Iterator[Batch]:
        own = torch.arange(self.share.rank, len(self.held_out), self.share.processes)
        yield from self.load(self.held_out, [part.tolist() for part in own.split(self.per_process)])

    def load(self, data: Dataset, batches: list[list[int]]) -> DataLoader:
        return DataLoader(data, batch_sampler=batches, num_workers=self.workers, collate_fn=collate)


class Changed(Dataset):
    """A data set whose images are mirrored and cut by chance, with their boxes and masks."""

    def __init__(self, data: Dataset, flips: Tensor, cuts: Tensor, crops: tuple[int, ...]):
        self.data, self.flips, self.cuts, self.crops = data, flips, cuts, crops

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        image, target = self.data[i]
        cut, *chances = self.cuts[i].tolist()
        if self.flips[i]:
            image, target = mirror(image, target)
        if self.crops and cut < 0.5:
            image, target = crop(image, target, self.crops, *chances)
        return image, target


def crop(
    image: Tensor,
    target: dict[str, Tensor],
    sides: tuple[int, ...],
    side: float,
    height: float,
    width: float,
    top: float,
    left: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """A part of the image, as large as 384 to 600 pixels would be if its shorter side were one of ``sides``.

    The last five numbers are chances in [0, 1). Objects of which nothing is left are left out.
    """
    H, W = image.shape[1:]
    scale = min(sides[int(side * len(sides))] / min(H, W), LONGEST / max(H, W))
    h, w = (part_of(full, scale, chance) for full, chance in ((H, height), (W, width)))
    y, x = int(top * (H - h + 1)), int(left * (W - w + 1))
    boxes = target["boxes"] - torch.tensor([x, y, x, y])
    boxes[:, 0::2], boxes[:, 1::2] = boxes[:, 0::2].clamp(0, w), boxes[:, 1::2].clamp(0, h)
    masks = target["masks"][:, y : y + h, x : x + w]
    keep = (boxes[:, 2:] > boxes[:, :2]).all(1) & masks.flatten(1).bool().any(1)
    changed = {**target, "boxes": boxes, "masks": masks}
    return image[:, y : y + h, x : x + w], {
        name: value[keep] if value.ndim else value for name, value in changed.items()
    }


def part_of(side: int, scale: float, chance: float) -> int:
    """A length of 384 to 600 scaled pixels, or less where the image has less, in the image's own."""
    low, high = (min(side * scale, limit) for limit in CUT)
    return min(side, max(1, round((low + chance * (high - low)) / scale)))


def mirror(image: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    x0, y0, x1, y1 = target["boxes"].unbind(1)
    width = image.shape[2]
    boxes = torch.stack([width - x1, y0, width - x0, y1], dim=1)
    return image.flip(2), {**target, "boxes": boxes, "masks": target["masks"].flip(2)}


def collate(items: list[tuple[Tensor, dict[str, Tensor]]]) -> Batch:
    """Images in [0, 1]."""
    return [image.float() / 255 for image, _ in items], [target for _, target in items]


def detection_source(config, share: Share | None = None, crops: tuple[int, ...] = ()) -> DetectionSource:
    """What ``config.data`` names; ``config`` is a TrainConfig or has the same fields."""
    share = share or Share()
    if config.data != "scenes":
        train = CocoFolder(config.data, "train", trainable=True, count=config.train_images)
        held_out = CocoFolder(config.data, "validation", trainable=False, count=config.eval_images)
        if train.class_names != held_out.class_names:
            raise ValueError(f"{train.annotations} and {held_out.annotations} have other categories")
        return DetectionSource(train, held_out, config, share, SIZES, crops)
    scenes, cache = sized(SceneConfig(seed=config.data_seed), config.image_size), config.cache or None
    train = SceneObjects(scenes, "train", config.train_images or TRAIN, cache)
    held_out = SceneObjects(scenes, "validation", config.eval_images or HELD_OUT, cache)
    return DetectionSource(train, held_out, config, share, scene_sizes(scenes), crops)


def scene_sizes(scenes: SceneConfig) -> dict[str, tuple[float, float]]:
    """Thirds of the range of radii as areas: objects of scenes are all small by COCO's measure."""
    step = (scenes.max_radius - scenes.min_radius) / 3
    first, second = (torch.pi * (scenes.min_radius + i * step) ** 2 for i in (1, 2))
    return {"small": (0.0, first), "medium": (first, second), "large": (second, 1e10)}
