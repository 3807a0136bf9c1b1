"""Photographs through timm's readers and loaders: ``path/train/CLASS/*.jpg``, hfds/NAME, wds/PATH."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from timm.data import ImageDataset, create_dataset, create_loader
from timm.data.readers.reader_image_folder import ReaderImageFolder
from torch.utils.data import Subset

from stvit.checkpoints.errors import some
from stvit.data.augmentation import guard
from stvit.data.images import ImageError, read_rgb
from stvit.data.share import Batch, Share
from stvit.extras import require

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CROP = 0.9  # of evaluation images, as the models' configurations have it
HELD_OUT = ("validation", "val", "test")

# timm's readers → the packages that they need
READERS = {"hfds": "datasets", "hfids": "datasets", "wds": "webdataset", "tfds": "tensorflow_datasets"}

OpenSplit = Callable[..., torch.utils.data.Dataset]  # of (config, place, training)
Named = tuple[tuple[str, ...], Iterable[Batch]]  # names of the classes, and batches


class TimmSource:
    """ImageNet-style folders, Hugging Face data sets and WebDataset shards, as timm reads them."""

    def __init__(self, train: Iterable, held_out: Iterable, class_names: tuple[str, ...], share: Share):
        self.loader, self.held_out = train, held_out
        self.class_names, self.share, self.steps = class_names, share, len(train)

    def train(self, epoch: int) -> Iterator[Batch]:
        sampler = getattr(self.loader, "sampler", None)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        elif hasattr(self.loader.dataset, "set_epoch"):
            self.loader.dataset.set_epoch(epoch)
        yield from self.loader

    def evaluate(self) -> Iterator[Batch]:
        yield from self.held_out


def photograph_source(open_split: OpenSplit, config, place: str, share: Share) -> TimmSource:
    """Shuffled and augmented batches for training, and those to evaluate on."""
    train, per_process = open_split(config, place, training=True), share.of(config.batch_size)
    if len(train) < config.batch_size:
        raise ValueError(f"{len(train)} training images do not fill one batch of {config.batch_size}")
    loader = create_loader(
        train,
        batch_size=per_process,
        is_training=True,
        distributed=share.processes > 1,
        color_jitter=config.color_jitter or None,
        auto_augment=config.auto_augment or None,
        re_prob=config.reprob,
        re_mode="pixel",
        **loading(config),
    )
    guard(train.transform)
    names, evaluation = evaluation_batches(open_split, config, place, share)
    check_same_classes(class_names(train, config), names, f"{config.data}: training", "evaluation")
    return TimmSource(loader, evaluation, names, share)


def held_out_photographs(open_split: OpenSplit, config, place: str, split: str) -> Named:
    """Class names, and batches as in evaluation: of the training images, or of the one held-out split."""
    return evaluation_batches(open_split, config, place, Share(), training=split == "train")


def evaluation_batches(
    open_split: OpenSplit, config, place: str, share: Share, training: bool = False
) -> Named:
    """Class names, and this process's share of the evaluation (or training) images, each once and as it is."""
    held_out, per_process = open_split(config, place, training=training), share.of(config.batch_size)
    evaluation = create_loader(
        held_out, batch_size=per_process, is_training=False, crop_pct=CROP, **loading(config)
    )
    if share.processes > 1 and not isinstance(held_out, torch.utils.data.IterableDataset):
        evaluation = torch.utils.data.DataLoader(
            Subset(held_out, range(share.rank, len(held_out), share.processes)),
            batch_size=per_process,
            num_workers=config.workers,
            collate_fn=evaluation.collate_fn,
        )
    return class_names(held_out, config), evaluation


def loading(config) -> dict:
    """What timm's loader is told for training and for evaluation alike."""
    return dict(
        input_size=(3, config.image_size, config.image_size),
        mean=MEAN,
        std=STD,
        interpolation="bicubic",
        num_workers=config.workers,
        use_prefetcher=False,
        persistent_workers=False,  # fresh workers are seeded from the epoch, so that a run can resume exactly
        device=torch.device("cpu"),
    )


class Photographs(ImageDataset):
    """timm's data set, where a file that cannot be decoded is an error; timm's puts another image in its place."""

    def __getitem__(self, i: int):
        name = self.reader.filename(i, absolute=True)
        try:
            file, label = self.reader[i]
        except OSError as error:
            raise ImageError(f"{name} cannot be opened: {error.strerror or error}") from None
        with file:
            image = read_rgb(file, name)
        return image if self.transform is None else self.transform(image), label


