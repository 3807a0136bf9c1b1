"""Clips of moving scenes that need no download: the class is the direction in which the marked object moves.

    clips = Clips(moving(32), frames=8, split="train", count=1024)
    images, labels = clips[0]     # (3, T, H, W) uint8; an index into MOTIONS

Every object has a motion of its own, so that how much moves where says nothing about the marked one, and
one frame says nothing at all: a model must compare frames, find the mark and follow it. Objects are
larger and fewer than in still scenes, which a short training learns to follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from tqdm import trange

from stvit.data.drawn import DrawnSource, drawn_batches
from stvit.data.scenes import MOTIONS, SceneConfig, draw_clips, sized
from stvit.data.share import Batch, Share
from stvit.data.store import address, keep

CHUNK = 128
TRAINING_CLIPS, TEST_CLIPS = 16384, 4096  # how many clips there are unless another number is asked for
MOVING = SceneConfig(min_radius=5.0, max_radius=10.0, min_objects=3, max_objects=5, outline=2.4)


class Clips(torch.utils.data.Dataset):
    """The first ``count`` clips of a split as (clip, motion), clips uint8, drawn once and held in memory."""

    classes = MOTIONS

    def __init__(self, config: SceneConfig, frames: int, split: str, count: int, cache: str | None = None):
        if frames < 2:
            raise ValueError(f"motion needs at least 2 frames, not {frames}")
        self.config, self.frames, self.split = config, frames, split
        name = f"clips{frames}-{address(config, split, count)}"
        tensors = keep(lambda: draw(config, frames, split, count), name, cache)
        self.images, self.labels = tensors["images"], tensors["labels"]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]

    def __getitems__(self, indices):
        return self.images[indices], self.labels[indices]


def draw(config: SceneConfig, frames: int, split: str, count: int) -> dict[str, Tensor]:
    images = torch.empty(count, 3, frames, config.size, config.size, dtype=torch.uint8)
    labels = torch.empty(count, dtype=torch.int64)
    steps = trange(0, count, CHUNK, desc=f"Drawing {split} clips", unit_scale=CHUNK, disable=count < 4096)
    for start in steps:
        part = slice(start, min(start + CHUNK, count))
        clip, motion = draw_clips(config, torch.arange(part.start, part.stop), frames, split)
        images[part] = torch.stack([scenes.images for scenes in clip], dim=2)
        labels[part] = motion
    return {"images": images, "labels": labels}


def clip_source(config, place: str, share: Share) -> DrawnSource:
    """``--data clips``: drawn clips for training and validation."""
    train = open_clips(config, "train", config.train_images or TRAINING_CLIPS)
    held_out = open_clips(config, "validation", config.eval_images or TEST_CLIPS)
    return DrawnSource(train, held_out, config.batch_size, config.seed, share)


def held_out_clips(config, place: str, split: str) -> tuple[tuple[str, ...], Iterator[Batch]]:
    """Names of the motions, and batches of the clips of a split."""
    clips = open_clips(config, split, config.eval_images or TEST_CLIPS)
    return MOTIONS, drawn_batches(clips, batch_size=config.batch_size)


def moving(size: int, seed: int = 0) -> SceneConfig:
    """What scenes in motion are like, in pixels of images of this size."""
    return sized(replace(MOVING, seed=seed), size)


def open_clips(config, split: str, count: int) -> Clips:
    return Clips(
        moving(config.image_size, config.data_seed), config.clip_length, split, count, config.cache or None
    )
