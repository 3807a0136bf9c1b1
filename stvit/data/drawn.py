"""Batches of drawn scenes and clips, which are held in memory: shuffled for training, in order for evaluation."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from stvit.data.scenes import CLASSES, SceneConfig, sized
from stvit.data.share import Batch, Share, ShuffledOrder, in_order
from stvit.data.store import Scenes

TRAIN, VALIDATION, TEST = 32768, 4096, 20480  # how many scenes there are unless another number is asked for


class DrawnSource:
    """Drawn images or clips in an order that (seed, epoch) decide; each process takes every n-th of a batch."""

    def __init__(self, drawn, held_out, batch_size: int, seed: int, share: Share):
        self.drawn, self.held_out, self.share = drawn, held_out, share
        self.class_names = drawn.classes
        self.order = ShuffledOrder(len(drawn), batch_size, seed, share)
        self.steps = self.order.steps

    def train(self, epoch: int) -> Iterator[Batch]:
        for numbers in self.order.batches(self.order.chance(epoch)):
            images, labels = self.drawn.__getitems__(numbers)
            yield normalise(images), labels

    def evaluate(self) -> Iterator[Batch]:
        yield from drawn_batches(self.held_out, self.share)


def drawn_batches(drawn, share: Share | None = None, batch_size: int = 64) -> Iterator[Batch]:
    """Every image or clip once, over all processes, float and normalised."""
    for numbers in in_order(len(drawn), share or Share(), batch_size):
        images, labels = drawn.__getitems__(numbers)
        yield normalise(images), labels


def normalise(images: Tensor) -> Tensor:
    """uint8 → [−1, 1]."""
    return images.float() / 127.5 - 1


def scene_source(config, place: str, share: Share) -> DrawnSource:
    """``--data scenes``: drawn scenes for training and validation."""
    train = open_scenes(config, "train", config.train_images or TRAIN)
    held_out = open_scenes(config, "validation", config.eval_images or VALIDATION)
    return DrawnSource(train, held_out, config.batch_size, config.seed, share)


def held_out_scenes(config, place: str, split: str) -> tuple[tuple[str, ...], Iterator[Batch]]:
    """Names of the classes, and batches of the scenes of a split."""
    count = config.train_images or TRAIN if split == "train" else config.eval_images or TEST
    scenes = open_scenes(config, split, count)
    return CLASSES, drawn_batches(scenes, batch_size=config.batch_size)


def open_scenes(config, split: str, count: int) -> Scenes:
    return Scenes(
        sized(SceneConfig(seed=config.data_seed), config.image_size), split, count, config.cache or None
    )
