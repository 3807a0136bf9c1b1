"""UperNet, transformers' heads, on a backbone of timm's; trains with a batch of one image too."""

from __future__ import annotations

from stvit.extras import require

require("transformers", "UperNet")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from transformers import UperNetConfig, UperNetForSemanticSegmentation  # noqa: E402

from stvit.dense.segmentation.backbone import BackboneConfig  # noqa: E402
from stvit.dense.segmentation.scores import IGNORED  # noqa: E402

POOLS = (1, 2, 3, 6)
PRESETS = {
    "swin": {},
    "micro": dict(channels=32, auxiliary_channels=16, pools=(1, 2, 4)),
}  # maps of 64 × 64 images


class PooledBatchNorm(nn.BatchNorm2d):
    """BatchNorm behind the pooling to 1 × 1: a single image has one value a channel, and so no spread.

    Where it trains on such a batch, it normalises by its running statistics and leaves them as they are;
    with two images or more it is BatchNorm.
    """

    @classmethod
    def adopt(cls, norm: nn.BatchNorm2d) -> PooledBatchNorm:
        norm.__class__ = cls  # same parameters and buffers, by the same names
        return norm

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class UperNet(UperNetForSemanticSegmentation):
    """transformers' UperNet, which knows what of its backbone has no weight decay."""

    def no_weight_decay(self) -> set[str]:
        """The backbone's exceptions, by their names here."""
        body = self.backbone._backbone
        inner, prefix = (body.model, "model.") if hasattr(body, "model") else (body, "")
        names = inner.no_weight_decay() if hasattr(inner, "no_weight_decay") else set()
        return {f"backbone._backbone.{prefix}{name}" for name in names}


def create_segmenter(
    backbone: str,
    num_classes: int,
    backbone_args: dict | None = None,
    channels: int = 512,
    auxiliary_channels: int = 256,
    pools: tuple[int, ...] = POOLS,
    output_norms: bool = True,
) -> UperNet:
    """UperNet with an auxiliary head on the third map, as the paper's authors have it with Swin.

    backbone: a model that timm knows and whose four stages it can read
    backbone_args: its arguments, such as ``drop_path_rate``
    channels: of the pyramid and the fused map
    auxiliary_channels: of the auxiliary head, whose loss has the weight 0.4
    pools: sides of the maps that pyramid pooling makes of the last one
    output_norms: a LayerNorm behind each map
    """
    config = UperNetConfig(
        backbone_config=BackboneConfig(
            backbone=backbone, backbone_args=dict(backbone_args or {}), output_norms=output_norms
        ),
        num_labels=num_classes,
        hidden_size=channels,
        auxiliary_channels=auxiliary_channels,
        pool_scales=list(pools),
        loss_ignore_index=IGNORED,
    )
    model = UperNet(config)
    for size, block in zip(pools, model.decode_head.psp_modules.blocks, strict=True):
        if size == 1:
            PooledBatchNorm.adopt(block.layers[1].batch_norm)
    model.built_from = (
        "segment",
        dict(
            backbone=backbone, num_classes=num_classes, backbone_args=dict(backbone_args or {}), channels=channels,
            auxiliary_channels=auxiliary_channels, pools=list(pools), output_norms=output_norms,
        ),
    )  # fmt: skip
    return model
