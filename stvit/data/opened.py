"""What ``--data`` can name: one table, which training, evaluation, the dense tasks and ``--help`` read.

source = open_source(config, share)               # config.data is "scenes", a folder, …
for images, targets in source.train(epoch): ...   # this process's share, float and normalised
for images, targets in source.evaluate(): ...     # its share of the evaluation images, each once

names, batches = open_held_out(config, "test")    # what a trained classifier is evaluated on
images = open_dense("segment", config, "train")   # a data set of images with maps or objects
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from torch.utils.data import Dataset

from stvit.data import (
    ade20k,
    clips,
    coco,
    drawn,
    folders,
    maps,
    objects,
    on_device,
    small_sets,
    unlabelled,
    videos,
)  # fmt: skip
from stvit.data.share import Batch, Share

CENTRED = dict(mean=(0.5,) * 3, std=(0.5,) * 3)  # drawn images, in timm's words
PHOTOGRAPHS = dict(mean=folders.MEAN, std=folders.STD, crop_pct=folders.CROP, interpolation="bicubic")


@dataclass(frozen=True)
class DataKind:
    """One line of the table.

    prefix, rest: how the data is written: ``kinetics:`` and ``FOLDER``; without a rest, exactly like this; a rest
        that begins with a colon may be left out
    what: its description in ``--help``
    source: (config, place, share) → batches for training and evaluation; place is what follows the prefix
    held_out: (config, place, split) → class names, batches to evaluate on
    dataset: (config, place, split, count) → a data set, for the dense tasks instead of the two
    pixels: how images are scaled, in the words of timm's configurations
    drawn: made by this program, needs no files
    moving: clips and videos rather than images
    size: height and width of its images, where all are alike and small
    """

    prefix: str
    rest: str
    what: str
    source: Callable[..., Any] | None = None
    held_out: Callable[..., tuple[tuple[str, ...], Iterable[Batch]]] | None = None
    dataset: Callable[..., Dataset] | None = None
    pixels: dict | None = None
    drawn: bool = False
    moving: bool = False
    size: int = 0

    @property
    def written(self) -> str:
        return self.prefix if self.rest.startswith(":") else f"{self.prefix}{self.rest}"

    def matches(self, data: str) -> bool:
        if self.rest.startswith(":"):
            return data.partition(":")[0] == self.prefix
        return data.startswith(self.prefix) if self.rest else data == self.prefix

    def place(self, data: str) -> str:
        rest = data.removeprefix(self.prefix)
        return rest.removeprefix(":") if self.rest.startswith(":") else rest


def read_by_timm(reader: str, rest: str, what: str) -> DataKind:
    return photographs(f"{reader}/", rest, what, partial(folders.open_reader, reader))


def photographs(prefix: str, rest: str, what: str, open_split: folders.OpenSplit) -> DataKind:
    source = partial(folders.photograph_source, open_split)
    held_out = partial(folders.held_out_photographs, open_split)
    return DataKind(prefix, rest, what, source, held_out, pixels=PHOTOGRAPHS)


def small_set(name: str) -> DataKind:
    source = partial(on_device.small_set_source, name)
    held_out = partial(on_device.held_out_small_set, name)
    what = "torchvision's, found here or downloaded; NAME:FOLDER says where"
    pixels, size = dict(mean=folders.MEAN, std=folders.STD), small_sets.SETS[name].size
    return DataKind(name, ":FOLDER", what, source, held_out, pixels=pixels, size=size)


# By task; of two kinds that match, the first one counts, so that a folder comes last.
KINDS: dict[str, tuple[DataKind, ...]] = {
    "classify": (
        DataKind(
            "scenes", "", "drawn scenes", drawn.scene_source, drawn.held_out_scenes, pixels=CENTRED, drawn=True
        ),
        DataKind(
            "clips", "", "drawn scenes in motion", clips.clip_source, clips.held_out_clips, pixels=CENTRED,
            drawn=True, moving=True,
        ),
        DataKind(
            "kinetics:", "FOLDER", "videos listed in train.csv and validation.csv", videos.video_source,
            videos.held_out_videos, pixels=PHOTOGRAPHS, moving=True,
        ),
        *map(small_set, small_sets.SETS),
        read_by_timm("hfds", "NAME", "a Hugging Face data set"),
        read_by_timm("hfids", "NAME", "one that is streamed"),
        read_by_timm("wds", "FOLDER", "WebDataset shards"),
        read_by_timm("tfds", "NAME", "a TensorFlow data set"),
        photographs("", "FOLDER", "with train/CLASS/*.jpg and validation/CLASS/*.jpg", folders.open_folder),
    ),
    "distill": (DataKind("", unlabelled.WRITTEN, "without labels", pixels=PHOTOGRAPHS),),
    "segment": (
        DataKind("scenes", "", "drawn scenes", dataset=maps.open_maps, drawn=True),
        DataKind("", "FOLDER", "in ADE20K's layout", dataset=ade20k.open_ade),
    ),
    "detect": (
        DataKind("scenes", "", "drawn scenes", dataset=objects.open_objects, drawn=True),
        DataKind("", "FOLDER", "in COCO's layout", dataset=coco.open_coco),
    ),
}  # fmt: skip


def kind_of(data: str, task: str = "classify") -> DataKind:
    """The line of the table that ``data`` is named in."""
    if not data:
        raise ValueError(f"--data is empty; it can be {described(task)}")
    return next(kind for kind in KINDS[task] if kind.matches(data))


def described(task: str = "classify") -> str:
    """What can be named, for ``--help``."""
    groups = groupby(KINDS[task], key=lambda kind: kind.what)
    return ", ".join(f"{', '.join(kind.written for kind in kinds)} ({what})" for what, kinds in groups)


def open_source(config, share: Share | None = None):
    """Batches of what ``config.data`` names, to classify; ``config`` is a TrainConfig or has the same fields."""
    kind = kind_of(config.data)
    return kind.source(config, kind.place(config.data), share or Share())


def open_held_out(config, split: str = "test") -> tuple[tuple[str, ...], Iterable[Batch]]:
    """Class names, and batches to evaluate a classifier on; of split "train" the training images, unaugmented."""
    kind = kind_of(config.data)
    return kind.held_out(config, kind.place(config.data), split)


def open_dense(task: str, config, split: str) -> Dataset:
    """Images with maps or objects; as many as ``config.train_images`` or ``config.eval_images`` says."""
    kind = kind_of(config.data, task)
    count = config.train_images if split == "train" else config.eval_images
    return kind.dataset(config, kind.place(config.data), split, count)
