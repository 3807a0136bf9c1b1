"""Where a segmenter's batches come from: scenes, or a folder in ADE20K's layout, by one interface.

Order and augmentation are functions of (seed, epoch, image), whatever the number of processes and workers.
Photographs are augmented as the paper's framework does it: the shorter side between half and twice the
crop, a crop of which no class fills more than three quarters, mirroring, photometric distortion.
"""

from __future__ import annotations

from collections.abc import Iterator

import timm
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from stvit.data.ade20k import IGNORED, AdeFolder
from stvit.data.maps import SceneMaps
from stvit.data.opened import Share
from stvit.data.scenes import SceneConfig, sized

Batch = tuple[Tensor, Tensor]
TRAIN, HELD_OUT, TEST = 16384, 1024, 2048  # scenes, if nothing is said
SCENE_BATCH = 64  # evaluation scenes at a time; photographs differ in size and come one by one
LONGEST, FULLEST, TRIES = 4, 0.75, 10  # of the longer side to the shorter; of a class in a crop; crops drawn


class SegmentationSource:
    """Batches of (images (B, 3, H, W), classes (B, H, W)); ``evaluate`` gives each image once."""

    def __init__(self, train: Dataset, held_out: Dataset, config, share: Share, augment, prepare):
        self.data, self.held_out = train, held_out
        self.augment, self.prepare = augment, prepare
        self.class_names = train.class_names
        self.seed, self.share, self.workers = config.seed, share, config.workers
        self.batch_size, self.per_process = config.batch_size, share.of(config.batch_size)
        self.steps = len(train) // config.batch_size
        if not self.steps:
            raise ValueError(f"{len(train)} training images do not fill one batch of {config.batch_size}")

    def train(self, epoch: int) -> Iterator[Batch]:
        seed = self.seed * 1_000_003 + epoch
        order = torch.randperm(len(self.data), generator=torch.Generator().manual_seed(seed))
        batches = order[: self.steps * self.batch_size].view(self.steps, self.batch_size)
        own = batches[:, self.share.rank :: self.share.processes].tolist()
        yield from self.load(Seen(self.data, self.augment, seed), own)

    def evaluate(self) -> Iterator[Batch]:
        own = torch.arange(self.share.rank, len(self.held_out), self.share.processes)
        at_once = SCENE_BATCH if isinstance(self.held_out, SceneMaps) else 1
        batches = [part.tolist() for part in own.split(at_once)]
        yield from self.load(Seen(self.held_out, self.prepare), batches)

    def load(self, data: Dataset, batches: list[list[int]]) -> DataLoader:
        return DataLoader(data, batch_sampler=batches, num_workers=self.workers)


class Seen(Dataset):
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
    share, size, photographs = share or Share(), config.image_size, config.data != "scenes"
    prepare = preparation(config.model, size, photographs)
    if photographs:
        train = AdeFolder(config.data, "train", config.train_images)
        held_out = AdeFolder(config.data, "validation", config.eval_images)
        augment = augmentation(size, normalisation(config.model), distort=bool(config.color_jitter))
        return SegmentationSource(train, held_out, config, share, augment, prepare)
    scenes, cache = sized(SceneConfig(seed=config.data_seed), size), config.cache or None
    train = SceneMaps(scenes, "train", config.train_images or TRAIN, cache)
    held_out = SceneMaps(scenes, "validation", config.eval_images or HELD_OUT, cache)
    return SegmentationSource(train, held_out, config, share, prepare, prepare)


def held_out_batches(
    data: str, model: str, size: int, split: str = "", images: int = 0, scenes: SceneConfig | None = None
) -> tuple[tuple[str, ...], DataLoader]:
    """Class names and batches to score: of scenes by default the test split, of a folder the validation."""
    photographs = data != "scenes"
    if photographs:
        held_out = AdeFolder(data, split or "validation", images)
    else:
        held_out = SceneMaps(scenes or sized(SceneConfig(), size), split or "test", images or TEST)
    seen = Seen(held_out, preparation(model, size, photographs))
    return held_out.class_names, DataLoader(seen, batch_size=1 if photographs else SCENE_BATCH)
