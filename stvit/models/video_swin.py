"""Video Swin: timm's Swin on clips, with windows over frames, rows and columns.

The function is that of torchvision's ``swin3d_t`` and ``swin3d_s`` and of the Video Swin authors' program;
parameters have the authors' names, which are timm's (``stvit.convert.video`` reads both). Windows of a clip
that is smaller than they are keep the true relative positions, where torchvision takes those of the first
tokens of a whole window: the two agree wherever the map is at least as high and wide as a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from timm.layers import trunc_normal_, use_fused_attn
from timm.models._features import feature_take_indices
from timm.models.swin_transformer import PatchMerging, SwinTransformerBlock
from timm.models.swin_transformer import WindowAttention as TimmWindowAttention
from torch import Tensor, nn

from stvit.fast.groups import in_groups
from stvit.layers.attention import attend, attention_weights
from stvit.layers.clip_windows import ClipWindows, Size, clip_windows, pad, padded_size, relative_positions
from stvit.models.swin import AnySizeSwin
from stvit.surgery import recast


class ClipAttention(TimmWindowAttention):
    """3D W-MSA and SW-MSA, fused: for all windows of a kind at once, the relative position bias as the mask."""

    window: Size

    @classmethod
    def from_timm(cls, attention: TimmWindowAttention, span: int) -> ClipAttention:
        """``attention`` in windows of ``span`` frames, with a new table of relative positions."""
        self = recast(attention, cls)
        self.fused_attn = use_fused_attn()
        self.window = (span, *attention.window_size)
        self.register_buffer("relative_position_index", None, persistent=False)
        old = attention.relative_position_bias_table
        entries = (2 * span - 1) * old.shape[0]
        self.relative_position_bias_table = nn.Parameter(old.new_empty(entries, old.shape[1]))
        trunc_normal_(self.relative_position_bias_table, std=0.02)
        return self

    def forward(self, x: Tensor, clip: ClipWindows) -> Tensor:
        """(B·windows·L, C), the tokens of the windows group after group, as ``clip.rows`` lays them out."""
        outputs = [in_groups(self.attend, windows, mask=mask) for windows, mask in self.kinds(x, clip)]
        x = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return self.proj_drop(x.flatten(0, 1))

    def attend(self, windows: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.project(windows)
        dropout = self.attn_drop.p if self.training else 0.0
        fused = self.fused_attn and not torch.onnx.is_in_onnx_export()
        y = attend(q, k, v, self.scale, mask, dropout, fused)
        return self.proj(y.transpose(1, 2).flatten(2))  # (windows, L, C)

    def weights(self, x: Tensor, clip: ClipWindows) -> Tensor:
        """The maps (B·windows, heads, L, L), clip by clip and each clip's windows in reading order."""
        maps = []
        for (windows, mask), group in zip(self.kinds(x, clip), clip.groups, strict=True):
            q, k, _ = self.project(windows)
            found = attention_weights(q, k, self.scale, mask)
            maps.append(found.unflatten(0, (-1, group.count)))  # (B, windows, heads, L, L)
        order = torch.tensor(clip.places, device=x.device).argsort()
        return torch.cat(maps, dim=1)[:, order].flatten(0, 1)

    def kinds(self, x: Tensor, clip: ClipWindows) -> Iterator[tuple[Tensor, Tensor]]:
        """The windows of each kind (B·windows, L, C), and what is added to their logits (1, heads, L, L)."""
        bias = self.bias(clip.window, x.dtype)
        batch, (_, L) = x.shape[0] // clip.table.numel(), clip.table.shape
        parts = x.view(-1, L, x.shape[1]).split([batch * group.count for group in clip.groups])
        for windows, group in zip(parts, clip.groups, strict=True):
            mask = bias if group.hidden is None else bias.masked_fill(group.hidden, -torch.inf)
            yield windows, mask[None]

    def project(self, windows: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values (windows, heads, L, head_dim)."""
        n, L, C = windows.shape
        qkv = self.qkv(windows).view(n, L, 3, self.num_heads, C // self.num_heads)
        return qkv.permute(2, 0, 3, 1, 4).unbind(0)

    def bias(self, window: Size, dtype: torch.dtype) -> Tensor:
        """(heads, L, L)"""
        table = self.relative_position_bias_table.t().to(dtype).contiguous()  # (heads, entries)
        entries = relative_positions(window, self.window, table.device)
        side = window[0] * window[1] * window[2]
        return table.index_select(1, entries).view(-1, side, side)


class ClipBlock(SwinTransformerBlock):
    """Swin's block on a clip (B, T, H, W, C) of any size.

    mask_padding: padded tokens take no part in attention (in torchvision's and the authors' they do)
    """

    mask_padding: bool

    @classmethod
    def from_timm(cls, block: SwinTransformerBlock, span: int, mask_padding: bool) -> ClipBlock:
        self = recast(block, cls)
        self.attn = ClipAttention.from_timm(block.attn, span)
        self.register_buffer("attn_mask", None, persistent=False)
        self.mask_padding = mask_padding
        return self

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path1(self._attn(self.norm1(x)))  # (B, T, H, W, C)
        update = in_groups(self.feed_forward, x.flatten(0, 1))  # (B·T, H, W, C)
        return x + self.drop_path2(update.unflatten(0, x.shape[:2]))

    def feed_forward(self, frames: Tensor) -> Tensor:
        return self.mlp(self.norm2(frames))

    def _attn(self, x: Tensor) -> Tensor:
        B, *size, C = map(int, x.shape)
        clip = clip_windows(
            tuple(size), self.attn.window, any(self.target_shift_size), self.mask_padding, x.device
        )
        there, back = clip.rows(B)
        x = pad(x, clip.padded).reshape(-1, C).index_select(0, there)  # (B·windows·L, C)
        return self.attn(x, clip).index_select(0, back).view(B, *size, C)


class FrameMerging(PatchMerging):
    """Patch merging in each frame."""

    def forward(self, x: Tensor) -> Tensor:
        merged = super().forward(x.flatten(0, 1))  # (B·T, H/2, W/2, 2C)
        return merged.unflatten(0, x.shape[:2])


class ClipEmbed(nn.Module):
    """Patches of some frames, rows and columns through one linear map, and a norm: (B, T', H', W', C).

    A clip that the patches do not divide is padded with zeros at the end, at the bottom and at the right.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: tuple[int, int] = (4, 4),
        in_chans: int = 3,
        embed_dim: int = 96,
        frames: int = 2,
        norm_layer: type[nn.Module] = nn.LayerNorm,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        **_: object,  # what only timm's patch embedding knows: strict_img_size, output_fmt
    ):
        super().__init__()
        self.img_size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        self.frames, self.patch_size = frames, tuple(patch_size)
        self.grid_size = self.dynamic_feat_size(self.img_size)
        self.patch = (frames, *self.patch_size)
        self.proj = nn.Conv3d(in_chans, embed_dim, self.patch, self.patch, device=device, dtype=dtype)
        self.norm = norm_layer(embed_dim, device=device, dtype=dtype)

    def forward(self, clips: Tensor) -> Tensor:
        if clips.ndim != 5:
            raise ValueError(f"clips are (B, channels, frames, height, width), not {tuple(clips.shape)}")
        channels_last = clips.permute(0, 2, 3, 4, 1)  # (B, T, H, W, 3)
        clips = pad(channels_last, padded_size(clips.shape[2:], self.patch)).permute(0, 4, 1, 2, 3)
        return self.norm(self.proj(clips).permute(0, 2, 3, 4, 1).contiguous())  # (B, T', H', W', C)

    def dynamic_feat_size(self, img_size: tuple[int, int]) -> tuple[int, int]:
        return tuple(-(-side // patch) for side, patch in zip(img_size, self.patch_size, strict=True))


class VideoSwin(AnySizeSwin):
    """Video Swin for clips (B, 3, T, H, W) of any length and size. Further arguments are timm's Swin's.

    patch_size: frames, rows and columns of a patch
    window_size: frames, rows and columns of a window, in tokens
    embed_layer: what makes tokens of patches
    mask_padding: where windows do not divide a clip, padding takes no part in attention
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: Size = (2, 4, 4),
        window_size: Size = (8, 7, 7),
        mask_padding: bool = False,
        embed_layer: type[nn.Module] = ClipEmbed,
        **choices: object,
    ):
        for name, value in (("patch_size", patch_size), ("window_size", window_size)):
            if isinstance(value, int) or len(value) != 3:
                raise ValueError(f"{name} must be (frames, rows, columns), not {value!r}")
        super().__init__(
            img_size=img_size,
            patch_size=tuple(patch_size[1:]),
            window_size=tuple(window_size[1:]),
            embed_layer=partial(embed_layer, frames=patch_size[0]),
            always_partition=True,
            strict_img_size=False,
            **choices,
        )
        self.span = window_size[0]
        self.adopt_blocks(mask_padding)

    def adopt_blocks(self, mask_padding: bool = False, always_shift: bool = False) -> None:
        """Blocks and mergings for clips instead of timm's; what is for clips already stays."""
        if always_shift:
            raise ValueError("windows of clips are not shifted along an axis that one of them covers")
        for stage in self.layers:
            stage.blocks = nn.Sequential(
                *(
                    block
                    if isinstance(block, ClipBlock)
                    else ClipBlock.from_timm(block, self.span, mask_padding)
                    for block in stage.blocks
                )
            )
            if isinstance(stage.downsample, PatchMerging):
                stage.downsample = recast(stage.downsample, FrameMerging)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The classifier on the mean of all tokens (B, T, H, W, C) of the clip."""
        return super().forward_head(x.flatten(1, 2), pre_logits)  # frames below each other: (B, T·H, W, C)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ):
        """As timm's: the tokens after each chosen stage, channels first: (B, C, T, H, W)."""
        if output_fmt != "NCHW":
            raise ValueError(f"unknown output_fmt {output_fmt!r}; choose NCHW")
        chosen, last = feature_take_indices(len(self.layers), indices)
        x, maps = self.patch_embed(x), []
        for i, stage in enumerate(self.layers[: last + 1] if stop_early else self.layers):
            x = stage(x)  # (B, T, H, W, C)
            if i in chosen:
                final = norm and i == len(self.layers) - 1
                maps.append((self.norm(x) if final else x).permute(0, 4, 1, 2, 3).contiguous())
        return maps if intermediates_only else (self.norm(x), maps)
