"""Where a detector's batches come from: scenes, or a folder in COCO's layout, by one interface.

Images and targets are lists, since photographs differ in size. Order, flips and the choice of sizes are
functions of (seed, epoch, image), whatever the number of processes and workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stvit.data.opened import kind_of, open_dense
from stvit.data.scenes import SceneConfig
from stvit.data.share import Share, ShuffledOrder, in_order

Lists = tuple[list[Tensor], list[dict[str, Tensor]]]  # images and targets of a batch
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
        self.order = ShuffledOrder(len(train), config.batch_size, config.seed, share)
        self.share, self.workers, self.steps = share, config.workers, self.order.steps

    def train(self, epoch: int) -> Iterator[Lists]:
        chance = self.order.chance(epoch)
        batches = self.order.batches(chance)
        flips = torch.rand(len(self.data), generator=chance) < 0.5
        cuts = torch.rand(len(self.data), 6, generator=chance)
        yield from self.load(Changed(self.data, flips, cuts, self.crops), batches)

    def evaluate(self) -> Iterator[Lists]:
        yield from self.load(self.held_out, in_order(len(self.held_out), self.share, self.order.per_process))

    def load(self, data: Dataset, batches: Sequence[Tensor]) -> DataLoader:
        numbers = [batch.tolist() for batch in batches]
        return DataLoader(data, batch_sampler=numbers, num_workers=self.workers, collate_fn=collate)


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


def collate(items: list[tuple[Tensor, dict[str, Tensor]]]) -> Lists:
    """Images in [0, 1]."""
    return [image.float() / 255 for image, _ in items], [target for _, target in items]


def detection_source(config, share: Share | None = None, crops: tuple[int, ...] = ()) -> DetectionSource:
    """What ``config.data`` names; ``config`` is a TrainConfig or has the same fields."""
    train, held_out = (open_dense("detect", config, split) for split in ("train", "validation"))
    if train.class_names != held_out.class_names:
        raise ValueError(f"{train.annotations} and {held_out.annotations} have other categories")
    sizes = scene_sizes(train.config) if kind_of(config.data, "detect").drawn else SIZES
    return DetectionSource(train, held_out, config, share or Share(), sizes, crops)


def held_out_batches(config, split: str = "") -> tuple[tuple[str, ...], DataLoader, dict]:
    """Class names, batches to score and sizes: of scenes by default the test split, of a folder the validation."""
    drawn = kind_of(config.data, "detect").drawn
    held_out = open_dense("detect", config, split or ("test" if drawn else "validation"))
    sizes = scene_sizes(held_out.config) if drawn else SIZES
    return held_out.class_names, DataLoader(held_out, batch_size=8, collate_fn=collate), sizes


def scene_sizes(scenes: SceneConfig) -> dict[str, tuple[float, float]]:
    """Thirds of the range of radii as areas: objects of scenes are all small by COCO's measure."""
    step = (scenes.max_radius - scenes.min_radius) / 3
    first, second = (torch.pi * (scenes.min_radius + i * step) ** 2 for i in (1, 2))
    return {"small": (0.0, first), "medium": (first, second), "large": (second, 1e10)}
