"""Cluster centers of a local transformer: pooled in each window, or learned on a grid; and their positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stvit.fast.groups import POOLING, in_groups
from stvit.layers.pooling import Grid, Pooling, create_pooling
from stvit.layers.semantic import GlobalCenters
from stvit.layers.windows import gather, inside_windows, restore_table, window_counts


class WindowPooling(nn.Module):
    """Initial cluster centers of a local transformer: w_s × w_s in each window (Section 3.2)."""

    def __init__(self, pooling: str, dim: int, semantic_window: int, window: Grid):
        super().__init__()
        self.window, self.tokens = tuple(window), (semantic_window, semantic_window)
        self.pool: Pooling = create_pooling(pooling, dim, self.tokens, self.window)
        if self.pool.tokens is None:
            raise ValueError(
                f"pooling {pooling!r} gives no grid of {semantic_window} × {semantic_window} tokens"
            )

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """(B, H·W, C) → (B, M, C), in the reading order of the semantic tokens' grid."""
        return in_groups(self.whole, x, grid=grid, width=POOLING)

    def whole(self, x: Tensor, grid: Grid) -> Tensor:
        windows = gather(x, inside_windows(grid, self.window, x.device)).flatten(0, 1)  # (B·windows, w², C)
        centers = self.pool.forward(windows, self.window)  # (B·windows, w_s², C), recorded here, not there
        return centers.reshape(x.shape[0], -1, x.shape[2])[:, self._restore(grid, x.device)]

    def assignment(self, x: Tensor, grid: Grid) -> Tensor:
        """(B, M, H·W): the weight of each image token of the map in each center."""
        table = inside_windows(grid, self.window, x.device)  # (windows, w²)
        shares = self.pool.assignment(x[:, table].flatten(0, 1), self.window)  # (B·windows, w_s², w²)
        shares = shares.unflatten(0, (x.shape[0], -1))
        wide = shares.new_zeros(*shares.shape[:3], x.shape[1])
        wide = wide.scatter_add_(3, table[None, :, None].expand_as(shares), shares)
        return wide.flatten(1, 2)[:, self._restore(grid, x.device)]

    def _restore(self, grid: Grid, device: torch.device) -> Tensor:
        rows, columns = window_counts(grid, self.window)
        return restore_table((rows * self.tokens[0], columns * self.tokens[1]), self.tokens, device)


class GridCenters(GlobalCenters):
    """G on a grid of semantic tokens; on another grid it is interpolated."""

    def __init__(self, grid: Grid, dim: int):
        super().__init__(grid[0] * grid[1], dim)
        self.grid = tuple(grid)

    def forward(self, s: Tensor, grid: Grid) -> Tensor:
        if tuple(grid) == self.grid:
            return s + self.weight
        centers = self.weight.unflatten(0, self.grid).permute(2, 0, 1)[None]  # (1, C, h, w)
        centers = F.interpolate(centers, size=grid, mode="bicubic", align_corners=False)
        return s + centers.flatten(2).transpose(1, 2)  # (B, M, C)


class WindowInitialization(GridCenters):
    """P = G: initial cluster centers that have not seen the image (Table 7, global alone)."""

    def __init__(self, semantic_window: int, window: Grid, grid: Grid, dim: int):
        super().__init__(grid, dim)
        self.semantic_window, self.window = semantic_window, tuple(window)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        rows, columns = window_counts(grid, self.window)
        nothing = x.new_zeros(x.shape[0], 1, 1)
        return super().forward(nothing, (rows * self.semantic_window, columns * self.semantic_window))


class NoPosition(nn.Identity):
    """Semantic tokens without positional encoding, as the paper has them."""

    def forward(self, s: Tensor, grid: Grid) -> Tensor:
        return s


class GridPosition(nn.Module):
    """Conditional positional encoding on a grid of any size: a depthwise 3 × 3 convolution, added to S."""

    def __init__(self, dim: int):
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, s: Tensor, grid: Grid) -> Tensor:
        tokens = s.transpose(1, 2).unflatten(2, grid)  # (B, C, h, w)
        return s + self.depthwise(tokens).flatten(2).transpose(1, 2)  # (B, M, C)
