"""Layers of semantic tokens in a local transformer (Section 3.2): attention from window to neighbourhood.

Keys and values are projected once for the whole map and then gathered into windows, so that windows which
overlap project nothing twice. ``Windows`` says who attends to whom, by the numbers of the tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from timm.layers import LayerScale, trunc_normal_, use_fused_attn
from timm.models.swin_transformer import SwinTransformerBlock
from timm.models.swin_transformer import WindowAttention as TimmWindowAttention
from torch import Tensor, nn

from stvit.fast.groups import in_groups, windows_at_once
from stvit.fast.token_linear import linear_rows
from stvit.layers.attention import Attention, ContextBlock, attend, attention_weights
from stvit.layers.pooling import Grid
from stvit.layers.windows import gather


class Windows(NamedTuple):
    """The queries of window i are the tokens ``queries[i]``, its keys the tokens ``keys[i]``."""

    queries: Tensor  # (windows, Q)
    keys: Tensor  # (windows, K)
    restore: Tensor  # (N,): where each token stands when the queries of all windows are laid out in a row
    mask: Tensor | None = None  # added to the logits: (windows, K), or (windows, heads, Q, K)


class WindowedAttention(Attention):
    """Multi-head attention in windows, or between all tokens where ``windows`` is None."""

    @classmethod
    def from_swin(cls, attention: TimmWindowAttention) -> WindowedAttention:
        """The projections of a Swin layer, without its relative position bias."""
        self = cls.__new__(cls)
        nn.Module.__init__(self)
        self.num_heads = attention.num_heads
        self.attn_dim = attention.proj.in_features
        self.head_dim = self.attn_dim // self.num_heads
        self.scale, self.fused_attn = attention.scale, use_fused_attn()
        self.qkv, self.proj = attention.qkv, attention.proj
        self.attn_drop, self.proj_drop = attention.attn_drop, attention.proj_drop
        self.q_norm, self.k_norm, self.norm, self.gate = nn.Identity(), nn.Identity(), nn.Identity(), None
        return self

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        windows: Windows | None = None,
        value: Tensor | None = None,
    ) -> Tensor:
        if windows is None:
            return super().forward(query, key, value)
        q, kv = self.linear(query, key, value)  # (B, N, C), (B, N keys, 2C)
        parts = [self.attend(q, kv, part) for part in self.split(windows, kv)]  # (B, windows·Q, C) together
        x = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        x = gather(x, windows.restore[None]).squeeze(1)  # (B, N, C)
        return self.proj_drop(self.proj(x))

    def attend(self, q: Tensor, kv: Tensor, windows: Windows) -> Tensor:
        q, k, v = self.heads(q, kv, windows)  # (B·windows, heads, Q or K, head_dim) each
        dropout = self.attn_drop.p if self.training else 0.0
        x = attend(q, k, v, self.scale, self.mask(windows, q), dropout, self.fused_attn)
        return x.transpose(1, 2).reshape(kv.shape[0], -1, self.attn_dim)  # (B, windows·Q, C)

    @staticmethod
    def split(windows: Windows, kv: Tensor) -> list[Windows]:
        """On a CPU as many windows at a time as keep the gathered keys in memory that is reused."""
        count, keys = windows.keys.shape
        size = kv.shape[0] * keys * kv.shape[2] * kv.element_size()  # of one window's keys and values
        step = windows_at_once(kv, count, size)
        if step >= count:
            return [windows]
        return [
            Windows(
                windows.queries[i : i + step],
                windows.keys[i : i + step],
                windows.restore,
                None if windows.mask is None else windows.mask[i : i + step],
            )
            for i in range(0, count, step)
        ]

    def weights(
        self,
        query: Tensor,
        key: Tensor | None = None,
        windows: Windows | None = None,
        value: Tensor | None = None,
    ) -> Tensor:
        """The maps put back on the grid: (B, heads, N queries, N keys), 0 outside a query's window."""
        if windows is None:
            return super().weights(query, key)
        q, k, _ = self.heads(*self.linear(query, key), windows)
        maps = attention_weights(q, k, self.scale, self.mask(windows, q))  # (B·windows, heads, Q, K)
        maps = maps.unflatten(0, (query.shape[0], -1))
        columns = windows.keys[None, :, None, None].expand_as(maps)
        wide = maps.new_zeros(*maps.shape[:4], (query if key is None else key).shape[1])
        wide = wide.scatter_add_(4, columns, maps)  # (B, windows, heads, Q, N keys)
        return wide.transpose(1, 2).flatten(2, 3)[:, :, windows.restore]

    def linear(self, query: Tensor, key: Tensor | None, value: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Projected queries (B, N, C), and keys and values side by side (B, N keys, 2C)."""
        C = self.attn_dim
        if key is None:
            return self.qkv(query).split([C, 2 * C], dim=-1)
        q = linear_rows(self.qkv, query, 0, C)
        if value is None:
            return q, linear_rows(self.qkv, key, C, 3 * C)
        k, v = linear_rows(self.qkv, key, C, 2 * C), linear_rows(self.qkv, value, 2 * C, 3 * C)
        return q, torch.cat([k, v], dim=-1)

    def heads(self, q: Tensor, kv: Tensor, windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
        q = gather(q, windows.queries).unflatten(3, (self.num_heads, self.head_dim))
        kv = gather(kv, windows.keys).unflatten(3, (2, self.num_heads, self.head_dim))
        k, v = kv.flatten(0, 1).permute(2, 0, 3, 1, 4).unbind(0)
        return q.flatten(0, 1).transpose(1, 2), k, v  # (B·windows, heads, Q or K, d)

    @staticmethod
    def mask(windows: Windows, q: Tensor) -> Tensor | None:
        if windows.mask is None:
            return None
        mask = windows.mask.to(q.dtype)
        mask = mask[:, None, None] if mask.ndim == 2 else mask  # (windows, 1 or heads, 1 or Q, K)
        return mask.repeat(q.shape[0] // mask.shape[0], 1, 1, 1)  # (B·windows, 1 or heads, 1 or Q, K)


class WindowedLayer(ContextBlock):
    """A pre-norm block whose attention goes by ``Windows``."""

    @classmethod
    def from_swin(cls, block: SwinTransformerBlock, layer_scale: float = 0.0) -> WindowedLayer:
        self = cls.__new__(cls)
        nn.Module.__init__(self)
        like = block.norm1.weight
        for name in ("norm1", "drop_path1", "norm2", "mlp", "drop_path2"):
            setattr(self, name, getattr(block, name))
        self.attn = WindowedAttention.from_swin(block.attn)
        for name in ("ls1", "ls2"):
            scale = LayerScale(block.dim, init_values=layer_scale) if layer_scale else nn.Identity()
            setattr(self, name, scale.to(device=like.device, dtype=like.dtype))
        return self

    def update(
        self, x: Tensor, query: Tensor, key: Tensor | None = None, windows: Windows | None = None
    ) -> Tensor:
        return self.feed_forward(x + self.drop_path1(self.ls1(self.attn(query, key, windows))))


class WindowedSemanticLayer(WindowedLayer):
    """A layer on the semantic tokens alone: within windows, or across them."""

    def forward(self, s: Tensor, windows: Windows | None, grid: Grid) -> Tensor:
        return self.update(s, self.norm1(s), None, windows)  # (B, M, C)


class RelativeSemanticLayer(WindowedSemanticLayer):
    """The same with a learned bias for each offset between two semantic tokens (Table 14, relative)."""

    @classmethod
    def from_swin(
        cls, block: SwinTransformerBlock, layer_scale: float = 0.0, reach: Grid = (1, 1)
    ) -> RelativeSemanticLayer:
        self = super().from_swin(block, layer_scale)
        self.relative = RelativePosition(reach, self.attn.num_heads)
        return self

    def forward(self, s: Tensor, windows: Windows | None, grid: Grid) -> Tensor:
        return super().forward(s, self.relative(windows, grid), grid)


class RelativePosition(nn.Module):
    """A bias for each head and each offset (Δy, Δx) on the grid of semantic tokens.

    Offsets beyond the ``reach`` of the grid that the model was built for share the bias of the farthest one.
    """

    def __init__(self, reach: Grid, heads: int):
        super().__init__()
        self.reach = tuple(reach)
        self.table = nn.Parameter(torch.zeros(2 * reach[0] - 1, 2 * reach[1] - 1, heads))
        trunc_normal_(self.table, std=0.02)

    def forward(self, windows: Windows | None, grid: Grid) -> Windows:
        """The same windows, with the bias (windows, heads, Q, K) as what is added to the logits."""
        if windows is None:  # all tokens look at all
            everyone = torch.arange(grid[0] * grid[1], device=self.table.device)
            windows = Windows(everyone[None], everyone[None], everyone)
        bias = self.table[
            self.offsets(windows, grid, 0), self.offsets(windows, grid, 1)
        ]  # (windows, Q, K, heads)
        return windows._replace(mask=bias.permute(0, 3, 1, 2))

    def offsets(self, windows: Windows, grid: Grid, axis: int) -> Tensor:
        """Rows (axis 0) or columns from query to key, as places in the table: (windows, Q, K)."""
        side, reach = grid[1], self.reach[axis]
        q, k = (table // side if axis == 0 else table % side for table in (windows.queries, windows.keys))
        return (k[:, None, :] - q[:, :, None]).clamp(1 - reach, reach - 1) + reach - 1

    def extra_repr(self) -> str:
        return f"reach={self.reach}, heads={self.table.shape[2]}"


class WindowedStgmLayer(WindowedLayer):
    """A layer of the STGM with the keys X (Eq. 1 to the letter): MHA(S + G, X, X) + S, then FFN."""

    centers: nn.Module | None  # G, in the layers after the first

    @classmethod
    def from_swin(cls, block: SwinTransformerBlock, layer_scale: float = 0.0) -> WindowedStgmLayer:
        self = super().from_swin(block, layer_scale)
        self.centers = None
        return self

    def forward(self, s: Tensor, x: Tensor, windows: Windows | None, grid: Grid) -> Tensor:
        return self.update(s, *self.sources(s, x, grid), windows)  # (B, M, C)

    def sources(self, s: Tensor, x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Queries and keys, normalised."""
        return self.guide(self.norm1(s), grid), self.norm1(x)

    def guide(self, queries: Tensor, grid: Grid) -> Tensor:
        return queries if self.centers is None else self.centers(queries, grid)

    def assignment(self, s: Tensor, x: Tensor, windows: Windows | None, grid: Grid) -> Tensor:
        """(B, M, N): the part each image token has in each semantic token, over all heads; rows sum to 1."""
        weights = self.attn.weights(*self.sources(s, x, grid), windows).mean(1)[:, :, -x.shape[1] :]
        return weights / weights.sum(-1, keepdim=True)


class ConcatStgmLayer(WindowedStgmLayer):
    """A layer of the STGM with the keys Concat(S, X) (Eq. 2), which are normalised and projected once."""

    def sources(self, s: Tensor, x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        keys = self.norm1(torch.cat([s, x], dim=1))  # (B, M + N, C)
        return self.guide(keys[:, : s.shape[1]], grid), keys


class LearnedEncodingStgmLayer(ConcatStgmLayer):
    """Table 7's last row: G is added to the keys too, and so acts as a learned positional encoding."""

    def forward(self, s: Tensor, x: Tensor, windows: Windows | None, grid: Grid) -> Tensor:
        values = self.norm1(torch.cat([s, x], dim=1))  # (B, M + N, C)
        queries = self.guide(values[:, : s.shape[1]], grid)  # (B, M, C)
        keys = torch.cat([queries, values[:, s.shape[1] :]], dim=1)
        return self.feed_forward(s + self.drop_path1(self.ls1(self.attn(queries, keys, windows, values))))

    def sources(self, s: Tensor, x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        values = self.norm1(torch.cat([s, x], dim=1))
        queries = self.guide(values[:, : s.shape[1]], grid)
        return queries, torch.cat([queries, values[:, s.shape[1] :]], dim=1)


class RecoveryLayer(WindowedLayer):
    """The recovery module (Eq. 6): X̂ = MHA(X, S, S) + X, X = FFN(X̂) + X̂."""

    def forward(self, x: Tensor, s: Tensor, windows: Windows | None = None) -> Tensor:
        update = self.attn(self.norm1(x), self.norm1(s), windows)  # (B, N, C)
        return in_groups(self.feed_forward, x + self.drop_path1(self.ls1(update)))
