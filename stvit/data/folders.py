"""Photographs through timm's readers and loaders: ``path/train/CLASS/*.jpg``, hfds/NAME, wds/PATH."""

from __future__ import annotations

from pathlib import Path

import torch
from timm.data import create_dataset, create_loader
from torch.utils.data import Subset

from stvit.data.opened import Share, TimmSource

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CROP = 0.9  # of evaluation images, as the models' configurations have it
REMOTE = ("hfds", "hfids", "wds", "tfds")  # prefixes that timm's reader factory knows
HELD_OUT = ("validation", "val", "test")


def timm_source(config, share: Share) -> TimmSource:
    train, per_process = open_split(config, training=True), share.of(config.batch_size)
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
    names, evaluation = evaluation_batches(config, share)
    check_same_classes(
        class_names(train, config), names, f"{config.data}: training", held_out_split(config.data)
    )
    return TimmSource(loader, evaluation, names, share)


def evaluation_batches(config, share: Share | None = None):
    """Class names, and this process's share of the evaluation images, each once."""
    share = share or Share()
    held_out, per_process = open_split(config, training=False), share.of(config.batch_size)
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


def open_split(config, training: bool):
    """timm's data set for training or evaluation, cut to as many images as were asked for."""
    split = "train" if training else held_out_split(config.data)
    kind, slash, rest = config.data.partition("/")
    remote = bool(slash) and kind in REMOTE
    count = config.train_images if training else config.eval_images
    if not remote and not (Path(config.data) / split).is_dir():
        raise ValueError(
            f"no images in {Path(config.data) / split}: a folder of images holds train/CLASS/*.jpg and "
            "validation/CLASS/*.jpg; --data scenes needs no files"
        )
    dataset = create_dataset(
        config.data if remote else "",
        root=rest if kind in ("wds", "tfds") and remote else None if remote else config.data,
        split=split,
        is_training=training,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    if count and count < len(dataset) and not isinstance(dataset, torch.utils.data.IterableDataset):
        chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(config.data_seed))
        subset = Subset(dataset, chosen[:count].tolist())
        return Cut(subset, dataset)
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


def held_out_split(data: str) -> str:
    return next((name for name in HELD_OUT if (Path(data) / name).is_dir()), HELD_OUT[0])


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
    listed = "; ".join(f"only in {where}: {', '.join(names[:4])}" for where, names in alone.items() if names)
    raise ValueError(
        f"the classes differ: {one} has {len(first)}, {other} {len(second)} ({listed or 'in another order'})"
    )
