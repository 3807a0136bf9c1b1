"""Scenes as segmenters see them: an image and the class of every pixel, the ground being a class of its own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from stvit.data.objects import draw
from stvit.data.scenes import CLASSES, SceneConfig, sized
from stvit.data.store import address, keep

CLASS_NAMES = ("ground", *CLASSES)
COUNTS = {"train": 16384, "validation": 1024, "test": 2048}  # unless another number is asked for


class SceneMaps(torch.utils.data.Dataset):
    """The first ``count`` scenes of a split as (image (3, H, W), map (H, W)), uint8, drawn once, held in memory.

    ``instances`` (count, H, W) has k + 1 where object k is seen, 0 for the ground.
    """

    class_names = CLASS_NAMES

    def __init__(self, config: SceneConfig, split: str, count: int, cache: str | Path | None = None):
        self.config = config
        tensors = keep(lambda: draw(config, split, count), f"objects-{address(config, split, count)}", cache)
        self.images, self.instances = tensors["images"], tensors["instances"]
        self.maps = semantic(tensors["instances"], tensors["classes"])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i) -> tuple[Tensor, Tensor]:
        return self.images[i], self.maps[i]


def open_maps(config, place: str, split: str, count: int) -> SceneMaps:
    """``--data scenes`` of segmentation."""
    scenes = sized(SceneConfig(seed=config.data_seed), config.image_size)
    return SceneMaps(scenes, split, count or COUNTS[split], config.cache or None)


def semantic(instances: Tensor, classes: Tensor) -> Tensor:
    """(B, H, W) uint8 from instances (B, H, W) and their classes (B, K): 0 is the ground, k + 1 is class k."""
    lookup = torch.cat([torch.zeros_like(classes[:, :1]), classes + 1], dim=1).to(torch.uint8)  # (B, 1 + K)
    found = lookup.gather(1, instances.flatten(1).long())  # (B, H·W)
    return found.view_as(instances)
