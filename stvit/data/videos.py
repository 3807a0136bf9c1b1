"""Videos in the Kinetics layout: a folder of files and, for each split, a CSV of their labels.

    kinetics/train.csv, kinetics/validation.csv (or val.csv, test.csv)    label,youtube_id,time_start,time_end
    kinetics/train/abseiling/0347ZoDXyP0_000095_000105.mp4 ...             or path,label with any file names
    kinetics/classes.txt                                                   optional: the classes in their order

PyAV decodes (the extra ``stvit[video]``). A file that cannot be decoded is named on the error stream, left
out and counted; in training another video takes its place.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import timm
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from tqdm import tqdm

from stvit.data.folders import HELD_OUT
from stvit.data.frames import VideoError, fetch, random_frames, view_frames
from stvit.data.share import Batch, Share, ShuffledOrder, in_order

UNUSED = ("cutmix", "color_jitter", "auto_augment", "reprob")  # what is for images alone


class Video(NamedTuple):
    path: Path
    label: str


@dataclass(frozen=True)
class Sampling:
    """How clips are cut out of a video: ``length`` frames, ``interval`` apart, ``size`` pixels wide and high."""

    length: int
    interval: int
    size: int
    clips: int = 1  # in evaluation, evenly along the video
    crops: int = 1  # in evaluation, evenly along the longer side

    @classmethod
    def of(cls, config) -> Sampling:
        try:
            clips, crops = (int(number) for number in config.views.split("x"))
        except ValueError:
            raise ValueError(f"views are clips x crops, such as 4x3, which {config.views!r} is not") from None
        numbers = (config.clip_length, config.frame_interval, config.image_size, clips, crops)
        if min(numbers) < 1:
            raise ValueError(
                f"clip_length, frame_interval, image_size and views must be at least 1: {numbers}"
            )
        return cls(*numbers)


class Read(NamedTuple):
    """A video's clips, or none, and the files that could not be read on the way to it."""

    clips: Tensor | None
    label: int
    failures: tuple[tuple[str, str], ...]


class Videos(Dataset):
    """Clips of videos: (3, T, S, S) at random in training, else (views, 3, T, S, S)."""

    def __init__(
        self,
        videos: list[Video],
        names: tuple[str, ...],
        sampling: Sampling,
        training: bool,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ):
        self.videos, self.sampling, self.training = videos, sampling, training
        numbers = {name: number for number, name in enumerate(names)}
        unknown = sorted({video.label for video in videos} - numbers.keys())
        if unknown:
            raise ValueError(f"the class {unknown[0]!r} is not among the {len(names)} classes of the data")
        self.labels = [numbers[video.label] for video in videos]
        size = sampling.size
        self.vary = v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()])
        self.to_float = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, i: int) -> Read:
        failures: list[tuple[str, str]] = []
        for number in range(i, i + (len(self) if self.training else 1)):
            number %= len(self)
            try:
                clips = self.clip(number) if self.training else self.views(number)
                return Read(clips, self.labels[number], tuple(failures))
            except VideoError as error:
                failures.append((str(self.videos[number].path), str(error)))
        return Read(None, self.labels[i], tuple(failures))

    def clip(self, i: int) -> Tensor:
        s = self.sampling
        frames = fetch(self.videos[i].path, lambda total: random_frames(total, s.length, s.interval))
        return self.to_float(self.vary(frames)).transpose(0, 1)  # (3, T, S, S)

    def views(self, i: int) -> Tensor:
        s = self.sampling
        frames = fetch(self.videos[i].path, lambda total: view_frames(total, s.length, s.interval, s.clips))
        frames = v2.functional.resize(
            frames, s.size, antialias=True
        )  # (clips·T, 3, H, W), the shorter side S
        crops = torch.stack([self.to_float(crop) for crop in spread_crops(frames, s.size, s.crops)])
        crops = crops.unflatten(1, (s.clips, s.length))  # (crops, clips, T, 3, S, S)
        return crops.transpose(2, 3).transpose(0, 1).flatten(0, 1)  # (clips·crops, 3, T, S, S)


def spread_crops(frames: Tensor, size: int, count: int) -> Iterator[Tensor]:
    """``count`` squares of (N, 3, H, W), from one end of the longer side to the other; one is the middle."""
    down, right = frames.shape[2] - size, frames.shape[3] - size
    for i in range(count):
        part = 0.5 if count == 1 else i / (count - 1)
        top, left = round(down * part), round(right * part)
        yield frames[:, :, top : top + size, left : left + size]


class Loader:
    """Batches of clips and labels; ``skipped`` says which files could not be read, and why."""

    def __init__(self, videos: Videos, batches: list[list[int]], workers: int):
        self.skipped: dict[str, str] = {}
        self.loader = DataLoader(videos, batch_sampler=batches, num_workers=workers, collate_fn=list)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        any_read = False
        for read in self.loader:
            for name, reason in (failure for one in read for failure in one.failures):
                if name not in self.skipped:
                    self.skipped[name] = reason
                    tqdm.write(f"skipped {name}: {reason}", file=sys.stderr)
            good = [one for one in read if one.clips is not None]
            if good:
                any_read = True
                yield torch.stack([one.clips for one in good]), torch.tensor([one.label for one in good])
        if self.skipped and not any_read:
            name, reason = next(iter(self.skipped.items()))
            raise ValueError(f"none of {len(self.skipped)} videos could be read, such as {name}: {reason}")


