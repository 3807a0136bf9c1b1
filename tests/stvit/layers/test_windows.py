"""Windows on maps of any size, against loops and against torch's own unfold."""

import pytest
import torch
import torch.nn.functional as F

from stvit.layers.windows import (
    inside_windows,
    neighbourhoods,
    pad,
    padding,
    partition,
    regions,
    restore_table,
    reverse,
    same_region,
    window_table,
)
from stvit.models.released import bordered_neighbourhoods

SIZES = [(14, 14), (15, 19), (7, 21), (3, 5), (13, 8)]


@pytest.mark.parametrize("grid", SIZES)
def test_partition_and_tables_take_apart_and_put_back(grid):
    x, window = torch.randn(2, *grid, 3), (7, 7)
    padded = pad(x, window)
    windows = partition(padded, window)
    assert windows.shape[1:] == (49, 3)
    back = reverse(windows, window, tuple(padded.shape[1:3]))
    assert back.equal(padded) and back[:, : grid[0], : grid[1]].equal(x)
    tokens = x.flatten(1, 2)
    laid_out = tokens[:, window_table(grid, window)].flatten(1, 2)
    assert laid_out[:, restore_table(grid, window)].equal(tokens)
    if padding(grid, window) == (0, 0):
        assert laid_out.equal(windows.reshape(2, -1, 3))


def test_the_key_windows_of_the_paper():
    rows = neighbourhoods((14, 14), (7, 7), (10, 10)).view(4, 10, 10)
    assert rows[0, 0].tolist() == list(range(10)) and rows[3, 0, 0] == 4 * 14 + 4
    image = torch.arange(196.0).view(1, 1, 14, 14)
    unfolded = F.unfold(image, 10, stride=4)[0].T.long()  # (4, 100)
    assert rows.flatten(1).equal(unfolded)
    everything = neighbourhoods((14, 14), (7, 7), (14, 14))
    assert everything.equal(torch.arange(196).expand(4, -1))


@pytest.mark.parametrize("grid", SIZES)
@pytest.mark.parametrize("reach", [7, 10, 14])
def test_neighbourhoods_stay_inside_and_hold_their_window(grid, reach):
    table = neighbourhoods(grid, (7, 7), (reach, reach))
    own = window_table(grid, (7, 7))
    assert table.shape == (own.shape[0], min(reach, grid[0]) * min(reach, grid[1]))
    for keys, tokens in zip(table.tolist(), own.tolist(), strict=True):
        assert len(set(keys)) == len(keys) and max(keys) < grid[0] * grid[1]
        assert set(tokens) <= set(keys)


@pytest.mark.parametrize(("reach", "before"), [(14, 3), (21, 7)])
def test_bordered_neighbourhoods_are_an_unfolded_padded_map(reach, before):
    grid, real = (21, 14), (16, 14)
    table, outside, unreal = bordered_neighbourhoods(grid, (7, 7), (reach, reach), real)
    after = reach - 7 - before
    numbered = torch.arange(1.0, 1 + 21 * 14).view(1, 1, *grid)
    unfolded = F.unfold(F.pad(numbered, (before, after, before, after)), reach, stride=7)[0].T.long()
    assert torch.where(outside, 0, table + 1).equal(unfolded)
    assert unreal.equal((unfolded == 0) | (table // 14 >= 16))


@pytest.mark.parametrize("grid", SIZES)
@pytest.mark.parametrize("shift", [(0, 0), (3, 3), (3, 0)])
@pytest.mark.parametrize("mask_padding", [True, False])
def test_regions_part_what_is_not_neighbours_in_the_image(grid, shift, mask_padding):
    window = (7, 7)
    shift = tuple(step if side > 7 else 0 for step, side in zip(shift, grid, strict=True))
    labels = regions(grid, window, shift, mask_padding)
    bottom, right = padding(grid, window)
    tall, wide = grid[0] + bottom, grid[1] + right
    y, x = torch.meshgrid(torch.arange(tall), torch.arange(wide), indexing="ij")
    place = torch.stack([y, x], -1).roll((-shift[0], -shift[1]), (0, 1))[None]
    place = partition(place, window)  # (windows, 49, 2): where each token was
    near = ((place[:, :, None] - place[:, None]).abs() < 7).all(-1)
    if mask_padding:
        real = (place[..., 0] < grid[0]) & (place[..., 1] < grid[1])
        near &= real[:, :, None] == real[:, None]
    seen = torch.ones_like(near) if labels is None else same_region(labels)
    if mask_padding:  # what padding sees does not matter, but it sees itself
        seen_by_real = seen[real]
        assert seen_by_real.equal(near[real]) and seen.diagonal(dim1=1, dim2=2).all()
    else:
        assert seen.equal(near)


@pytest.mark.parametrize("grid", SIZES)
def test_inside_windows_are_full_of_the_image(grid):
    table = inside_windows(grid, (7, 7)).view(-1, 7, 7)
    rows, columns = table // grid[1], table % grid[1]
    assert table.max() == grid[0] * grid[1] - 1
    if min(grid) >= 7:
        assert (rows[:, 1:] - rows[:, :-1] == 1).all() and (columns[:, :, 1:] - columns[:, :, :-1] == 1).all()
    assert set(table.flatten().tolist()) == set(range(grid[0] * grid[1]))
