"""Windows on a map of tokens: pure functions, for maps of any height and width.

There are two ways to cut a map (B, H, W, C) into windows. ``pad``, ``roll`` and ``partition`` move the tokens
themselves, as Swin's blocks do. Tables name tokens by their number y·W + x instead: row i of a table holds the
tokens of window i, and ``gather`` fetches them. Windows of a table may overlap.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int]


def padding(grid: Grid, window: Grid) -> Grid:
    """Rows at the bottom and columns at the right that complete the last windows."""
    return -grid[0] % window[0], -grid[1] % window[1]


def window_counts(grid: Grid, window: Grid) -> Grid:
    return -(-grid[0] // window[0]), -(-grid[1] // window[1])


def pad(x: Tensor, window: Grid) -> Tensor:
    """(B, H, W, C) with zeros at the bottom and at the right, up to whole windows."""
    bottom, right = padding(x.shape[1:3], window)
    return F.pad(x, (0, 0, 0, right, 0, bottom)) if bottom or right else x


def partition(x: Tensor, window: Grid) -> Tensor:
    """(B, H, W, C) → (B·windows, h·w, C), windows in reading order."""
    B, H, W, C = x.shape
    (h, w), (rows, columns) = window, window_counts((H, W), window)
    x = x.reshape(B, rows, h, columns, w, C).transpose(2, 3)  # (B, rows, columns, h, w, C)
    return x.reshape(B * rows * columns, h * w, C)


def reverse(windows: Tensor, window: Grid, grid: Grid) -> Tensor:
    """(B·windows, h·w, C) → (B, H, W, C): what ``partition`` did, undone."""
    (h, w), (rows, columns) = window, window_counts(grid, window)
    x = windows.reshape(-1, rows, columns, h, w, windows.shape[-1]).transpose(2, 3)
    return x.reshape(x.shape[0], rows * h, columns * w, x.shape[-1])  # (B, H, W, C)


def regions(
    grid: Grid, window: Grid, shift: Grid, mask_padding: bool, device: torch.device | None = None
) -> Tensor | None:
    """Region label of every token in each window (windows, h·w); attention stays within equal labels.

    None means no mask. The map is padded first and then rolled up and left by ``shift``, so that tokens that
    come in from the other side form a region of their own, and so does padding if it is masked.
    """
    bottom, right = padding(grid, window) if mask_padding else (0, 0)
    if not any(shift) and not bottom and not right:
        return None
    y, x = (_axis_regions(*axis, mask_padding, device) for axis in zip(grid, window, shift, strict=True))
    labels = 3 * y[:, None] + x  # (H', W')
    return partition(labels[None, :, :, None], window).squeeze(2)


def _axis_regions(
    size: int, window: int, shift: int, mask_padding: bool, device: torch.device | None
) -> Tensor:
    """Along one padded, rolled axis: 0 inside, 1 what was rolled over the border, 2 padding."""
    padded = size + -size % window
    place = torch.arange(padded, device=device)
    label = (place >= padded - shift).long()
    if mask_padding:
        label = label.masked_fill((place + shift) % padded >= size, 2)
    return label


def same_region(labels: Tensor) -> Tensor:
    """(windows, w²) → (windows, w², w²): True where a token may see another."""
    return labels[:, :, None] == labels[:, None, :]


def gather(x: Tensor, table: Tensor) -> Tensor:
    """(B, N, C) and (windows, n) → (B, windows, n, C); as x[:, table], copied row by row."""
    B, N, C = x.shape
    first = torch.arange(B, device=x.device)[:, None] * N  # (B, 1): where an image's tokens begin
    rows = x.reshape(B * N, C).index_select(0, (first + table.flatten()).flatten())
    return rows.view(B, *table.shape, C)


def window_table(grid: Grid, window: Grid, device: torch.device | None = None) -> Tensor:
    """The tokens of each window (windows, h·w). Beyond the border stands the border's own token."""
    rows, columns = (
        (torch.arange(count * side, device=device).clamp(max=size - 1)).view(count, side)
        for count, side, size in zip(window_counts(grid, window), window, grid, strict=True)
    )
    return outer(rows, columns, grid[1])


def neighbourhoods(grid: Grid, window: Grid, reach: Grid, device: torch.device | None = None) -> Tensor:
    """For each window the tokens of a larger one around it (windows, h'·w'), pushed inside the map.

    A neighbourhood that would stick out of the map moves in until it does not, so that every key is a
    token of the image; one that is larger than the map is the whole map.
    """
    rows, columns = (_axis_inside(*axis, device) for axis in zip(grid, window, reach, strict=True))
    return outer(rows, columns, grid[1])


def _axis_inside(size: int, window: int, reach: int, device: torch.device | None) -> Tensor:
    reach = min(reach, size)
    start = torch.arange(-(-size // window), device=device) * window - max(reach - window, 0) // 2
    return start.clamp(0, size - reach)[:, None] + torch.arange(reach, device=device)  # (windows, reach)


def outer(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    """(windows down, h) and (windows across, w) → the token numbers of all windows (windows, h·w)."""
    table = rows[:, None, :, None] * width + columns[None, :, None, :]
    return table.reshape(-1, rows.shape[1] * columns.shape[1])


def inside_windows(grid: Grid, window: Grid, device: torch.device | None = None) -> Tensor:
    """``window_table`` whose last windows are pushed inside the map instead of sticking out."""
    rows, columns = (_axis_pushed(*axis, device) for axis in zip(grid, window, strict=True))
    return outer(rows, columns, grid[1])


def _axis_pushed(size: int, window: int, device: torch.device | None) -> Tensor:
    start = (torch.arange(-(-size // window), device=device) * window).clamp(max=max(size - window, 0))
    return (start[:, None] + torch.arange(window, device=device)).clamp(max=size - 1)


def restore_table(grid: Grid, window: Grid, device: torch.device | None = None) -> Tensor:
    """Where each token of the map stands when all windows are laid out in a row: (H·W,)."""
    counts = window_counts(grid, window)
    y, x = (torch.arange(size, device=device) for size in grid)
    tile = (y // window[0])[:, None] * counts[1] + x // window[1]  # (H, W): the window
    place = (y % window[0])[:, None] * window[1] + x % window[1]  # (H, W): the place in it
    return (tile * math.prod(window) + place).flatten()
