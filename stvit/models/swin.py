"""The trunk that STViT-Swin and STViT-R-Swin share: timm's Swin with blocks for maps of any size.

timm's shifted block rolls the map first and then pads it, so that at sizes which the window does not divide
opposite borders attend to each other. Here a map is padded first, and padding is masked.
Modules extend timm's and keep its parameter names.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from timm.layers import ConvNormAct, use_fused_attn
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock
from timm.models.swin_transformer import WindowAttention as TimmWindowAttention
from torch import Tensor, nn

from stvit.fast.groups import in_groups
from stvit.layers.attention import attend, attention_weights
from stvit.layers.windows import Grid, pad, padding, partition, regions, reverse, same_region
from stvit.surgery import recast


class WindowAttention(TimmWindowAttention):
    """W-MSA and SW-MSA, fused for all windows at once: the relative position bias goes in as the mask."""

    @classmethod
    def from_timm(cls, attention: TimmWindowAttention) -> WindowAttention:
        self = recast(attention, cls)
        self.fused_attn = use_fused_attn()  # timm's Swin leaves fused attention off by default
        return self

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B·windows, w², C); ``labels`` (windows, w²): attention stays inside equal labels."""
        q, k, v = self.project(x)  # (B·windows, heads, w², head_dim) each
        bias = self.bias(labels, x.shape[0], q.dtype)
        dropout = self.attn_drop.p if self.training else 0.0
        fused = (
            self.fused_attn and not torch.onnx.is_in_onnx_export()
        )  # the older ONNX exporter needs it written out
        x = attend(q, k, v, self.scale, bias, dropout, fused)
        return self.proj_drop(self.proj(x.transpose(1, 2).flatten(2)))  # (B·windows, w², C)

    def weights(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """The maps (B·windows, heads, w², w²), image by image and each image's windows in reading order."""
        q, k, _ = self.project(x)
        return attention_weights(q, k, self.scale, self.bias(labels, x.shape[0], q.dtype))

    def project(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def bias(self, labels: Tensor | None, count: int, dtype: torch.dtype) -> Tensor:
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]  # (w²·w², heads)
        bias = bias.unflatten(0, (self.window_area, -1)).permute(2, 0, 1).to(dtype).contiguous()
        if labels is None:
            return bias[None]  # (1, heads, w², w²)
        hidden = ~same_region(labels)[:, None]  # (windows, 1, w², w²)
        mask = torch.zeros(hidden.shape, dtype=dtype, device=bias.device).masked_fill(hidden, -torch.inf)
        bias = mask + bias  # (windows, heads, w², w²)
        images = count // bias.shape[0]
        return bias.expand(images, *bias.shape).flatten(0, 1)  # (B·windows, heads, w², w²)


class WindowBlock(SwinTransformerBlock):
    """Swin's block on a map (B, H, W, C) of any size: pad, roll, attend in windows, roll back, crop.

    mask_padding: padded tokens take no part in attention (Swin's detectors and torchvision let them)
    always_shift: shift even where one window covers the map, as the authors' detection backbone does
    """

    mask_padding: bool
    always_shift: bool

    @classmethod
    def from_timm(
        cls, block: SwinTransformerBlock, mask_padding: bool = True, always_shift: bool = False
    ) -> WindowBlock:
        self = recast(block, cls)
        self.attn = WindowAttention.from_timm(block.attn)
        self.register_buffer("attn_mask", None, persistent=False)
        self.mask_padding, self.always_shift = mask_padding, always_shift
        return self

    def forward(self, x: Tensor) -> Tensor:
        return in_groups(self.whole, x)  # (B, H, W, C)

    def whole(self, x: Tensor) -> Tensor:
        x = x + self.drop_path1(self._attn(self.norm1(x)))  # (B, H, W, C)
        update = in_groups(self.feed_forward, x.flatten(0, 1))  # (B·H, W, C): a large map in strips
        return x + self.drop_path2(update.unflatten(0, x.shape[:2]))

    def feed_forward(self, rows: Tensor) -> Tensor:
        return self.mlp(self.norm2(rows))

    def _attn(self, x: Tensor) -> Tensor:
        grid, window = tuple(x.shape[1:3]), self.window_size
        shift = self.shift(grid)
        labels = regions(grid, window, shift, self.mask_padding, x.device)  # (windows, w²) or None
        x = pad(x, window)  # (B, H', W', C)
        padded = tuple(x.shape[1:3])
        if any(shift):
            x = x.roll((-shift[0], -shift[1]), (1, 2))
        windows = self.attn(partition(x, window), labels)  # (B·windows, w², C)
        x = reverse(windows, window, padded)  # (B, H', W', C)
        if any(shift):
            x = x.roll(shift, (1, 2))
        return x[:, : grid[0], : grid[1]]  # (B, H, W, C)

    def shift(self, grid: Grid) -> Grid:
        """By how much the windows move: not at all along a side that one window covers."""
        return tuple(
            step if self.always_shift or size > side else 0
            for size, side, step in zip(grid, self.window_size, self.target_shift_size, strict=True)
        )


class ConvStem(nn.Module):
    """Two 3×3 convolutions of stride 2, each with BatchNorm and Hardswish: images to strides of 4.

    An image whose sides 4 does not divide is padded with zeros at the bottom and at the right.
    """

    strides = (2, 2)

    def __init__(
        self,
        img_size: int | Grid = 224,
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        **_: object,  # what only timm's patch embedding knows: norm_layer, strict_img_size, output_fmt
    ):
        super().__init__()
        stride = math.prod(self.strides)
        if patch_size != stride:
            raise ValueError(
                f"the convolutional stem has a stride of {stride}; patch_size={patch_size} is not possible"
            )
        self.img_size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        self.patch_size = (stride, stride)
        self.grid_size = self.dynamic_feat_size(self.img_size)
        first, second = self.strides
        settings = dict(kernel_size=3, act_layer=nn.Hardswish, device=device, dtype=dtype)
        self.proj = nn.Sequential(
            ConvNormAct(in_chans, embed_dim // 2, stride=first, **settings),
            ConvNormAct(embed_dim // 2, embed_dim, stride=second, **settings),
        )

    def forward(self, images: Tensor) -> Tensor:
        bottom, right = padding(images.shape[2:], self.patch_size)
        if bottom or right:
            images = F.pad(images, (0, right, 0, bottom))
        # channels last is the tokens' own layout, and a CPU convolves few channels faster in it
        x = self.proj(images.contiguous(memory_format=torch.channels_last))  # (B, C, H, W)
        return x.permute(0, 2, 3, 1).contiguous()  # (B, H, W, C)

    def dynamic_feat_size(self, img_size: Grid) -> Grid:
        return -(-img_size[0] // self.patch_size[0]), -(-img_size[1] // self.patch_size[1])


class AnySizeSwin(SwinTransformer):
    """timm's Swin for images of any size; ``adopt_blocks`` makes it one."""

    def adopt_blocks(self, mask_padding: bool = True, always_shift: bool = False) -> None:
        for stage in self.layers:
            stage.blocks = nn.Sequential(
                *(WindowBlock.from_timm(block, mask_padding, always_shift) for block in stage.blocks)
            )
        self.dynamic_img_size = True
        for name, value in (("strict_img_size", False), ("dynamic_img_pad", True)):
            if hasattr(self.patch_embed, name):
                setattr(self.patch_embed, name, value)

    def set_input_size(self, img_size: Grid | None = None, **windows: object) -> None:
        """Nothing to do for another image size: each forward takes the size it is given."""
        unknown = [name for name, value in windows.items() if value is not None]
        if unknown:
            raise ValueError(
                f"set_input_size cannot change {', '.join(unknown)} of a built model; create one with these"
            )

    def forward_intermediates(self, x: Tensor, *args, output_fmt: str = "NCHW", **kwargs):
        """As timm's: the map after each chosen stage, (B, C, H, W)."""
        if output_fmt != "NCHW":
            raise ValueError(f"unknown output_fmt {output_fmt!r}; choose NCHW")
        return super().forward_intermediates(x, *args, output_fmt=output_fmt, **kwargs)
