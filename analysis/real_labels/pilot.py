"""How the recipe is chosen: on the dense model alone, and on training images that it does not learn from.

The first 50,000 training images are written as a data set of their own, with the last 10,000 as what it is tested on;
the test images of Fashion-MNIST are not looked at.
"""

from __future__ import annotations

import struct
from pathlib import Path

from analysis.real_labels.cells import SCRATCH, RealLabelCell
from analysis.real_labels.design import DATA, DENSE_ROW, MODEL

LEARNT = 50_000


def run(changes: dict, seed: int = 100, scratch: Path = SCRATCH) -> dict:
    """Train the dense model with ``changes`` of the recipe from a seed that the grid does not use; its scores."""
    from stvit.train import train

    folder = scratch / "pilot"
    if not (folder / "FashionMNIST" / "raw").is_dir():
        write_split(folder)
    name = "-".join(f"{key}={value}" for key, value in sorted(changes.items())) or "recipe"
    given = dict(data=f"{DATA}:{folder}", eval_images=0, out=str(scratch / f"pilot-{name}-{seed}"))
    return train(RealLabelCell(DENSE_ROW, seed).config(**given, **changes))


def write_split(folder: Path, learnt: int = LEARNT) -> None:
    """Training images as the files of Fashion-MNIST: the first ones to learn from, the rest to be tested on."""
    from stvit.data.small_sets import read_small_set

    images, labels, _ = read_small_set(DATA, "", True, MODEL["img_size"])
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for split, part in (("train", slice(learnt)), ("t10k", slice(learnt, None))):
        write_idx(raw / f"{split}-images-idx3-ubyte", images[part, 0])
        write_idx(raw / f"{split}-labels-idx1-ubyte", labels[part])


def write_idx(path: Path, values) -> None:
    """MNIST's format: type and number of dimensions, their sizes, the numbers."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.byte().numpy().tobytes())
