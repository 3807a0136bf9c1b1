"""Initial cluster centers P: a few tokens pooled from the map of image tokens.

Every pooling is a module with

    pool(x, grid)           (B, H·W, C) → (B, M, C), the centers P
    pool.assignment(x, grid)  (B, M, H·W), the row-stochastic weights with P = weights · X
    pool.tokens             the centers' grid (h, w), or None where they form no grid

The default is the intra- and inter-window pooling of Eqs. 4-5; the others are those of the paper's
ablations (its Table 15) and of its text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stvit.layers.windows import Grid


def token_grid(tokens: int | Grid) -> Grid:
    """The grid of semantic tokens: (h, w) as given, or the squarest factorisation of a number."""
    if is_whole(tokens):
        if tokens < 1:
            raise ValueError(f"the number of semantic tokens must be at least 1, not {tokens}")
        h = next(h for h in range(math.isqrt(tokens), 0, -1) if tokens % h == 0)
        return h, tokens // h
    if not isinstance(tokens, Sequence) or len(tokens) != 2 or not all(map(is_whole, tokens)):
        raise ValueError(f"semantic tokens are a whole number, or a grid (h, w) of two; not {tokens!r}")
    h, w = tokens
    if h < 1 or w < 1:
        raise ValueError(f"the grid of semantic tokens must be at least 1 × 1, not {h} × {w}")
    return h, w


def is_whole(value: object) -> bool:
    """An integer that is no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_fits(tokens: Grid, grid: Grid) -> None:
    if tokens[0] > grid[0] or tokens[1] > grid[1]:
        raise ValueError(
            f"{tokens[0] * tokens[1]} semantic tokens as a {tokens[0]} × {tokens[1]} grid do not fit a map of "
            f"{grid[0]} × {grid[1]} image tokens; ask for fewer tokens, or give their grid as (h, w)"
        )


