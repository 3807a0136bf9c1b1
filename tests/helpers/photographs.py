"""Small real JPEGs: crops of the two photographs that scikit-learn brings, as a folder of two classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images


def write_photographs(root: Path, train: int, validation: int, size: int, seed: int = 0) -> Path:
    """``root/SPLIT/china/*.jpg`` and ``root/SPLIT/flower/*.jpg``, ``train`` and ``validation`` in each."""
    chance = np.random.default_rng(seed)
    for name, image in zip(("china", "flower"), load_sample_images().images, strict=True):
        for split, count in (("train", train), ("validation", validation)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                top, left = (int(chance.integers(side - size)) for side in image.shape[:2])
                Image.fromarray(image[top : top + size, left : left + size]).save(folder / f"{number}.jpg")
    return root
