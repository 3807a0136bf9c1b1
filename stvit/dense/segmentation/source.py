"""Where a segmenter's batches come from: scenes, or a folder in ADE20K's layout, by one interface.

Order and augmentation are functions of (seed, epoch, image), whatever the number of processes and workers.
Photographs are augmented as the paper's framework does it: the shorter side between half and twice the
crop, a crop of which no class fills more than three quarters, mirroring, photometric distortion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import timm
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from stvit.data.ade20k import IGNORED
from stvit.data.opened import kind_of, open_dense
from stvit.data.share import Batch, Share, ShuffledOrder, in_order

SCENE_BATCH = 64  # evaluation scenes at a time; photographs differ in size and come one by one
LONGEST, FULLEST, TRIES = 4, 0.75, 10  # of the longer side to the shorter; of a class in a crop; crops drawn


class SegmentationSource:
    """Batches of (images (B, 3, H, W), classes (B, H, W)); ``evaluate`` gives each image once."""

    def __init__(
        self, train: Dataset, held_out: Dataset, config, share: Share, augment, prepare, at_once: int
    ):
        self.data, self.held_out = train, held_out
        self.augment, self.prepare, self.at_once = augment, prepare, at_once
        self.class_names = train.class_names
        self.order = ShuffledOrder(len(train), config.batch_size, config.seed, share)
        self.share, self.workers, self.steps = share, config.workers, self.order.steps

    def train(self, epoch: int) -> Iterator[Batch]:
        data = Transformed(self.data, self.augment, self.order.seed_of(epoch))
        yield from self.load(data, self.order.batches(self.order.chance(epoch)))

    def evaluate(self) -> Iterator[Batch]:
        data = Transformed(self.held_out, self.prepare)
        yield from self.load(data, in_order(len(data), self.share, self.at_once))

    def load(self, data: Dataset, batches: Sequence[Tensor]) -> DataLoader:
        numbers = [batch.tolist() for batch in batches]
        return DataLoader(data, batch_sampler=numbers, num_workers=self.workers)


class Transformed(Dataset):
    """A data set through a transform, whose chance is that of (seed, image) alone where there is a seed."""

    def __init__(self, data: Dataset, transform, seed: int | None = None):
        self.data, self.transform, self.seed = data, transform, seed

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        image, classes = self.data[i]
        pair = tv_tensors.Image(image), tv_tensors.Mask(classes)
        if self.seed is None:
            image, classes = self.transform(*pair)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed((self.seed * 2_097_143 + i) % 2**63)
                image, classes = self.transform(*pair)
        return image.as_subclass(Tensor), classes.as_subclass(Tensor).long()


class VariedCrop(v2.RandomCrop):
    """A random crop in which, if a few tries find one, no class has more than a share of the labelled pixels."""

    def __init__(self, size: int, fill, fullest: float = FULLEST):
        super().__init__(size, pad_if_needed=True, fill=fill)
        self.fullest = fullest

    def make_params(self, flat_inputs: list) -> dict:
        classes = next(each for each in flat_inputs if isinstance(each, tv_tensors.Mask))
        for _ in range(TRIES):
            params = super().make_params(flat_inputs)
            inside = self.transform(classes, params)
            counts = torch.bincount(inside.flatten().as_subclass(Tensor), minlength=IGNORED + 1)[:IGNORED]
            if 0 < counts.max() < self.fullest * counts.sum():
                break
        return params


class KeepMask(nn.Module):
    """Only the image is resized: scores are counted on the pixels of the annotation."""

    def __init__(self, resize: nn.Module):
        super().__init__()
        self.resize = resize

    def forward(self, image: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        return self.resize(image), classes


def normalisation(model: str) -> list[nn.Module]:
    """uint8 to what the backbone was trained to see."""
    cfg = timm.get_pretrained_cfg(model)
    mean, std = (getattr(cfg, name, None) or (0.5,) * 3 for name in ("mean", "std"))
    types = {tv_tensors.Image: torch.float32, "others": None}
    return [v2.ToDtype(types, scale=True), v2.Normalize(list(mean), list(std))]


def augmentation(crop: int, normalise: list[nn.Module], distort: bool) -> v2.Compose:
    """That of the paper's framework; what is padded has the mean colour and no class."""
    sides = list(range(crop // 2, 2 * crop + 1))
    fill = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORED}
    return v2.Compose(
        [
            v2.RandomShortestSize(sides, max_size=2 * LONGEST * crop, antialias=True),
            *([v2.RandomPhotometricDistort()] if distort else []),
            *normalise,
            VariedCrop(crop, fill),
            v2.RandomHorizontalFlip(),
        ]
    )


def preparation(model: str, size: int, photographs: bool) -> v2.Compose:
    """What evaluation images go through: photographs get a shorter side of ``size``."""
    resize = [KeepMask(v2.Resize(size, max_size=LONGEST * size, antialias=True))] if photographs else []
    return v2.Compose([*resize, *normalisation(model)])


def segmentation_source(config, share: Share | None = None) -> SegmentationSource:
    """What ``config.data`` names; ``config`` is a TrainConfig or has the same fields."""
    train, held_out = (open_dense("segment", config, split) for split in ("train", "validation"))
    drawn = kind_of(config.data, "segment").drawn
    augment = prepare = preparation(config.model, config.image_size, photographs=not drawn)
    if not drawn:
        normalise = normalisation(config.model)
        augment = augmentation(config.image_size, normalise, distort=bool(config.color_jitter))
    at_once = SCENE_BATCH if drawn else 1
    return SegmentationSource(train, held_out, config, share or Share(), augment, prepare, at_once)


def held_out_batches(config, split: str = "") -> tuple[tuple[str, ...], DataLoader]:
    """Class names and batches to score: of scenes by default the test split, of a folder the validation."""
    drawn = kind_of(config.data, "segment").drawn
    held_out = open_dense("segment", config, split or ("test" if drawn else "validation"))
    data = Transformed(held_out, preparation(config.model, config.image_size, photographs=not drawn))
    return held_out.class_names, DataLoader(data, batch_size=SCENE_BATCH if drawn else 1)
