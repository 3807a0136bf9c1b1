"""Tiny copies of torchvision's data sets on disk: MNIST's format and CIFAR's."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np

COUNTS = {"train": 40, "t10k": 20}


def idx(array: np.ndarray) -> bytes:
    """Bytes of MNIST's format: type and number of dimensions, their sizes, the numbers."""
    return (
        struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    )


def write_mnist(folder: Path, packed: bool = False, labels: dict | None = None) -> dict[str, np.ndarray]:
    """The four files of a MNIST with random images, and what is in them; ``labels`` replaces those of a split."""
    folder.mkdir(parents=True)
    chance, content = np.random.default_rng(0), {}
    for split, count in COUNTS.items():
        content[f"{split}-images-idx3-ubyte"] = chance.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        given = (labels or {}).get(split, np.arange(count) % 10)
        content[f"{split}-labels-idx1-ubyte"] = np.asarray(given, dtype=np.uint8)
    for name, array in content.items():
        path = folder / f"{name}{'.gz' * packed}"
        path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    return content


def write_cifar10(root: Path, builder, monkeypatch) -> np.ndarray:
    """CIFAR-10 with four images a file, whose checksums ``builder`` then expects; the training images."""
    folder, chance, images = root / builder.base_folder, np.random.default_rng(0), []
    folder.mkdir(parents=True)

    def write(name: str, content: dict) -> list[str]:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    def batch(name: str) -> list[str]:
        pixels = chance.integers(0, 256, (4, 3072), dtype=np.uint8)
        if name.startswith("data"):
            images.append(pixels)
        return write(name, {"data": pixels, "labels": [0, 1, 2, 9]})

    monkeypatch.setattr(builder, "train_list", [batch(name) for name, _ in builder.train_list])
    monkeypatch.setattr(builder, "test_list", [batch(name) for name, _ in builder.test_list])
    name, checksum = write("batches.meta", {"label_names": [f"class {i}" for i in range(10)]})
    monkeypatch.setattr(builder, "meta", {"filename": name, "key": "label_names", "md5": checksum})
    return np.concatenate(images).reshape(-1, 3, 32, 32)