def open_folder(config, place: str, training: bool) -> torch.utils.data.Dataset:
    """The images of FOLDER/train/CLASS or of FOLDER/validation/CLASS, as many as were asked for.

    The classes are those of the training split, where there is one.
    """
    folder = Path(place)
    split = "train" if training else held_out_split(folder)
    reader = read_folder(folder / split)
    if not training and (folder / "train").is_dir():
        classes = read_folder(folder / "train").class_to_idx
        empty = {name for name in classes if (folder / split / name).is_dir()}
        there = tuple(name for name in classes if name in reader.class_to_idx or name in empty)
        others = tuple(name for name in reader.class_to_idx if name not in classes)
        check_same_classes(tuple(classes), there + others, str(folder / "train"), str(folder / split))
        reader = ReaderImageFolder(str(folder / split), class_map=classes)
    return cut(Photographs(None, reader), config, training)


def read_folder(folder: Path) -> ReaderImageFolder:
    """The images of FOLDER/CLASS/*.jpg and their classes; ValueError where there are none."""
    try:
        reader = ReaderImageFolder(str(folder))
    except RuntimeError:  # no images
        raise ValueError(
            f"no images in {folder}: a folder of images holds train/CLASS/*.jpg and validation/CLASS/*.jpg; --data "
            "scenes needs no files"
        ) from None
    if "" in reader.class_to_idx:
        loose = next(path for path, label in reader.samples if label == reader.class_to_idx[""])
        raise ValueError(f"{loose} is in no class's folder: images are in {folder}/CLASS/*.jpg")
    return reader


def open_reader(reader: str, config, place: str, training: bool):
    """What a reader of timm's finds: ``hfds`` for Hugging Face data sets, ``wds`` for WebDataset shards."""
    require(READERS[reader], f"--data {reader}/…")
    dataset = create_dataset(
        f"{reader}/{place}",
        root=place if reader in ("wds", "tfds") else None,
        split="train" if training else HELD_OUT[0],
        is_training=training,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    return cut(dataset, config, training)


def cut(dataset, config, training: bool):
    """As many images of a data set as were asked for, drawn at random."""
    count = config.train_images if training else config.eval_images
    if count and count < len(dataset) and not isinstance(dataset, torch.utils.data.IterableDataset):
        chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(config.data_seed))
        return Cut(Subset(dataset, chosen[:count].tolist()), dataset)
    return dataset


class Cut(torch.utils.data.Dataset):
    """Some images of a data set; timm's loader sets the transform on it."""

    def __init__(self, subset: Subset, whole):
        self.subset, self.whole = subset, whole
        self.reader = getattr(whole, "reader", None)

    @property
    def transform(self):
        return self.whole.transform

    @transform.setter
    def transform(self, value) -> None:
        self.whole.transform = value

    def __len__(self) -> int:
        return len(self.subset)

    def __getitem__(self, i):
        return self.subset[i]


def held_out_split(folder: Path) -> str:
    return next((name for name in HELD_OUT if (folder / name).is_dir()), HELD_OUT[0])


def class_names(dataset, config) -> tuple[str, ...]:
    """Names in the order of their numbers; for sources that do not tell, the model argument num_classes."""
    table = getattr(getattr(dataset, "reader", None), "class_to_idx", None)
    if table:
        return tuple(sorted(table, key=table.get))
    count = config.model_args.get("num_classes", 0)
    if not count:
        raise ValueError(f"{config.data} does not tell its classes; give --model-args num_classes=…")
    return tuple(map(str, range(count)))


def check_same_classes(first: tuple[str, ...], second: tuple[str, ...], one: str, other: str) -> None:
    """ValueError where the same number would mean different classes."""
    if first == second:
        return
    alone = {one: sorted(set(first) - set(second)), other: sorted(set(second) - set(first))}
    listed = "; ".join(f"only in {where}: {some(names)}" for where, names in alone.items() if names)
    raise ValueError(
        f"the classes differ: {one} has {len(first)} ({some(list(first))}), {other} {len(second)} "
        f"({some(list(second))}); {listed or 'they are in another order'}"
    )
