"""Windows on a clip of tokens (B, T, H, W, C): which token stands where, as tables, for clips of any size.

Swin pads a map, rolls it, cuts it into windows, and undoes all of that after the attention: three copies
each way. Here one table names the token at each place of each window, so that one row copy leads into the
windows and one back. Windows whose tokens may all see each other in the same way form a group: shifted
windows come in at most eight kinds, and a mask is needed for each kind, not for each window.
"""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int, int]  # frames, rows, columns


class Group(NamedTuple):
    """Windows of one kind: ``count`` of them; which tokens are hidden from each other (L, L), None: none."""

    count: int
    hidden: Tensor | None


class ClipWindows(NamedTuple):
    """A clip in windows.

    table: (windows, L) the tokens of each window by their number in the padded clip, group after group
    places: each window's number in reading order
    groups: how many windows of each kind there are, and what is hidden in them
    """

    size: Size
    window: Size
    padded: Size
    table: Tensor
    places: list[int]
    groups: list[Group]

    def rows(self, batch: int) -> tuple[Tensor, Tensor]:
        """For a batch: the rows to take so that windows lie group after group, and those that lead back.

        Rows are those of the padded clips (B, T', H', W') in a row, the way back is to the clips' own.
        """
        first = torch.arange(batch, device=self.table.device) * math.prod(self.padded)
        parts = self.table.split([group.count for group in self.groups])
        there = torch.cat([(first[:, None, None] + part).flatten() for part in parts])
        back = torch.empty_like(there)
        back[there] = torch.arange(len(there), device=there.device)
        T, H, W = self.size
        return there, back.view(batch, *self.padded)[:, :T, :H, :W].flatten()


def clipped_window(size: Size, window: Size) -> Size:
    """The window on a clip of this size: no longer, higher or wider than the clip."""
    return tuple(min(side, reach) for side, reach in zip(size, window, strict=True))


def padded_size(size: Size, window: Size) -> Size:
    """The size rounded up to whole windows."""
    return tuple(-(-side // reach) * reach for side, reach in zip(size, window, strict=True))


def pad(x: Tensor, padded: Size) -> Tensor:
    """(B, T, H, W, C) with zeros after the last frame, at the bottom and at the right."""
    after, bottom, right = (new - old for new, old in zip(padded, x.shape[1:4], strict=True))
    return F.pad(x, (0, 0, 0, right, 0, bottom, 0, after)) if after or bottom or right else x


def clip_windows(
    size: Size, window: Size, shifted: bool, mask_padding: bool, device: torch.device | None = None
) -> ClipWindows:
    """``size`` in windows of at most ``window``, moved by half a window where they are shifted.

    An axis that one window covers is not shifted. ``mask_padding``: padding is hidden from the clip's tokens.
    """
    reach = clipped_window(size, window)
    padded = padded_size(size, reach)
    shift = tuple(w // 2 if shifted and side > w else 0 for side, w in zip(size, window, strict=True))
    axes = [_axis(*axis, mask_padding) for axis in zip(size, reach, shift, strict=True)]
    counts = [side // w for side, w in zip(padded, reach, strict=True)]
    tables, places, groups = [], [], []
    for kinds in product(*(axis.items() for axis in axes)):
        labels, numbers = zip(*kinds, strict=True)
        tables.append(_table(numbers, reach, shift, padded, device))
        groups.append(Group(len(tables[-1]), _hidden(labels, device)))
        places += [(t * counts[1] + y) * counts[2] + x for t, y, x in product(*numbers)]
    return ClipWindows(size, reach, padded, torch.cat(tables), places, groups)


def _axis(size: int, window: int, shift: int, mask_padding: bool) -> dict[tuple[int, ...], list[int]]:
    """The windows along one axis by their kind: for each place 0 inside, 1 rolled over the border, 2 padding."""
    padded = -(-size // window) * window
    kinds: dict[tuple[int, ...], list[int]] = {}
    for number in range(padded // window):
        places = range(number * window, (number + 1) * window)
        labels = (
            2 if mask_padding and (p + shift) % padded >= size else int(p >= padded - shift) for p in places
        )
        kinds.setdefault(tuple(labels), []).append(number)
    return kinds


def _table(
    numbers: tuple[list[int], ...], window: Size, shift: Size, padded: Size, device: torch.device | None
) -> Tensor:
    """(windows, L): the tokens of the windows that are numbered so along each axis."""
    t, y, x = (
        (torch.tensor(which, device=device)[:, None] * w + torch.arange(w, device=device) + s) % side
        for which, w, s, side in zip(numbers, window, shift, padded, strict=True)
    )  # (windows along the axis, places) each
    frames = t[:, None, None, :, None, None] * padded[1]
    rows = (frames + y[None, :, None, None, :, None]) * padded[2]
    return (rows + x[None, None, :, None, None, :]).flatten(3).flatten(0, 2)  # (windows, L)


def _hidden(labels: tuple[tuple[int, ...], ...], device: torch.device | None) -> Tensor | None:
    """(L, L): True where two tokens of a window do not belong together."""
    if all(len(set(axis)) == 1 for axis in labels):
        return None
    t, y, x = (torch.tensor(axis, device=device) for axis in labels)
    label = ((t[:, None, None] * 3 + y[None, :, None]) * 3 + x).flatten()  # (L,)
    return label[:, None] != label[None, :]


def relative_positions(window: Size, table: Size, device: torch.device | None = None) -> Tensor:
    """(L·L,) entries of a bias table made for windows of ``table``, for pairs of tokens in a smaller window."""
    number = torch.zeros((), dtype=torch.long, device=device)
    for axis, (side, largest) in enumerate(zip(window, table, strict=True)):
        place = torch.arange(side, device=device)
        offset = place[:, None] - place[None, :] + largest - 1  # (side, side), from 0
        shape = [1] * 6
        shape[axis], shape[axis + 3] = side, side
        number = number * (2 * largest - 1) + offset.view(shape)
    return number.flatten()
