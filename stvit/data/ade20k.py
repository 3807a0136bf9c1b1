"""ADE20K's folder layout: photographs and maps of class numbers; reading, writing, and what is wrong.

    FOLDER/images/training/ADE_train_00000001.jpg      FOLDER/annotations/training/ADE_train_00000001.png
    FOLDER/images/validation/…                         FOLDER/annotations/validation/…
    FOLDER/objectInfo150.txt                           names of the classes, one a line (optional)

    python -m stvit.data.ade20k path/to/scenes --train 1024 --validation 256      scenes in this layout

``AdeFolder`` reads either. In a file 0 means "other" and counts nowhere, 1 to K are the classes; here the
classes are 0 to K − 1 and what counts nowhere is 255.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from stvit.command import check_numbers, run_command
from stvit.data.images import read_numbers, read_pixels
from stvit.data.maps import CLASS_NAMES, SceneMaps
from stvit.data.scenes import SMALLEST, SceneConfig, sized

IGNORED = 255
CLASSES = 150  # of the benchmark, where no file names them
SPLITS = {"train": "training", "validation": "validation"}
NAMES = "objectInfo*.txt"
LAYOUT = (
    "ADE20K's layout has images/training, images/validation, annotations/training and annotations/validation; "
    "--data scenes needs no files"
)


class AdeFolder(torch.utils.data.Dataset):
    """One split as (image (3, H, W) uint8, map (H, W) uint8); files are matched by name when it is opened."""

    def __init__(self, root: str | Path, split: str, count: int = 0):
        self.root, self.class_names = Path(root), class_names(Path(root))
        folders = [self.root / kind / SPLITS.get(split, split) for kind in ("images", "annotations")]
        for folder in folders:
            if not folder.is_dir():
                raise ValueError(f"there is no folder {folder}: {LAYOUT}")
        images = sorted(p for p in folders[0].iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
        if not images:
            raise ValueError(f"no .jpg or .png in {folders[0]}: {LAYOUT}")
        self.pairs = [(path, folders[1] / f"{path.stem}.png") for path in images[: count or None]]
        missing = [label.name for _, label in self.pairs if not label.exists()]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ValueError(f"{folders[1]} has no {missing[0]}{more}, which {folders[0]} has an image for")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        picture, annotation = self.pairs[int(i)]
        image, numbers = read_pixels(picture), read_numbers(annotation)  # (3, H, W), (H, W)
        if numbers.shape != image.shape[1:]:
            raise ValueError(
                f"{annotation} is {numbers.shape[1]} × {numbers.shape[0]}, {picture} is "
                f"{image.shape[2]} × {image.shape[1]}"
            )
        return image, self.classes(numbers, annotation)

    def classes(self, numbers: Tensor, where: Path) -> Tensor:
        """Numbers of a file to classes: 0 and 255 count nowhere, 1 is class 0."""
        known, highest = len(self.class_names), int(numbers.where(numbers != IGNORED, 0).max())
        if highest > known:
            raise ValueError(
                f"{where} has the number {highest}, and there are {known} classes (1 to {known}; 0 and "
                f"{IGNORED} count nowhere); {self.root}/objectInfo…txt would name others"
            )
        return torch.where(numbers == IGNORED, IGNORED, numbers.int() - 1).to(torch.uint8)  # 0 − 1 is 255


def open_ade(config, place: str, split: str, count: int) -> AdeFolder:
    """``--data FOLDER`` of segmentation."""
    return AdeFolder(place, split, count)


def class_names(root: Path) -> tuple[str, ...]:
    """The last column of objectInfo150.txt, below its line of titles; without it numbers."""
    files = sorted(root.glob(NAMES))
    if not files:
        return tuple(f"class {i}" for i in range(1, CLASSES + 1))
    try:
        lines = files[0].read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{files[0]} is not a text in UTF-8") from None
    names = tuple(line.rsplit("\t", 1)[-1].strip() for line in lines[1:] if line.strip())
    if not names or len(names) >= IGNORED:
        raise ValueError(f"{files[0]} names {len(names)} classes; between 1 and {IGNORED - 1} are possible")
    return names


def write(root: str | Path, size: int, counts: dict[str, int], data_seed: int = 0) -> Path:
    """Scenes as such a folder, without loss; ``counts`` are by split (train, validation)."""
    root = Path(root)
    for split, count in counts.items():
        scenes = SceneMaps(sized(SceneConfig(seed=data_seed), size), split, count)
        folders = [root / kind / SPLITS[split] for kind in ("images", "annotations")]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        for i in tqdm(range(count), f"Writing {split}", disable=count < 512):
            image, classes = scenes[i]
            Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0))).save(
                folders[0] / f"scene_{i:08}.png"
            )
            Image.fromarray((classes + 1).numpy()).save(folders[1] / f"scene_{i:08}.png")
    lines = ["Idx\tName", *(f"{i}\t{name}" for i, name in enumerate(CLASS_NAMES, 1))]
    (root / f"objectInfo{len(CLASS_NAMES)}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m stvit.data.ade20k",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", help="where to write scenes in ADE20K's layout")
    parser.add_argument("--size", type=int, default=64, help="height and width of the images (64)")
    parser.add_argument("--train", type=int, default=1024, help="training scenes (1024)")
    parser.add_argument("--validation", type=int, default=256, help="validation scenes (256)")
    parser.add_argument("--data-seed", type=int, default=0, help="which scenes (0)")
    args = parser.parse_args(argv)
    return run_command(lambda: write_scenes(args), status=2)


def write_scenes(args: argparse.Namespace) -> None:
    check_numbers(args, {"train": 1, "validation": 1, "size": SMALLEST, "data_seed": 0})
    counts = {"train": args.train, "validation": args.validation}
    print(write(args.folder, args.size, counts, args.data_seed))


if __name__ == "__main__":
    raise SystemExit(main())
