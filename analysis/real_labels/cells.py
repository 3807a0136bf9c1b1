"""One cell: a row's model trained from one seed on Fashion-MNIST, and which test images it classifies correctly."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.real_labels.design import DATA, MODEL, SEEDS, TABLES, TRAINING
from analysis.results import HOME, RESULTS
from analysis.shared import cells as trained
from analysis.shared.cells import TrainedCell
from analysis.shared.rows import Row

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

CELLS = RESULTS / "real_labels" / "cells"
SCRATCH = HOME / ".cache" / "real_labels"
CLASSES, TEST_IMAGES = 10, 10_000


@dataclass(frozen=True)
class RealLabelCell(TrainedCell):
    """A row's model from one seed."""

    row: Row
    seed: int

    def config(self, **changes):
        from stvit.training.config import TrainConfig

        args = {**MODEL, **self.row.args}
        given = dict(model=self.row.model, model_args=args, seed=self.seed)
        return TrainConfig.of(**{**TRAINING, **self.row.training, **given, **changes})

    def trained_otherwise(self, changes: dict) -> RealLabelCell:
        """The same row and seed with another training, which makes it another cell."""
        return replace(self, row=replace(self.row, training={**self.row.training, **changes}))

    def content(self) -> dict:
        """What decides the outcome: the training and the test."""
        return {"training": self.config().chosen(), "test_images": TEST_IMAGES}


def plan(tables=TABLES, seeds=SEEDS) -> list[RealLabelCell]:
    """Every cell once, seed by seed, so that rows can be compared as soon as a seed is through."""
    cells: dict[str, RealLabelCell] = {}
    for seed in seeds:
        for table in tables:
            for row in table.rows:
                cell = RealLabelCell(row, seed)
                cells.setdefault(cell.address, cell)
    return list(cells.values())


def record_of(cell: RealLabelCell, folder: Path = CELLS) -> dict | None:
    return trained.read(cell, folder)


def run_cell(cell: RealLabelCell, folder: Path = CELLS, scratch: Path = SCRATCH, device: str = "cpu") -> dict:
    """Train one cell or continue its training, test it, and write its record."""
    from stvit.checkpoints import load_checkpoint

    def measure(model) -> dict:
        config = cell.config()
        return {"test": test(model, config), "images": config.epochs * trained_on(config), **facts(cell)}

    return trained.run(cell, folder, scratch / cell.address, scratch, load_checkpoint, measure, device)


def run(
    cells: list[RealLabelCell], folder: Path = CELLS, scratch: Path = SCRATCH, device: str = "cpu", **how
) -> int:
    """Train what has no record yet; ``how``: jobs, backend and minutes of ``analysis.shared.cells.run_missing``."""
    return trained.run_missing(
        cells, partial(run_cell, device=device), trained.described, folder, scratch, **how
    )


def trained_on(config) -> int:
    """Training images in one pass; those that fill no last batch are left out."""
    from stvit.data.small_sets import read_small_set

    count = config.train_images or len(read_small_set(DATA, "", True, config.image_size)[1])
    return count // config.batch_size * config.batch_size


def test(model: nn.Module, config) -> dict:
    """Right answers on the test images, one by one, and what these images are."""
    import torch

    from stvit.data.on_device import HeldImages, held_batches
    from stvit.data.share import Share
    from stvit.data.small_sets import read_small_set
    from stvit.evaluate import half_width

    images, labels, names = read_small_set(DATA, "", False, config.image_size)
    images, labels = images[:TEST_IMAGES], labels[:TEST_IMAGES]
    held = HeldImages(images, labels, names, torch.device("cpu"))
    with torch.inference_mode():
        told = torch.cat([model(x).argmax(1) for x, _ in held_batches(held, config.image_size, Share(), 100)])
    right = told == labels
    top1 = 100 * int(right.sum()) / len(right)
    return {
        "images": len(right),
        "right": int(right.sum()),
        "top1": round(top1, 4),
        "half_width": round(half_width(top1, len(right)), 4),
        "each": pack(right),
        "data": hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()[:16],
    }


def pack(right: torch.Tensor) -> str:
    """Truth values as text: a bit an image, eight in a byte, the bytes in base 64."""
    import numpy as np

    return base64.b64encode(np.packbits(right.numpy())).decode()


def unpack(each: str, images: int) -> np.ndarray:
    """(images,) truth values from what ``pack`` made of them."""
    import numpy as np

    return np.unpackbits(np.frombuffer(base64.b64decode(each), np.uint8), count=images).astype(bool)


def facts(cell: RealLabelCell) -> dict:
    """Which model it is: a fingerprint of its architecture, and its cost."""
    from analysis.shared.counting import count
    from analysis.shared.twins import fingerprint
    from stvit.training.build import build_model

    config = cell.config()
    model = build_model(config, CLASSES).eval().requires_grad_(False)
    cost = count(model, (1, 3, config.image_size, config.image_size))
    return {"fingerprint": fingerprint(model), "multiply_adds": int(cost.total)}
