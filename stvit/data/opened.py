"""Where batches come from: one interface over scenes and what timm's loaders read.

    source = open_source(config, rank, processes)
    for images, targets in source.train(epoch): ...   # this process's share, float and normalised
    for images, targets in source.evaluate(): ...     # its share of the evaluation images, each once

The batches of all processes together are those that one process would have had.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stvit.data.scenes import CLASSES, SceneConfig, Scenes, sized

Batch = tuple[Tensor, Tensor]


@dataclass
class Share:
    """The part of the work that is this process's."""

    rank: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.processes:
            raise ValueError(f"process {self.rank} of {self.processes}")

    def of(self, batch: int) -> int:
        if batch % self.processes:
            raise ValueError(f"a batch of {batch} cannot be shared equally by {self.processes} processes")
        return batch // self.processes


class SceneSource:
    """Scenes in an order that (seed, epoch) decide; each process takes every n-th image of a batch."""

    class_names = CLASSES

    def __init__(self, scenes: Scenes, held_out: Scenes, batch_size: int, seed: int, share: Share):
        share.of(batch_size)
        self.scenes, self.held_out, self.batch_size = scenes, held_out, batch_size
        self.seed, self.share = seed, share
        self.steps = len(scenes) // batch_size

    def train(self, epoch: int) -> Iterator[Batch]:
        chance = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.scenes), generator=chance)
        for batch in order[: self.steps * self.batch_size].split(self.batch_size):
            images, labels = self.scenes.__getitems__(batch[self.share.rank :: self.share.processes])
            yield normalise(images), labels

    def evaluate(self) -> Iterator[Batch]:
        yield from scene_batches(self.held_out, self.share)


def scene_batches(scenes: Scenes, share: Share | None = None, batch_size: int = 64) -> Iterator[Batch]:
    share = share or Share()
    for part in torch.arange(share.rank, len(scenes), share.processes).split(batch_size):
        images, labels = scenes.__getitems__(part)
        yield normalise(images), labels


def normalise(images: Tensor) -> Tensor:
    """uint8 → [−1, 1]."""
    return images.float() / 127.5 - 1


class TimmSource:
    """ImageNet-style folders, Hugging Face data sets and WebDataset shards, as timm reads them."""

    def __init__(self, train: Iterable, held_out: Iterable, class_names: tuple[str, ...], share: Share):
        self.loader, self.held_out = train, held_out
        self.class_names, self.share, self.steps = class_names, share, len(train)

    def train(self, epoch: int) -> Iterator[Batch]:
        sampler = getattr(self.loader, "sampler", None)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        elif hasattr(self.loader.dataset, "set_epoch"):
            self.loader.dataset.set_epoch(epoch)
        yield from self.loader

    def evaluate(self) -> Iterator[Batch]:
        yield from self.held_out


def open_source(config, share: Share | None = None) -> SceneSource | TimmSource:
    """What ``config.data`` names; ``config`` is a TrainConfig or has the same fields."""
    share = share or Share()
    if config.data == "clips":
        from stvit.data.clips import clip_source

        return clip_source(config, share)
    if config.data.startswith("kinetics:"):
        from stvit.data.videos import video_source

        return video_source(config, share)
    if config.data != "scenes":
        from stvit.data.folders import timm_source

        return timm_source(config, share)
    scenes = sized(SceneConfig(seed=config.data_seed), config.image_size)
    train = Scenes(scenes, "train", config.train_images or 32768, config.cache or None)
    held_out = Scenes(scenes, "validation", config.eval_images or 4096, config.cache or None)
    return SceneSource(train, held_out, config.batch_size, config.seed, share)
