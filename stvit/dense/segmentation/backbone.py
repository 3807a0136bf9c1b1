"""A backbone of timm's as transformers' segmenters and detectors take it, with its arguments.

    config = BackboneConfig(backbone="stvit_r_swin_small_patch4_window7_224", backbone_args={"drop_path_rate": 0.3})
    backbone = AutoBackbone.from_config(config)
    maps = backbone(images).feature_maps            # strides 4, 8, 16, 32; (B, C, h, w) each

transformers' own ``TimmBackbone`` takes no arguments of the model from its configuration, so that stochastic
depth and dumbbell units would silently be the defaults, and passes on channels-last maps as they come.
"""

from __future__ import annotations

import timm
import torch

from stvit.extras import require

require("transformers", "a segmentation head")

from huggingface_hub.dataclasses import strict  # noqa: E402
from timm.layers import LayerNorm2d  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from transformers import AutoBackbone, AutoConfig, TimmBackbone, TimmBackboneConfig  # noqa: E402
from transformers.modeling_outputs import BackboneOutput  # noqa: E402

STAGES = (0, 1, 2, 3)


@strict
class BackboneConfig(TimmBackboneConfig):
    """A model's name and arguments.

    backbone_args: what ``timm.create_model`` is given besides the name
    output_norms: a LayerNorm behind each map, as Swin's dense backbones have
    """

    model_type = "stvit_backbone"

    backbone_args: dict | None = None
    output_norms: bool = False

    def __post_init__(self, **kwargs):
        if self.out_indices is None and "out_indices" not in kwargs:
            self.out_indices = list(STAGES)
        super().__post_init__(**kwargs)


class Backbone(TimmBackbone):
    """Maps (B, C, h, w) of any model whose stages timm can read."""

    config_class = BackboneConfig
    config: BackboneConfig
    _without_memory = False

    def __init__(self, config: BackboneConfig, **kwargs):
        self._given = {"feature_cls": "getter", **(config.backbone_args or {}), **kwargs}
        super().__init__(config, **self._given)  # the getter turns channels-last maps around
        norms = [LayerNorm2d(channels) for channels in self.channels] if config.output_norms else []
        self.output_norms = nn.ModuleList(norms)
        self._without_memory = next(self._backbone.parameters()).is_meta

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """``from_pretrained`` builds without memory: tables that no file has are then made again."""
        super()._init_weights(module)
        if module is self._backbone and self._without_memory:
            given = dict(self._given, features_only=True, out_indices=self.out_indices)
            fresh = dict(timm.create_model(self.config.backbone, **given).named_buffers())
            for name, buffer in module.named_buffers():
                if name not in module.state_dict():
                    buffer.copy_(fresh[name])

    def forward(self, pixel_values: Tensor, **kwargs) -> BackboneOutput | tuple[Tensor, ...]:
        output = super().forward(pixel_values, **kwargs)
        if not self.output_norms:
            return output
        maps = output[0] if isinstance(output, tuple) else output.feature_maps
        maps = tuple(norm(one) for norm, one in zip(self.output_norms, maps, strict=True))
        if isinstance(output, tuple):
            return (maps, *output[1:])
        return BackboneOutput(feature_maps=maps, hidden_states=output.hidden_states)


AutoConfig.register(BackboneConfig.model_type, BackboneConfig)
AutoBackbone.register(BackboneConfig, Backbone)
