"""The small image sets of torchvision: found on this machine or downloaded, checked, and read as one tensor.

    images, labels, names = read_small_set("fashion_mnist", "", training=True, size=28)
    images      (N, C, H, W) uint8; C is 1 for grey images
    labels      (N,) indices into names

Looked for are the folder given, ``data``, the cache folder of this user, and where a system's package puts the files.
Reading is torchvision's own: where a file is unpickled (CIFAR), its checksum has been compared before.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import datasets
from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

from stvit.checkpoints.errors import first_line, some
from stvit.data.images import read_rgb
from stvit.data.store import keep

TRAIN_FLAG = ({"train": True}, {"train": False})
SPLIT_NAME = ({"split": "train"}, {"split": "test"})
SYSTEM = Path("/usr/share/datasets")


@dataclass(frozen=True)
class SmallSet:
    """A data set of torchvision's.

    builder: its class in ``torchvision.datasets``
    folder: what it has in the root folder (a pattern of names)
    splits: the class's arguments for training and for evaluation
    size: height and width of its images; of photographs, what micro models are given
    mirrored: mirror images belong to the same class
    package: Debian's, whose files are in SYSTEM without the ``dataset-``
    """

    builder: str
    folder: str
    splits: tuple[dict, dict]
    size: int
    mirrored: bool = True
    package: str = ""


SETS = {
    "mnist": SmallSet("MNIST", "MNIST/raw", TRAIN_FLAG, 28, mirrored=False, package="dataset-mnist"),
    "fashion_mnist": SmallSet(
        "FashionMNIST", "FashionMNIST/raw", TRAIN_FLAG, 28, package="dataset-fashion-mnist"
    ),
    "cifar10": SmallSet("CIFAR10", "cifar-10-batches-py", TRAIN_FLAG, 32),
    "cifar100": SmallSet("CIFAR100", "cifar-100-python", TRAIN_FLAG, 32),
    "stl10": SmallSet("STL10", "stl10_binary", SPLIT_NAME, 96),
    "svhn": SmallSet("SVHN", "*_32x32.mat", SPLIT_NAME, 32, mirrored=False),
    "oxford_iiit_pet": SmallSet(
        "OxfordIIITPet", "oxford-iiit-pet", ({"split": "trainval"}, {"split": "test"}), 64
    ),
    "flowers102": SmallSet("Flowers102", "flowers-102", SPLIT_NAME, 64),
    "food101": SmallSet("Food101", "food-101", SPLIT_NAME, 64),
}


def read_small_set(
    name: str, place: str, training: bool, size: int, cache: str = ""
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images, labels and class names of a split; ValueError where the files cannot be had or used.

    size: to which photographs of different sizes are cut (pets, flowers, food)
    """
    found = open_small_set(name, place, training)
    labels = torch.as_tensor(found.targets if hasattr(found, "targets") else labels_of(found))
    if hasattr(found, "data"):
        images = pixels(found.data)
    else:
        files = found._images if hasattr(found, "_images") else found._image_files
        key = f"{name}-{'train' if training else 'test'}-{size}"
        images = keep(lambda: {"images": squares(files, size)}, key, cache or None)["images"]
    names = tuple(getattr(found, "classes", ())) or tuple(map(str, range(10)))
    if len(images) != len(labels) or not len(labels):
        raise ValueError(f"{name} has {len(images)} images and {len(labels)} labels; its files are damaged")
    if labels.min() < 0 or labels.max() >= len(names):
        bounds = f"{int(labels.min())} to {int(labels.max())}"
        raise ValueError(f"{name} has labels from {bounds}, and {len(names)} classes; its files are damaged")
    return images, labels.long(), names


def labels_of(found) -> list[int] | np.ndarray:
    return found.labels if hasattr(found, "labels") else found._labels


