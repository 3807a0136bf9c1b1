"""End to end: JPEGs that are made here, decoded and cropped by timm's loader, and classified.

The files are crops of the two photographs that scikit-learn ships, 500 × 375 as an ImageNet image on
average, so that decoding costs what it costs on photographs.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.throughput.variants import Feed, Runner, Workload, dtype_of

if TYPE_CHECKING:
    from torch import nn

BATCHES = 4  # of a pass over the files
PHOTO_SIZE = (500, 375)


def write_files(folder: Path, count: int, seed: int = 0) -> None:
    """``count`` photographs in two classes' folders."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(seed)
    sources = [Image.fromarray(image) for image in load_sample_images().images]
    for number in range(count):
        source = sources[number % len(sources)]
        scale = random.uniform(0.6, 0.87)
        width, height = round(source.width * scale), round(source.height * scale)
        left, top = random.integers(source.width - width + 1), random.integers(source.height - height + 1)
        crop = source.crop((left, top, left + width, top + height)).resize(PHOTO_SIZE)
        path = folder / f"class{number % 2}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        crop.save(path, quality=90)


def make_loader(folder: Path, work: Workload, workers: int):
    """timm's loader for validation: decode, resize, crop in the centre, normalise, batch."""
    import torch
    from timm.data import create_dataset, create_loader

    return create_loader(
        create_dataset("folder", folder),
        input_size=(3, *work.size),
        batch_size=work.batch_size,
        interpolation="bicubic",
        crop_pct=0.9,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=work.device.startswith("cuda"),
        use_prefetcher=False,
        device=torch.device(work.device),
    )


@contextmanager
def feeding_from_files(work: Workload, workers: int) -> Iterator[Feed]:
    """Each call of a model's runner is a pass over all files, decoded anew."""
    if work.frames > 1:
        raise ValueError("end to end is for images; clips would need a video decoder")
    with tempfile.TemporaryDirectory() as folder:
        count = BATCHES * work.batch_size
        write_files(Path(folder), count)
        loader = make_loader(Path(folder), work, workers)
        yield Feed(lambda model: Runner(passing(model, loader, work)), count, lambda: deque(loader, 0))


def passing(model: nn.Module, loader, work: Workload):
    import torch

    dtype = dtype_of(work.precision)

    def call() -> None:
        with torch.inference_mode():
            for images, _ in loader:
                model(images.to(work.device, dtype, non_blocking=True))

    return call
