"""From images to a pyramid of maps: any timm backbone with ``features_only``, FPN, anchors, proposals' maps."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import timm
import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork, roi_align
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from stvit.dense.detection.config import DetectorConfig


class Pyramid(nn.Module):
    """A backbone's maps, each with a LayerNorm, then a feature pyramid with one coarser map for proposals."""

    def __init__(self, body: nn.Module, config: DetectorConfig):
        super().__init__()
        info = getattr(body, "feature_info", None)
        if info is None or not hasattr(info, "channels"):
            raise ValueError(
                f"{type(body).__name__} gives no maps; build it by timm.create_model(…, features_only=True)"
            )
        self.widths, strides = list(info.channels()), list(info.reduction())
        if any(b <= a for a, b in pairwise(strides)):
            raise ValueError(
                f"a pyramid needs maps of growing strides, which {strides} are not: choose a backbone that "
                "recovers the full map, such as STViT-R"
            )
        self.body = body
        own = bool(len(getattr(getattr(body, "model", body), "output_norms", ())))
        normed = config.output_norms and not own
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in self.widths if normed)
        self.fpn = FeaturePyramidNetwork(self.widths, config.channels, LastLevelMaxPool())
        self.out_channels, self.strides = config.channels, (*strides, 2 * strides[-1])

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        maps = [self.channels_first(x, i) for i, x in enumerate(self.body(images))]  # (B, Cᵢ, H/sᵢ, W/sᵢ)
        for i, norm in enumerate(self.norms):
            maps[i] = norm(maps[i].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # over channels
        return self.fpn(OrderedDict((str(i), x) for i, x in enumerate(maps)))  # (B, channels, …) and "pool"

    def channels_first(self, x: Tensor, level: int) -> Tensor:
        """timm's own Swin returns (B, H, W, C)."""
        width = self.widths[level]
        return x if x.shape[1] == width and x.shape[3] != width else x.permute(0, 3, 1, 2)


class StridedAnchors(AnchorGenerator):
    """torchvision's anchors at the maps' true strides and unrounded.

    torchvision divides the padded image's size by the map's, which for the coarsest map is not its stride,
    and rounds corners to whole pixels, which small anchors do not survive.
    """

    def __init__(self, strides: tuple[int, ...], scale: float, ratios: tuple[float, ...]):
        super().__init__(tuple((scale * stride,) for stride in strides), (tuple(ratios),) * len(strides))
        self.strides = strides

    def generate_anchors(self, scales, aspect_ratios, dtype=torch.float32, device=None) -> Tensor:
        side, height = torch.tensor(scales, dtype=dtype), torch.tensor(aspect_ratios, dtype=dtype).sqrt()
        w, h = (side / height[:, None]).flatten(), (side * height[:, None]).flatten()  # (ratios·scales,)
        return torch.stack([-w, -h, w, h], dim=1).to(device) / 2

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        grids = [x.shape[-2:] for x in feature_maps]
        self.set_cell_anchors(torch.float32, feature_maps[0].device)
        anchors = torch.cat(self.grid_anchors(grids, [(stride, stride) for stride in self.strides]))
        return [anchors] * len(image_list.image_sizes)  # an image: (Σ H·W·ratios, 4)


class ProposalHead(RPNHead):
    """torchvision's head; in mixed precision boxes keep single precision."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, deltas = super().forward(x)
        return [t.float() for t in logits], [t.float() for t in deltas]


class RoIMaps(nn.Module):
    """A proposal's part of the map that fits its size, without the half-pixel shift of old RoIAlign.

    A box with sides of ``finest``·2ᵏ to ``finest``·2ᵏ⁺¹ is read from map k; smaller and larger ones from
    the first and the last.
    """

    def __init__(self, strides: tuple[int, ...], size: int, finest: float, sampling: int = 0):
        super().__init__()
        self.strides, self.size, self.finest, self.sampling = strides, size, finest, sampling

    def levels(self, boxes: Tensor) -> Tensor:
        sides = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=0).sqrt()  # (R,)
        return (sides / self.finest + 1e-6).log2().floor().clamp(0, len(self.strides) - 1).long()

    def forward(self, maps: list[Tensor], boxes: list[Tensor]) -> Tensor:
        """(R, C, size, size) for the R boxes of all images."""
        images = [torch.full((len(b), 1), i, dtype=b.dtype, device=b.device) for i, b in enumerate(boxes)]
        rois = torch.cat([torch.cat(images), torch.cat(boxes)], dim=1)  # (R, 5)
        levels = self.levels(rois[:, 1:])
        parts, places = [], []
        for level, (x, stride) in enumerate(zip(maps, self.strides, strict=True)):
            place = (levels == level).nonzero().flatten()
            parts.append(roi_align(x, rois[place].to(x), self.size, 1 / stride, self.sampling, aligned=True))
            places.append(place)
        return torch.cat(parts)[torch.cat(places).argsort()]  # back in the boxes' order


def create_pyramid(backbone: str, config: DetectorConfig, **model_args: object) -> Pyramid:
    """The named backbone, registered with timm, under a pyramid."""
    if not timm.is_model(backbone):
        near = ", ".join(timm.list_models(f"*{backbone.split('_')[0]}*")[:6])
        raise ValueError(
            f"no backbone {backbone!r} is registered with timm{f'; near it: {near}' if near else ''}"
        )
    return Pyramid(timm.create_model(backbone, features_only=True, **model_args), config)