def pixels(data: np.ndarray | Tensor) -> Tensor:
    """(N, C, H, W) from what torchvision holds: (N, H, W) grey, (N, H, W, 3), or (N, 3, H, W)."""
    images = torch.as_tensor(data)
    if images.ndim == 3:
        return images[:, None]  # (N, 1, H, W)
    return images.permute(0, 3, 1, 2).contiguous() if images.shape[3] == 3 else images


def squares(files: list[Path], size: int) -> Tensor:
    """(N, 3, size, size): the middle of each photograph, the shorter side resized."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return torch.stack(list(pool.map(lambda file: square(read_rgb(file), size), files)))


def square(image: Image.Image, size: int) -> Tensor:
    return pil_to_tensor(center_crop(resize(image, [size]), [size]))


def open_small_set(name: str, place: str, training: bool) -> torch.utils.data.Dataset:
    """torchvision's data set, from the first folder that has it, or downloaded."""
    which = SETS[name]
    build, split = getattr(datasets, which.builder), which.splits[not training]
    if place and not Path(place).is_dir():
        raise ValueError(
            f"there is no folder {place}, in which --data {name}:FOLDER looks for {which.folder}"
        )
    target = Path(place) if place else cache_folder()
    if not any(holds(root, which) for root in roots(place)):
        unpack(which, Path(place) if place else SYSTEM / which.package.removeprefix("dataset-"), target)
    for root in roots(place):
        if holds(root, which):
            check_whole(root / which.folder, which, f"{name} in {root / which.folder}")
            return attempt(lambda root=root: build(str(root), **split), f"{name} in {root / which.folder}")
    try:
        return build(str(target), **split, download=True)
    except Exception as error:  # no network, a server's answer, a damaged archive
        package = f" (on Debian: apt-get install {which.package})" if which.package else ""
        raise ValueError(
            f"{name} is not in {' or '.join(map(str, roots(place)))} and cannot be downloaded "
            f"({' '.join(str(error).split())[:200]}): put {which.folder} into a folder and give --data "
            f"{name}:FOLDER{package}"
        ) from None


def holds(root: Path, which: SmallSet) -> bool:
    return any(root.glob(which.folder))


def resources(which: SmallSet) -> list[str]:
    """The packed files of MNIST's format that a set has."""
    return [name for name, *_ in getattr(getattr(datasets, which.builder), "resources", ())]


def check_whole(folder: Path, which: SmallSet, what: str) -> None:
    lacking = [Path(name).stem for name in resources(which) if not (folder / Path(name).stem).is_file()]
    if lacking:
        raise ValueError(
            f"{what} is damaged or not whole: {some(lacking)} not there; remove it, and it is fetched again"
        )


def roots(place: str) -> list[Path]:
    return [Path(place)] if place else [Path("data"), cache_folder()]


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stvit" / "datasets"


def attempt(build, what: str):
    try:
        return build()
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{what} needs {error.name}, which is not installed: pip install {error.name}"
        ) from None
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(
            f"{what} is damaged or not whole: {first_line(error)}; remove it, and it is fetched again"
        ) from None


def unpack(which: SmallSet, place: Path, target: Path) -> None:
    """Unpack the files of MNIST's format that lie in ``place`` to where torchvision looks for them: all or none."""
    archives = [place / name for name in resources(which)]
    lacking = [archive.name for archive in archives if not archive.is_file()]
    if len(lacking) == len(archives):
        return
    if lacking:
        raise ValueError(f"{place} has no {some(lacking)}: {which.builder} is {len(archives)} files")
    folder = target / which.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-") as scratch:
        whole = Path(scratch, "whole")
        whole.mkdir()
        for archive in archives:
            try:
                with gzip.open(archive) as content, (whole / archive.stem).open("wb") as file:
                    shutil.copyfileobj(content, file)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise ValueError(f"{archive} is damaged: {first_line(error)}") from None
        try:
            os.replace(whole, folder)
        except OSError:
            if not folder.is_dir():  # else another process has unpacked the set meanwhile
                raise
