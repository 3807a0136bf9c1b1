"""Batches of all processes together are those of one; an epoch's order follows from its seed."""

import pytest
import torch

from stvit.data.share import Share, ShuffledOrder, in_order


def batches(count, size, share, epoch=0, seed=0):
    order = ShuffledOrder(count, size, seed, share)
    return order.batches(order.chance(epoch))


@pytest.mark.parametrize("processes", [1, 2, 3, 6])
def test_processes_share_the_batches_of_one(processes):
    whole = batches(40, 12, Share())
    parts = [batches(40, 12, Share(rank, processes)) for rank in range(processes)]
    for step, batch in enumerate(whole):
        together = torch.stack([part[step] for part in parts], dim=1).flatten()
        assert together.equal(batch)
    assert len(whole) == 3 and torch.cat(whole).unique().numel() == 36


def test_the_order_follows_from_seed_and_epoch():
    first = torch.cat(batches(64, 8, Share(), epoch=1, seed=2))
    assert first.equal(torch.cat(batches(64, 8, Share(), epoch=1, seed=2)))
    assert not first.equal(torch.cat(batches(64, 8, Share(), epoch=2, seed=2)))
    assert not first.equal(torch.cat(batches(64, 8, Share(), epoch=1, seed=3)))


@pytest.mark.parametrize("processes", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 7, 20])
def test_in_order_every_item_comes_once(processes, count):
    found = [numbers for rank in range(processes) for numbers in in_order(count, Share(rank, processes), 3)]
    assert sorted(i for numbers in found for i in numbers.tolist()) == list(range(count))
    assert all(1 <= len(numbers) <= 3 for numbers in found)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="process 2 of 2"):
        Share(2, 2)
    with pytest.raises(ValueError, match="a batch of 7 cannot be shared equally by 2 processes"):
        ShuffledOrder(40, 7, 0, Share(0, 2))
    with pytest.raises(ValueError, match="3 training images do not fill one batch of 4; lower --batch-size"):
        ShuffledOrder(3, 4, 0, Share())
