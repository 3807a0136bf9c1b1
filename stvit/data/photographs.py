"""Real photographs that packages ship, with source and licence, and those of a folder: none of them for training.

    installed()                every photograph at hand: PyPI's packages first, then Debian's where they are
    in_folder("holiday")       the images of a folder and below
    is_held_out(photograph)    may a training not see it? always true of PyPI's, of one in five of the others

Photographs of PyPI's packages are read as files, so that nothing is downloaded: scikit-image fetches the
rest of its images when they are asked for, and those are not listed here.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
LEAST = 256  # pixels of the shorter side of a photograph that crops are cut from


class Photograph(NamedTuple):
    """One photograph; ``kind`` is "scene" for the everyday, "texture", or "science"."""

    name: str
    path: Path
    kind: str = "scene"
    source: str = ""
    licence: str = ""


class Folder(NamedTuple):
    """A Debian package's folder of photographs, or of one ``single`` photograph in several sizes."""

    package: str
    path: Path
    licence: str
    single: bool = False


SKLEARN, MATPLOTLIB, SKIMAGE = "sklearn/datasets/images", "matplotlib/mpl-data/sample_data", "skimage/data"
PUBLIC = "public domain"
FILES = {  # name: (folder in its package, file, kind, who made it, licence)
    "china": (SKLEARN, "china.jpg", "scene", "danielbuechele, Flickr", "CC BY 2.0"),
    "flower": (SKLEARN, "flower.jpg", "scene", "vultilion, Flickr", "CC BY 2.0"),
    "grace_hopper": (MATPLOTLIB, "grace_hopper.jpg", "scene", "United States Navy", PUBLIC),
    "astronaut": (SKIMAGE, "astronaut.png", "scene", "NASA", PUBLIC),
    "camera": (SKIMAGE, "camera.png", "scene", "Lav Varshney", "CC0"),
    "chelsea": (SKIMAGE, "chelsea.png", "scene", "Stefan van der Walt", "CC0"),
    "coffee": (SKIMAGE, "coffee.png", "scene", "Rachel Michetti", "CC0"),
    "coins": (SKIMAGE, "coins.png", "scene", "Brooklyn Museum", "no known restrictions"),
    "motorcycle": (
        SKIMAGE,
        "motorcycle_left.png",
        "scene",
        "Middlebury Stereo 2014",
        "as scikit-image has it",
    ),
    "rocket": (SKIMAGE, "rocket.jpg", "scene", "SpaceX", PUBLIC),
    "brick": (SKIMAGE, "brick.png", "texture", "CC0 Textures", "CC0"),
    "grass": (SKIMAGE, "grass.png", "texture", "linolafett, DeviantArt", "CC0"),
    "gravel": (SKIMAGE, "gravel.png", "texture", "CC0 Textures", "CC0"),
    "hubble": (SKIMAGE, "hubble_deep_field.jpg", "science", "NASA, ESA", PUBLIC),
    "immunohistochemistry": (SKIMAGE, "ihc.png", "science", "CMMI", "no known restrictions"),
    "moon": (SKIMAGE, "moon.png", "science", "scikit-image", "as scikit-image has it"),
    "retina": (SKIMAGE, "retina.jpg", "science", "Häggström, Wikimedia Commons", "CC0"),
}
WALLPAPERS = Path("/usr/share/wallpapers")  # each in a folder of its own, in a dozen sizes; half are drawings
PLASMA = ("BytheWater", "ColdRipple", "ColorfulCups", "DarkestHour", "EveningGlow", "FallenLeaf", "Grey", "Kite",
          "OneStandsOut", "Path", "summer_1am")  # fmt: skip
DEBIAN = (
    Folder("mate-backgrounds", Path("/usr/share/backgrounds/mate/nature"), "CC BY-SA 4.0 or GPL-2+"),
    *(Folder("plasma-workspace-wallpapers", WALLPAPERS / name, "LGPL-3+", single=True) for name in PLASMA),
)


def shipped(kinds: tuple[str, ...] = ("scene",)) -> list[Photograph]:
    """The photographs of PyPI's packages that are installed."""
    found = (find(name) for name, entry in FILES.items() if entry[2] in kinds)
    return [photograph for photograph in found if photograph is not None]


def find(name: str) -> Photograph | None:
    """One photograph by its name; None if its package is not installed."""
    folder, file, kind, maker, licence = FILES[name]
    package, _, inside = folder.partition("/")
    spec = find_spec(package)
    path = None if spec is None else Path(spec.submodule_search_locations[0], inside, file)
    return Photograph(name, path, kind, f"{maker}, in {package}", licence) if path and path.exists() else None


def missing(kinds: tuple[str, ...] = ("scene",)) -> list[str]:
    """Photographs whose packages are not installed: pip install 'stvit[real]'."""
    return [name for name, entry in FILES.items() if entry[2] in kinds and find(name) is None]


def installed() -> list[Photograph]:
    """Everyday photographs of PyPI's packages, then those of Debian's packages of backgrounds."""
    return [*shipped(), *debian()]


def debian(folders: tuple[Folder, ...] = DEBIAN) -> list[Photograph]:
    """The photographs among the backgrounds that Debian's packages bring, where these are installed."""
    found = []
    for folder in folders:
        paths = list(photographs_below(folder.path))
        if folder.single:
            paths = sorted(paths, key=lambda path: path.stat().st_size)[-1:]
        for path in paths:
            name = folder.path.name if folder.single else _stem(path, folder.path)
            found.append(
                Photograph(f"{folder.package}/{name}", path, "scene", folder.package, folder.licence)
            )
    return found


def in_folder(folder: str | Path, least: int = LEAST) -> list[Photograph]:
    """The photographs of at least ``least`` pixels a side in a folder of the user's own, and below."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder of images")
    found = [
        Photograph(_stem(path, folder), path, "scene", "own folder", "")
        for path in photographs_below(folder, least)
    ]
    if not found:
        raise ValueError(f"no image of at least {least} × {least} pixels in {folder} or below it")
    return found


def photographs_below(folder: Path, least: int = LEAST) -> Iterator[Path]:
    """Files of enough pixels, in the order of their names: no flat ones, and no copies of another size."""
    seen = set()
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.suffix.lower() in SUFFIXES and path.is_file():
            mark = fingerprint(path, least)
            if mark is not None and mark not in seen:
                seen.add(mark)
                yield path


def fingerprint(path: Path, least: int = LEAST) -> bytes | None:
    """An 8 × 8 thumbnail in five greys, equal for copies of other sizes; None where it is no photograph."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if min(image.size) < least:
                return None
            image.draft("L", (64, 64))  # a JPEG is decoded at an eighth of its size
            small = image.convert("L").resize((8, 8), Image.Resampling.BOX)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    low, high = small.getextrema()
    return None if high - low < 24 else small.point(lambda value: value // 52).tobytes()


def is_held_out(photograph: Photograph) -> bool:
    """Decided by the photograph's name alone, so that it stays so whatever else is installed."""
    return photograph.name in FILES or zlib.crc32(photograph.name.encode()) % 5 == 0


def _stem(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()
