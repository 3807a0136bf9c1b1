"""Images without labels, as one tensor, to learn from and to test on: photographs, small sets, scenes.

    train, test = unlabelled("holiday", size=196, train=10000, test=2000)     # (N, 3, 196, 196) uint8 each

Of a folder, and of the photographs that packages bring, random crops are taken: what is held out is photographs, one
in five by its name, and never crops of one that is learned from.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from stvit.data.crops import cut, image_files
from stvit.data.photographs import installed, is_held_out
from stvit.data.scenes import SceneConfig, sized
from stvit.data.small_sets import SETS, read_small_set
from stvit.data.store import Scenes

ONE_IN = 5
WRITTEN = f"photographs (that installed packages bring), scenes, {', '.join(SETS)}, or a FOLDER of images"


def unlabelled(
    data: str, size: int, train: int, test: int, seed: int = 0, cache: str = ""
) -> tuple[Tensor, Tensor]:
    """``train`` images to learn from and ``test`` others, (N, 3, size, size) uint8; of small sets at most all."""
    name, _, place = data.partition(":")
    if not data:
        raise ValueError(f"--data is empty; it can be {WRITTEN}")
    if data == "scenes":
        drawn = sized(SceneConfig(seed=seed), size)
        return (
            Scenes(drawn, "train", train, cache or None).images,
            Scenes(drawn, "validation", test, cache or None).images,
        )
    if name in SETS:
        return small(name, place, size, train, True, cache), small(name, place, size, test, False, cache)
    own = data != "photographs" or Path(data).is_dir()
    learned, held = from_folder(data) if own else from_packages()
    return cut(learned, train, size, seed), cut(held, test, size, seed + 1)


def from_folder(folder: str) -> tuple[list[Path], list[Path]]:
    """Files to learn from and held-out ones: one in five by its name, at least one of each."""
    files = image_files(folder)
    if len(files) < 2:
        raise ValueError(
            f"{folder} holds one image; put at least two there, since one is held out to test on"
        )
    names = {file: file.relative_to(folder).as_posix() for file in files}
    held = [file for file in files if zlib.crc32(names[file].encode()) % ONE_IN == 0]
    held = held[: len(files) - 1] or files[-1:]
    return [file for file in files if file not in set(held)], held


def from_packages() -> tuple[list[Path], list[Path]]:
    """The photographs of installed packages: those of Debian's are learned from, where there are any."""
    found = installed()
    held, learned = ([one.path for one in found if is_held_out(one) is wish] for wish in (True, False))
    if not learned:
        raise ValueError(
            "no photographs to learn from are installed: apt-get install mate-backgrounds plasma-workspace-wallpapers, "
            "or name a folder of images"
        )
    return learned, held


def small(name: str, place: str, size: int, count: int, training: bool, cache: str) -> Tensor:
    """The first ``count`` images of a small set, enlarged to ``size``."""
    images, _, _ = read_small_set(name, place, training, size, cache)
    images = images[:count].expand(-1, 3, -1, -1)
    if images.shape[-2:] == (size, size):
        return images
    parts = [
        F.interpolate(part.float(), (size, size), mode="bicubic", antialias=True)
        for part in images.split(256)
    ]
    return torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in parts])
