"""Which images are in which batch, and which of them are this process's: a function of seed, epoch and share.

    order = ShuffledOrder(len(images), batch_size=64, seed=0, share=Share(rank, processes))
    for numbers in order.batches(order.chance(epoch)): ...    # (64 / processes,) numbers of images
    for numbers in in_order(len(images), share, 64): ...      # evaluation: each image once

The batches of all processes together are those that one process would have had.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]  # images and labels


@dataclass(frozen=True)
class Share:
    """The part of the work that is this process's."""

    rank: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.processes:
            raise ValueError(f"process {self.rank} of {self.processes}")

    def of(self, batch: int) -> int:
        """How many images of a batch are this process's."""
        if batch % self.processes:
            raise ValueError(f"a batch of {batch} cannot be shared equally by {self.processes} processes")
        return batch // self.processes


class ShuffledOrder:
    """The order of ``count`` items in each epoch; items that do not fill a last batch are left out."""

    def __init__(self, count: int, batch_size: int, seed: int, share: Share, what: str = "training images"):
        self.count, self.batch_size, self.seed, self.share = count, batch_size, seed, share
        self.per_process = share.of(batch_size)
        self.steps = count // batch_size
        if not self.steps:
            raise ValueError(f"{count} {what} do not fill one batch of {batch_size}; lower --batch-size")

    def seed_of(self, epoch: int) -> int:
        return self.seed * 1_000_003 + epoch

    def chance(self, epoch: int) -> torch.Generator:
        """The random numbers of an epoch: the order takes the first, augmentation may take those that follow."""
        return torch.Generator().manual_seed(self.seed_of(epoch))

    def batches(self, chance: torch.Generator) -> list[Tensor]:
        """This process's items in each step: every n-th of a batch."""
        order = torch.randperm(self.count, generator=chance)[: self.steps * self.batch_size]
        return [batch[self.share.rank :: self.share.processes] for batch in order.split(self.batch_size)]


def in_order(count: int, share: Share, batch_size: int) -> tuple[Tensor, ...]:
    """Batches of this process's items, which over all processes are each item once."""
    own = torch.arange(count)[share.rank :: share.processes]
    return own.split(batch_size) if len(own) else ()
