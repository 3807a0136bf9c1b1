"""Photographs to learn from and to test on, split by photograph, and their crops.

Held out are the photographs of PyPI's packages, one in five of those of Debian's packages of backgrounds
(``stvit.data.photographs``), and the street scenes of OpenCV's text examples; none of them, and no copy of one, is
learned from. What else Debian's packages bring is for training alone: backgrounds, and the pictures in OpenCV's
documentation that are no diagrams.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stvit.data.crops import SIDE, image_files, scaled
from stvit.data.images import read_rgb
from stvit.data.photographs import debian, fingerprint, is_held_out, photographs_below, shipped

MORE_FOLDERS = (
    Path("/usr/share/backgrounds"),
    Path("/usr/share/wallpapers"),
    Path("/usr/share/doc/opencv-doc"),
)
STREETS = Path("/usr/share/doc/opencv-doc/examples/text")
PHOTO_KINDS = ("scene", "texture", "science")
PACKED = ("learn", "test")
FLAT = 0.15  # share of the pixels that may have one colour; in diagrams and screenshots more have


def split(folder: str | Path = "") -> tuple[list[Path], list[Path]]:
    """Files to learn from and to test on; ``folder``: what ``pack`` wrote, or photographs of your own to learn from."""
    packed = [Path(folder) / name for name in PACKED] if folder else []
    if packed and all(place.is_dir() for place in packed):
        return image_files(packed[0]), image_files(packed[1])
    known = [*shipped(PHOTO_KINDS), *debian()]
    test = [one.path for one in known if is_held_out(one)] + list(photographs_below(STREETS))
    marks = {fingerprint(path) for path in test}
    places = (*MORE_FOLDERS, *((Path(folder),) if folder else ()))
    found = [path for place in places for path in photographs_below(place) if STREETS not in path.parents]
    train = [path for path in unlike(found, marks) if not is_diagram(path)]
    return train, test


def pack(out: Path) -> Path:
    """Write all photographs, scaled down, to a folder for a machine that has no such packages; 15 MB."""
    for name, files in zip(PACKED, split(), strict=True):
        (out / name).mkdir(parents=True, exist_ok=True)
        for number, file in enumerate(files):
            scaled(read_rgb(file), SIDE).save(out / name / f"{number:04d}.jpg", quality=92)
    return out


def unlike(paths: list[Path], marks: set) -> list[Path]:
    """Those whose thumbnail is none of ``marks`` and no earlier one's."""
    seen, kept = set(marks), []
    for path in paths:
        mark = fingerprint(path)
        if mark not in seen:
            seen.add(mark)
            kept.append(path)
    return kept


def is_diagram(path: Path) -> bool:
    """Do many pixels have one and the same of 4,096 colours? Checked before smoothing."""
    from PIL import Image

    with Image.open(path) as image:
        small = np.asarray(image.convert("RGB").resize((96, 96), Image.Resampling.NEAREST)) // 16
    codes = small.reshape(-1, 3).astype(int) @ (256, 16, 1)
    return bool(np.bincount(codes).max() / len(codes) > FLAT)


def crops(cache: Path, train: int, test: int, size: int, folder: str | Path = "") -> dict:
    """Crops (N, 3, size, size) uint8 to learn from and to test on, and what photograph the latter are of."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    from stvit.data.crops import cut

    file = Path(cache) / f"crops-{size}-{train}-{test}.safetensors"
    if not file.exists():
        learned, held = split(folder)
        tensors = {
            "train": cut(learned, train, size, seed=1),
            "test": cut(held, test, size, seed=2, mirrored=False),
        }
        tensors["owner"] = torch.arange(test) % len(held)
        names = {"train": "\n".join(map(str, learned)), "test": "\n".join(map(str, held))}
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_name(f".part-{file.name}")
        save_file(tensors, scratch, metadata=names)
        scratch.replace(file)
    with safe_open(file, framework="pt") as kept:
        found = {name: kept.get_tensor(name) for name in ("train", "test", "owner")}
        return {**found, "photographs": {name: text.split("\n") for name, text in kept.metadata().items()}}