class VideoSource:
    """Videos in an order that (seed, epoch) decide; each process takes every n-th of a batch."""

    def __init__(self, train: Videos, held_out: Videos, names: tuple[str, ...], config, share: Share):
        self.videos, self.held_out, self.class_names = train, held_out, names
        self.config, self.share = config, share
        self.order = ShuffledOrder(len(train), config.batch_size, config.seed, share, "training videos")
        self.steps = self.order.steps

    def train(self, epoch: int) -> Iterator[Batch]:
        batches = [numbers.tolist() for numbers in self.order.batches(self.order.chance(epoch))]
        loader = Loader(self.videos, batches, self.config.workers)
        yield from loader
        if loader.skipped:
            tqdm.write(f"{len(loader.skipped)} videos could not be read", file=sys.stderr)

    def evaluate(self) -> Loader:
        return evaluation_loader(self.held_out, self.config, self.share)


def video_source(config, place: str, share: Share) -> VideoSource:
    """``--data kinetics:FOLDER``: its training and its held-out videos."""
    unused = [name for name in UNUSED if getattr(config, name)]
    if unused:
        raise ValueError(f"{', '.join(unused)}: not for videos; leave it out (mixup and smoothing are)")
    folder = Path(place)
    names = class_names(folder)
    train = open_videos(config, folder, names, "train", training=True)
    held_out = open_videos(config, folder, names, held_out_split(folder))
    return VideoSource(train, held_out, names, config, share)


def held_out_videos(config, place: str, split: str) -> tuple[tuple[str, ...], Loader]:
    """Class names, and batches of the videos of ``split``, or of the held-out ones where it has no list."""
    folder = Path(place)
    names = class_names(folder)
    split = split if list_file(folder, split).exists() else held_out_split(folder)
    return names, evaluation_loader(open_videos(config, folder, names, split), config, Share())


def evaluation_loader(videos: Videos, config, share: Share) -> Loader:
    batches = in_order(len(videos), share, share.of(config.batch_size))
    return Loader(videos, [numbers.tolist() for numbers in batches], config.workers)


def open_videos(config, folder: Path, names: tuple[str, ...], split: str, training: bool = False) -> Videos:
    listed = read_list(folder, split)
    if not any(video.path.exists() for video in listed):
        raise ValueError(
            f"none of the {len(listed)} videos that {list_file(folder, split)} lists is there, such as {listed[0].path}"
        )
    count = config.train_images if training else config.eval_images
    if count and count < len(listed):
        chance = torch.Generator().manual_seed(config.data_seed)
        listed = [listed[i] for i in torch.randperm(len(listed), generator=chance)[:count].tolist()]
    cfg = timm.get_pretrained_cfg(config.model)
    return Videos(listed, names, Sampling.of(config), training, cfg.mean, cfg.std)


def list_file(folder: Path, split: str) -> Path:
    return folder / f"{split}.csv"


def held_out_split(folder: Path) -> str:
    """The first of validation, val and test that has a list."""
    found = next((split for split in HELD_OUT if list_file(folder, split).exists()), None)
    if found is None:
        raise ValueError(
            f"no validation.csv, val.csv or test.csv in {folder}, which would list videos and labels"
        )
    return found


def class_names(folder: Path) -> tuple[str, ...]:
    """The lines of classes.txt; without it the labels of train.csv, or of the held-out list, in order."""
    file = folder / "classes.txt"
    if file.exists():
        return tuple(filter(None, file.read_text(encoding="utf-8-sig").splitlines()))
    split = "train" if list_file(folder, "train").exists() else held_out_split(folder)
    labels = {video.label for video in read_list(folder, split)}
    if all(label.isdigit() for label in labels):
        return tuple(map(str, range(max(map(int, labels)) + 1)))
    return tuple(sorted(labels))


def read_list(folder: Path, split: str) -> list[Video]:
    """The videos of ``split``.csv: columns path and label, or Kinetics' own; without a header path, label."""
    file = list_file(folder, split)
    if not file.exists():
        raise ValueError(
            f"{file} does not exist, which would list the videos of the {split} split and their labels"
        )
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = [[cell.strip() for cell in row] for row in csv.reader(lines) if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file} is not a table in UTF-8: {error}") from None
    header = rows[0] if rows and "label" in rows[0] else ["path", "label"]
    rows = rows[1:] if rows and rows[0] == header else rows
    if not {"path", "youtube_id"} & set(header):
        raise ValueError(
            f"{file} has the columns {', '.join(header)}; it needs label and path, or youtube_id"
        )
    short = [row for row in rows if len(row) < len(header) - ("split" in header)]
    if not rows or short:
        raise ValueError(f"{file}: {f'the line {short[0]} is too short' if short else 'no video is listed'}")
    try:
        return [_video(folder, split, dict(zip(header, row, strict=False))) for row in rows]
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _video(folder: Path, split: str, row: dict[str, str]) -> Video:
    """A path as it is listed, or below the split or the class; what is found nowhere is reported when it is read."""
    label, name = row["label"], row.get("path") or row.get("youtube_id")
    if not label or not name:
        raise ValueError(f"the line {','.join(row.values())} has no {'video' if label else 'label'}")
    if not row.get("path"):
        name = f"{name}_{int(row['time_start']):06d}_{int(row['time_end']):06d}.mp4"
    places = [folder / name, folder / split / name, folder / split / label / name, folder / label / name]
    return Video(next((place for place in places if place.exists()), places[0]), label)
