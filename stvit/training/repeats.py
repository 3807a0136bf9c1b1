"""Repeated augmentation (Hoffer et al., CVPR 2020; DeiT): several augmented copies of an image in a batch.

An epoch has as many images as before, so that with three copies it sees a third of the data set.
"""

from __future__ import annotations

from timm.data.distributed_sampler import RepeatAugSampler
from torch.utils.data import DataLoader, IterableDataset

from stvit.data.folders import TimmSource
from stvit.data.share import Share


class SeededRepeats(RepeatAugSampler):
    """timm's sampler, whose order follows from a seed too, and for one process as for many."""

    def __init__(self, dataset, repeats: int, seed: int, share: Share):
        super().__init__(dataset, share.processes, share.rank, num_repeats=repeats, selected_round=0)
        self.seed = seed

    def set_epoch(self, epoch: int) -> None:
        self.epoch = self.seed * 1_000_003 + epoch


def repeat_images(source: TimmSource, repeats: int, seed: int) -> None:
    """Let ``source`` draw ``repeats`` copies of each image; ValueError for data that comes as a stream."""
    loader = source.loader
    if isinstance(loader.dataset, IterableDataset):
        raise ValueError("images that come as a stream cannot be drawn several times; use --repeats 1")
    source.loader = DataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        sampler=SeededRepeats(loader.dataset, repeats, seed, source.share),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        worker_init_fn=loader.worker_init_fn,
        pin_memory=loader.pin_memory,
        drop_last=True,
    )
    source.steps = len(source.loader)
