"""Scenes as detectors see them: an image, and the boxes, classes and masks of what is seen of each object."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from tqdm import trange

from stvit.data.scenes import CLASSES, SceneConfig, draw_scenes, sized
from stvit.data.store import CHUNK, address, keep

COUNTS = {"train": 8192, "validation": 1024, "test": 2048}  # unless another number is asked for


class SceneObjects(torch.utils.data.Dataset):
    """The first ``count`` scenes of a split as (image (3, H, W) uint8, target), drawn once, held in memory.

    target: boxes (N, 4) x₀, y₀, x₁, y₁; labels (N,) from 1; masks (N, H, W) uint8; area, iscrowd (N,).
    Objects that others hide entirely are left out.
    """

    class_names = CLASSES

    def __init__(self, config: SceneConfig, split: str, count: int, cache: str | Path | None = None):
        self.config, self.count = config, count
        name = f"objects-{address(config, split, count)}"
        tensors = keep(lambda: draw(config, split, count), name, cache)
        self.images, self.instances = tensors["images"], tensors["instances"]
        self.classes, self.boxes = tensors["classes"], tensors["boxes"]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        boxes = self.boxes[i].float()  # (K, 4)
        seen = ((boxes[:, 2] > boxes[:, 0]) & (self.classes[i] >= 0)).nonzero().flatten()
        masks = (self.instances[i] == (seen + 1)[:, None, None]).to(torch.uint8)  # (N, H, W)
        return self.images[i], {
            "boxes": boxes[seen],
            "labels": self.classes[i][seen].long() + 1,
            "masks": masks,
            "area": masks.flatten(1).sum(1).float(),
            "iscrowd": torch.zeros(len(seen), dtype=torch.int64),
        }


def open_objects(config, place: str, split: str, count: int) -> SceneObjects:
    """``--data scenes`` of detection."""
    scenes = sized(SceneConfig(seed=config.data_seed), config.image_size)
    return SceneObjects(scenes, split, count or COUNTS[split], config.cache or None)


def draw(config: SceneConfig, split: str, count: int) -> dict[str, Tensor]:
    """Everything that the targets of ``count`` scenes need."""
    parts = [
        draw_scenes(config, torch.arange(start, min(start + CHUNK, count)), split)
        for start in trange(
            0, count, CHUNK, desc=f"Drawing {split} scenes", unit_scale=CHUNK, disable=count < 8192
        )
    ]
    return {
        "images": torch.cat([part.images for part in parts]),  # (count, 3, H, W)
        "instances": torch.cat([part.instances for part in parts]),  # (count, H, W)
        "classes": torch.cat([part.classes for part in parts]),  # (count, K)
        "boxes": torch.cat([part.boxes for part in parts]).to(torch.int16),  # (count, K, 4)
    }
