"""Scenes and clips drawn once: kept in memory, and in a cache folder where one is given."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import trange

from stvit.data.scenes import CLASSES, SceneConfig, draw_scenes

DRAWING = 1  # raise when the same configuration gives other images
CHUNK = 256


class Scenes(torch.utils.data.Dataset):
    """The first ``count`` scenes of a split as (image, label), images uint8, drawn once and held in memory."""

    classes = CLASSES

    def __init__(self, config: SceneConfig, split: str, count: int, cache: str | Path | None = None):
        self.config, self.split = config, split
        name = f"scenes-{address(config, split, count)}"
        tensors = keep(lambda: draw(config, split, count), name, cache)
        self.images, self.labels, self.radii = tensors["images"], tensors["labels"], tensors["radii"]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]

    def __getitems__(self, indices):
        return self.images[indices], self.labels[indices]


def keep(
    make: Callable[[], dict[str, Tensor]], name: str, cache: str | Path | None = None
) -> dict[str, Tensor]:
    """The tensors from ``make``; with a cache folder they are written there once and read from there later."""
    if cache is None:
        return make()
    file = Path(cache) / f"{name}.safetensors"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_name(f".part-{os.getpid()}-{file.name}")
        save_file(make(), scratch)
        os.replace(scratch, file)  # whoever comes second writes the same bytes
    return load_file(file)


def draw(config: SceneConfig, split: str, count: int) -> dict[str, Tensor]:
    images = torch.empty(count, 3, config.size, config.size, dtype=torch.uint8)
    labels, radii = torch.empty(count, dtype=torch.int64), torch.empty(count)
    for start in trange(
        0, count, CHUNK, desc=f"Drawing {split} scenes", unit_scale=CHUNK, disable=count < 8192
    ):
        part = slice(start, min(start + CHUNK, count))
        scenes = draw_scenes(config, torch.arange(part.start, part.stop), split)
        images[part], labels[part], radii[part] = scenes.images, scenes.labels, scenes.radii[:, 0]
    return {"images": images, "labels": labels, "radii": radii}


def address(config: SceneConfig, split: str, count: int) -> str:
    content = json.dumps([DRAWING, asdict(config), split, count], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
