"""Small image sets held as one tensor on the device, with augmentation in batches: no worker processes.

    source = small_set_source("fashion_mnist", config, "", Share())

Each image has its own crop and mirroring, drawn from (seed, epoch, image). Policies of automatic augmentation and
colour jitter are torchvision's, drawn for groups of ``GROUP`` images; mixup and cutmix are the loss's (timm).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from timm.data.random_erasing import RandomErasing
from torch import Tensor, nn
from torchvision.transforms import v2

from stvit.data.folders import MEAN, STD
from stvit.data.share import Batch, Share, ShuffledOrder, in_order
from stvit.data.small_sets import SETS, read_small_set
from stvit.extras import require

PADDING = 1 / 8  # part of its side by which an image is padded before it is cropped
GROUP = 16  # images that share a draw of automatic augmentation
POLICY = re.compile(r"rand(?:-m(?P<magnitude>\d+)|-n(?P<steps>\d+)|-(?:mstd|inc|w|p)[\d.inf]+)*")


class HeldImages:
    """Images (N, C, H, W) uint8 and labels (N,), on the device where they take at most half of its free memory."""

    def __init__(self, images: Tensor, labels: Tensor, class_names: tuple[str, ...], device: torch.device):
        self.device, self.class_names = device, class_names
        where = device if images.nbytes < free_memory(device) / 2 else torch.device("cpu")
        self.images, self.labels = images.to(where), labels.to(where)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) uint8 and (B,), on the device."""
        numbers = numbers.to(self.images.device)
        images, labels = self.images[numbers], self.labels[numbers]
        return images.to(self.device).expand(-1, 3, -1, -1), labels.to(self.device)


class HeldSource:
    """Batches of two tensors, of which each process takes its share."""

    def __init__(self, train: HeldImages, held_out: HeldImages, config, share: Share, mirrored: bool):
        self.images, self.held_out, self.class_names = train, held_out, train.class_names
        self.order = ShuffledOrder(len(train), config.batch_size, config.seed, share)
        self.share, self.steps, self.size = share, self.order.steps, config.image_size
        self.augment = Augmentation(config, mirrored, train.device)

    def train(self, epoch: int) -> Iterator[Batch]:
        chance = self.order.chance(epoch)
        batches = self.order.batches(chance)
        places = torch.rand(len(self.images), 3, generator=chance)  # across, down, mirrored
        for numbers in batches:
            images, labels = self.images.batch(numbers)
            yield self.augment(images, places[numbers].to(images.device)), labels

    def evaluate(self) -> Iterator[Batch]:
        yield from held_batches(self.held_out, self.size, self.share, self.order.per_process)


def held_batches(held: HeldImages, size: int, share: Share, batch_size: int) -> Iterator[Batch]:
    for numbers in in_order(len(held), share, batch_size):
        images, labels = held.batch(numbers)
        yield normalise(fit(images, size)), labels


class Augmentation:
    """Crop and mirror, automatic augmentation or colour jitter, resize, normalise, erase."""

    def __init__(self, config, mirrored: bool, device: torch.device):
        self.size, self.mirrored, self.padding = config.image_size, mirrored, config.padding
        self.policy = policy(config.auto_augment, config.color_jitter)
        self.erase = RandomErasing(config.reprob, mode="pixel", device=str(device))

    def __call__(self, images: Tensor, places: Tensor) -> Tensor:
        images = shift(images, places, self.mirrored, self.padding)  # (B, 3, H, W) uint8
        if self.policy is not None:
            images = torch.cat([self.policy(group) for group in images.split(GROUP)])
        return self.erase(normalise(fit(images, self.size)))


def shift(images: Tensor, places: Tensor, mirrored: bool, padding: float = PADDING) -> Tensor:
    """Each image (B, C, H, W) padded and cropped to its size, and half of them mirrored.

    places: (B, 3) chances in [0, 1): across, down, mirrored
    """
    count, channels, height, width = images.shape
    rooms = (2 * int(width * padding), 2 * int(height * padding))
    left, top = ((places[:, i] * (room + 1)).long() for i, room in enumerate(rooms))
    columns = torch.arange(width, device=images.device).expand(count, -1)  # (B, W)
    if mirrored:
        columns = torch.where(places[:, 2:] < 0.5, columns.flip(1), columns)
    rows = top[:, None] + torch.arange(height, device=images.device)  # (B, H)
    padded = F.pad(images, (rooms[0] // 2, rooms[0] - rooms[0] // 2, rooms[1] // 2, rooms[1] - rooms[1] // 2))
    index = torch.arange(count, device=images.device)[:, None, None, None]
    plane = torch.arange(channels, device=images.device)[None, :, None, None]
    return padded[index, plane, rows[:, None, :, None], (left[:, None] + columns)[:, None, None, :]]


def policy(auto_augment: str, color_jitter: float) -> nn.Module | None:
    """torchvision's RandAugment of the strength that timm's name says (m9 of 10 is 27 of 30), or colour jitter."""
    if auto_augment:
        found = POLICY.fullmatch(auto_augment)
        if not found:
            raise ValueError(
                f"auto_augment {auto_augment!r}: images held on the device have RandAugment alone, such as rand-m9-n2"
            )
        magnitude, steps = int(found["magnitude"] or 10), int(found["steps"] or 2)
        return v2.RandAugment(steps, min(30, 3 * magnitude), 31)
    return v2.ColorJitter(*[color_jitter] * 3) if color_jitter else None


def fit(images: Tensor, size: int) -> Tensor:
    """(B, 3, H, W) uint8 → (B, 3, size, size) in [0, 1]."""
    images = images.float() / 255
    if images.shape[2:] == (size, size):
        return images
    resized = F.interpolate(images, (size, size), mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0, 1)


def normalise(images: Tensor) -> Tensor:
    mean, std = (images.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images - mean) / std


def free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return require("psutil", "asking for free memory").virtual_memory().available


def small_set_source(name: str, config, place: str, share: Share) -> HeldSource:
    """``--data fashion_mnist`` and the like: training and evaluation batches."""
    train, held_out = (open_held(name, config, place, training) for training in (True, False))
    return HeldSource(train, held_out, config, share, SETS[name].mirrored)


def held_out_small_set(name: str, config, place: str, split: str) -> tuple[tuple[str, ...], Iterator[Batch]]:
    """Class names, and batches as in evaluation: of the training images, or of the one held-out split."""
    held = open_held(name, config, place, training=split == "train")
    return held.class_names, held_batches(held, config.image_size, Share(), config.batch_size)


def open_held(name: str, config, place: str, training: bool) -> HeldImages:
    images, labels, names = read_small_set(name, place, training, config.image_size, config.cache)
    count = config.train_images if training else config.eval_images
    if count and count < len(labels):
        chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(config.data_seed))[
            :count
        ]
        images, labels = images[chosen], labels[chosen]
    cuda = torch.cuda.is_available() and config.device != "cpu"
    device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    return HeldImages(images, labels, names, device)