def split(size: int, parts: int) -> list[int]:
    """``parts + 1`` bounds that cut 0…size into pieces as equal as can be, the same from both ends."""
    lower = [-((parts - 2 * i * size) // (2 * parts)) for i in range(parts // 2 + 1)]  # halves round down
    upper = [size - bound for bound in reversed(lower)]
    return lower + upper[parts % 2 == 0 :]


def window_index(grid: Grid, tokens: Grid) -> tuple[list[list[int]], Grid]:
    """Windows that partition a map: for each, its a·b token numbers, −1 where it is short; and (a, b).

    Where the map does not divide evenly some windows are a row or a column short; these are filled
    up at the map's border side, so that 14 tokens in 4 parts are 1+3, 4, 4, 3+1.
    """
    check_fits(tokens, grid)
    rows, columns = (_axis_windows(size, parts) for size, parts in zip(grid, tokens, strict=True))
    windows = [
        [y * grid[1] + x if y >= 0 and x >= 0 else -1 for y, x in product(ys, xs)]
        for ys, xs in product(rows, columns)
    ]
    return windows, (len(rows[0]), len(columns[0]))


def _axis_windows(size: int, parts: int) -> list[list[int]]:
    """``parts`` windows of equal width along one axis: positions, −1 where a window is short."""
    width, windows = -(-size // parts), []
    for i, (start, end) in enumerate(pairwise(split(size, parts))):
        filler = [-1] * (width - (end - start))
        inside = list(range(start, end))
        windows.append(filler + inside if 2 * i < parts - 1 else inside + filler)
    return windows


class Pooling(nn.Module):
    """What all poolings share: the centers' grid, and P = weights · X for those that are linear in X."""

    def __init__(self, dim: int, tokens: int | Grid, grid: Grid):
        super().__init__()
        self.dim, self.tokens = dim, token_grid(tokens)
        check_fits(self.tokens, grid)

    @property
    def num_tokens(self) -> int:
        return self.tokens[0] * self.tokens[1]

    def assignment(self, x: Tensor, grid: Grid) -> Tensor:
        """For a fixed linear pooling: its response to each image token alone."""
        count = grid[0] * grid[1]
        unit = torch.eye(count, dtype=x.dtype, device=x.device)[None]  # (1, N, "C" = N)
        return self.forward(unit, grid).expand(x.shape[0], -1, -1)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, tokens={self.tokens}"


def to_map(x: Tensor, grid: Grid) -> Tensor:
    return x.transpose(1, 2).unflatten(2, grid)  # (B, C, H, W)


def to_tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)  # (B, M, C)


class AdaptiveMeanPooling(Pooling):
    """Means over h × w adaptive windows: the non-parameterised choice of the paper's text."""

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        check_fits(self.tokens, grid)
        return to_tokens(F.adaptive_avg_pool2d(to_map(x, grid), self.tokens))


class AdaptiveMaxPooling(Pooling):
    """Maxima over h × w adaptive windows, channel by channel, as the released models pool."""

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        check_fits(self.tokens, grid)
        return to_tokens(F.adaptive_max_pool2d(to_map(x, grid), self.tokens))

    def assignment(self, x: Tensor, grid: Grid) -> Tensor:
        """The share of a center's channels that come from each image token."""
        _, source = F.adaptive_max_pool2d(to_map(x, grid), self.tokens, return_indices=True)
        source = to_tokens(source)  # (B, M, C): the flat position each channel came from
        counts = x.new_zeros(*source.shape[:2], grid[0] * grid[1])
        return counts.scatter_add_(2, source, torch.ones_like(source, dtype=x.dtype)) / source.shape[2]


class OverlapPooling(Pooling):
    """Means over windows that overlap: kernel 6, overlap 4 on the 14 × 14 map (Table 15, scheme i).

    On another map the stride grows in proportion, and the kernel is what then covers every token.
    """

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        check_fits(self.tokens, grid)
        kernels, strides = zip(*map(self._kernel, grid, self.tokens), strict=True)
        return to_tokens(F.avg_pool2d(to_map(x, grid), kernels, strides))

    @staticmethod
    def _kernel(size: int, parts: int) -> tuple[int, int]:
        size = int(size)  # a tracer hands in a tensor
        stride = max(1, min(round(size / 7), (size - 1) // max(parts - 1, 1)))
        return size - stride * (parts - 1), stride


class MultiScalePooling(Pooling):
    """Adaptive means at two scales, k² + (k+1)² tokens: 9 + 16 for 25 (Table 15, scheme ii)."""

    def __init__(self, dim: int, tokens: int, grid: Grid):
        nn.Module.__init__(self)
        count = tokens if isinstance(tokens, int) else math.prod(tokens)
        k = math.isqrt(count // 2)
        if k < 1 or k**2 + (k + 1) ** 2 != count:
            near = [k**2 + (k + 1) ** 2 for k in (max(k - 1, 1), max(k, 1), k + 1)]
            raise ValueError(
                f"multi-scale pooling yields k² + (k+1)² tokens, which {count} is not; try one of {sorted(set(near))}"
            )
        self.dim, self.tokens, self.scales = dim, None, (k, k + 1)
        check_fits((k + 1, k + 1), grid)

    @property
    def num_tokens(self) -> int:
        return sum(k * k for k in self.scales)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        check_fits((self.scales[1],) * 2, grid)
        x = to_map(x, grid)
        return torch.cat([to_tokens(F.adaptive_avg_pool2d(x, k)) for k in self.scales], dim=1)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, scales={self.scales}"


class WindowScore(nn.Module):
    """Eq. 4: Conv(GELU(LayerNorm(DepthwiseConv(·)))), scores for each position of small maps."""

    def __init__(self, dim: int, scores: int, bias: bool):
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.act = nn.GELU()
        self.pointwise = nn.Linear(dim, scores, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (maps, a, b, C)
        return self.pointwise(self.act(self.norm(x)))  # (maps, a, b, scores)


class IntraPooling(Pooling):
    """Intra-window pooling alone: P_i = Softmax(M_i) · X_i, with M_i = f_intra(X_i) by Eq. 4.

    It follows what an author posted for DeiT in an issue of the STViT-R repository: windows of 4 × 4 with stride 4
    on the map padded by 1, a depthwise 3 × 3 convolution, LayerNorm, GELU, a 1 × 1 convolution without bias, and
    padding masked.
    """

    def __init__(self, dim: int, tokens: int | Grid, grid: Grid):
        super().__init__(dim, tokens, grid)
        self.intra = WindowScore(dim, 1, bias=False)  # a bias would cancel in the softmax
        self.grid = tuple(grid)
        windows, self.window = window_index(self.grid, self.tokens)
        for name, value in zip(("index", "real"), _index_tensors(windows), strict=True):
            self.register_buffer(name, value, persistent=False)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        windows, scores = self.score(x, grid)
        return self.integrate(scores, windows)

    def assignment(self, x: Tensor, grid: Grid) -> Tensor:
        _, scores = self.score(x, grid)
        index, _, _ = self._windows(grid, x.device)
        weights = x.new_zeros(x.shape[0], self.num_tokens, grid[0] * grid[1])
        index = index.view(1, self.num_tokens, -1).expand(x.shape[0], -1, -1)
        return weights.scatter_add_(2, index, scores.softmax(-1).to(x.dtype))

    def score(self, x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """The windows X_i (B, M, a·b, C) and their scores (B, M, a·b), −∞ where a window is short."""
        index, real, (a, b) = self._windows(grid, x.device)
        windows = x[:, index]  # (B, M·a·b, C)
        if real is not None:
            windows.mul_(real[:, None])  # zeros, as a convolution pads
        masks = self.intra(windows.reshape(-1, a, b, x.shape[2])).reshape(x.shape[0], -1)  # (B, M·a·b)
        if real is not None:
            masks = masks.masked_fill(~real, -torch.inf)
        return windows.unflatten(1, (-1, a * b)), masks.unflatten(1, (-1, a * b))

    @staticmethod
    def integrate(scores: Tensor, windows: Tensor) -> Tensor:
        """Softmax(scores) · X_w for all windows at once: (B, M, C)."""
        return (scores.softmax(-1).unsqueeze(2) @ windows).squeeze(2)

    def _windows(self, grid: Grid, device: torch.device) -> tuple[Tensor, Tensor | None, Grid]:
        """Token numbers of all windows in a row, which are real (None: all), and the windows' size."""
        if grid == self.grid:
            return self.index, self.real, self.window
        windows, size = window_index(grid, self.tokens)
        return *(None if t is None else t.to(device) for t in _index_tensors(windows)), size


def _index_tensors(windows: list[list[int]]) -> tuple[Tensor, Tensor | None]:
    numbers = [number for window in windows for number in window]
    index = torch.tensor([max(number, 0) for number in numbers])
    return index, torch.tensor([number >= 0 for number in numbers]) if min(numbers) < 0 else None


class IntraInterPooling(IntraPooling):
    """Eqs. 4-5: windows score their tokens, then look at each other and revise the scores.

    1. M_i = f_intra(X_i) scores the tokens of each window (Eq. 4).
    2. P̂_i = Softmax(M_i) · X_i; the P̂_i form a map of w_s × w_s tokens.
    3. O = f_inter(P̂) offers each window an offset for each of its tokens.
    4. P_i = Softmax(M_i + O_i) · X_i (Eq. 5).

    The number of offsets is that of the grid the model was made for; on another grid they are
    interpolated to its windows.
    """

    def __init__(self, dim: int, tokens: int | Grid, grid: Grid):
        super().__init__(dim, tokens, grid)
        self.inter = WindowScore(dim, math.prod(self.window), bias=True)

    def score(self, x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        windows, masks = super().score(x, grid)  # (B, M, a·b, C), (B, M, a·b)
        centers = self.integrate(masks, windows)  # P̂ (B, M, C)
        offsets = self.inter(centers.unflatten(1, self.tokens)).flatten(1, 2)  # O (B, M, a₀·b₀)
        return windows, masks + self._resize(offsets, grid)

    def _resize(self, offsets: Tensor, grid: Grid) -> Tensor:
        size = tuple(-(-side // parts) for side, parts in zip(grid, self.tokens, strict=True))
        return offsets if size == self.window else resize_offsets(offsets, self.window, size)

    def adapt_state_dict(self, state_dict: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
        """Offsets trained on another (square) window at this one's size: the same function of the image."""
        changed = dict(state_dict)
        for name in ("weight", "bias"):
            key = f"{prefix}inter.pointwise.{name}"
            side = math.isqrt(len(state_dict[key])) if key in state_dict else 0
            if side and side**2 == len(state_dict[key]) and (side, side) != self.window:
                rows = state_dict[key].float().reshape(side**2, -1).T  # (C, a₀·b₀)
                rows = resize_offsets(rows[None], (side, side), self.window)[0].T  # (a·b, C)
                changed[key] = rows.reshape(-1, *state_dict[key].shape[1:]).to(state_dict[key].dtype)
        return changed


def resize_offsets(offsets: Tensor, window: Grid, size: Grid) -> Tensor:
    """(B, M, a₀·b₀) offsets for windows of one size as (B, M, a·b) offsets for those of another."""
    maps = F.interpolate(offsets.unflatten(2, window), size=size, mode="bilinear", align_corners=False)
    return maps.flatten(2)


POOLINGS: dict[str, type[Pooling]] = {
    "intra_inter": IntraInterPooling,
    "intra": IntraPooling,
    "mean": AdaptiveMeanPooling,
    "max": AdaptiveMaxPooling,
    "overlap": OverlapPooling,
    "multi_scale": MultiScalePooling,
}


def create_pooling(name: str, dim: int, tokens: int | Grid, grid: Grid) -> Pooling:
    if name not in POOLINGS:
        raise ValueError(f"unknown pooling {name!r}; choose one of {', '.join(POOLINGS)}")
    return POOLINGS[name](dim, tokens, grid)
