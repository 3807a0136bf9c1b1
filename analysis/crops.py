"""Random crops of photographs, the same for the same seed: what real models are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.images import read_photograph
from analysis.results import digest
from stvit.data.crops import draw_box
from stvit.data.photographs import Photograph

AREA = (0.15, 0.7)  # of the photograph that a crop covers


class Crops(NamedTuple):
    """Crops and where they are from; what is resampled, split or held out is photographs, never crops."""

    images: np.ndarray  # (count, size, size, 3) uint8
    owner: np.ndarray  # (count,), the number of the crop's photograph
    photographs: tuple[Photograph, ...]

    def record(self) -> dict:
        """For a report: the photographs with source, licence and checksum."""
        return {
            one.name: dict(source=one.source, licence=one.licence, digest=digest(one.path))
            for one in self.photographs
        }


def cut(photographs: Sequence[Photograph], count: int, size: int, seed: int = 0) -> Crops:
    """``count`` crops in turn over the photographs, each drawn from its own seed: more are the same and then others."""
    if not photographs:
        raise ValueError("no photographs to cut from: pip install 'stvit[real]', or name a folder of images")
    chosen = tuple(photographs[:count])
    images = np.empty((count, size, size, 3), np.uint8)
    owner = np.arange(count) % len(chosen)
    for number, photograph in enumerate(chosen):  # each is opened once
        picture = read_photograph(photograph.path, side=max(384, 2 * size))
        for place in np.flatnonzero(owner == number):
            box = draw_box(*picture.size, np.random.default_rng([seed, place]), AREA)
            images[place] = np.asarray(picture.resize((size, size), resample=3, box=box))
    return Crops(images, owner, chosen)


def middles(photographs: Sequence[Photograph], size: int) -> np.ndarray:
    """The middle of each photograph, for pictures: (n, size, size, 3) uint8."""
    from PIL import ImageOps

    return np.stack(
        [
            np.asarray(ImageOps.fit(read_photograph(one.path, side=2 * size), (size, size), method=3))
            for one in photographs
        ]
    )
