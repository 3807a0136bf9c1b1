"""Random crops of photographs as one tensor: much unlabelled data out of few images.

    cut(files, count=10000, size=126, seed=0)      # (count, 3, 126, 126) uint8, in turn over the files

Each crop is a function of (seed, its number), so that more crops are the same ones and then others. One large
photograph, cropped heavily, teaches a student much of what its teacher knows (Asano and Saeed, ICLR 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stvit.data.images import read_rgb

AREA = (0.08, 0.7)  # of the photograph that a crop covers
ASPECT = (3 / 4, 4 / 3)
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SIDE = 512  # pixels of a photograph's shorter side, to which it is scaled down before it is cropped


def cut(files: Sequence[Path], count: int, size: int, seed: int = 0, mirrored: bool = True) -> Tensor:
    """(count, 3, size, size) uint8; half of the crops are mirrored. ImageError names a file that cannot be read."""
    if not files:
        raise ValueError("no photographs to cut crops from")
    images = torch.empty(count, 3, size, size, dtype=torch.uint8)
    for number, file in enumerate(files[:count]):  # each is opened once
        picture = scaled(read_rgb(file), max(SIDE, 2 * size))
        for place in range(number, count, len(files)):
            chance = np.random.default_rng([seed, place])
            crop = picture.resize((size, size), Image.Resampling.BICUBIC, box=draw_box(*picture.size, chance))
            if mirrored and chance.uniform() < 0.5:
                crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            images[place] = torch.from_numpy(np.array(crop)).permute(2, 0, 1)
    return images


def scaled(picture: Image.Image, side: int) -> Image.Image:
    """Scaled down until the shorter side has ``side`` pixels, if it has more."""
    factor = side / min(picture.size)
    if factor >= 1:
        return picture
    size = tuple(max(1, round(length * factor)) for length in picture.size)
    return picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=3)


def draw_box(
    width: int, height: int, chance: np.random.Generator, share: tuple[float, float] = AREA
) -> tuple[float, float, float, float]:
    """(left, top, right, below) of a random part of an image, which covers ``share`` of it, from least to most."""
    area = width * height * chance.uniform(*share)
    aspect = np.exp(chance.uniform(*np.log(ASPECT)))
    across, down = min(width, np.sqrt(area * aspect)), min(height, np.sqrt(area / aspect))
    left, top = chance.uniform(0, width - across), chance.uniform(0, height - down)
    return left, top, left + across, top + down


def image_files(folder: str | Path) -> list[Path]:
    """The image files of a folder and below, in the order of their names; ValueError where there are none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; --data names a folder of images")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise ValueError(f"{folder} holds no image ({', '.join(SUFFIXES)}), neither in it nor below it")
    return files
