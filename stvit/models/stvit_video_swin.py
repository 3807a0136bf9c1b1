"""STViT on Video Swin (Table 6): semantic tokens from each frame, and everything behind them frame by frame."""

from __future__ import annotations

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from stvit.layers.window_layout import layout
from stvit.layers.window_options import OPTIONS
from stvit.models.dumbbell import DumbbellStage, SemanticStage
from stvit.models.stvit_swin import SIZES, SemanticSwin
from stvit.models.video_swin import VideoSwin
from stvit.surgery import recast


class FrameUnitStage(DumbbellStage):
    """Stage 3: base layers on the clip, then STGM and semantic layers on each of its frames."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)  # (B, T, H, W, C)
        blocks, unit, clips = iter(self.blocks), self.units[0], x.shape[:2]
        for _ in range(unit.image):
            x = self.run(next(blocks), x)
        grid = tuple(map(int, x.shape[2:4]))
        where = layout(grid, self.window, self.options, x.device)
        tokens = self.tokens(x.flatten(0, 1), where)  # (B·T, N, C)
        s = self.initial[0](tokens, where.grid)  # P (B·T, M, C)
        s = self.semantic_tokens(s, tokens, unit, blocks, where)
        return s.unflatten(1, where.semantic).unflatten(0, clips)  # (B, T, h, w, C)


class FrameSemanticStage(SemanticStage):
    """Stage 4: a linear C → 2C and layers across the windows of each frame's semantic tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])  # (B, T, h, w, 2C)


class STViTVideoSwin(VideoSwin, SemanticSwin):
    """STViT in Video Swin. Arguments are those below, SemanticOptions' and Video Swin's.

    1. Swin's patch stem, stages 1 and 2, and the first ``base_depth`` layers of stage 3, on the clip.
    2. STGM in each frame: w_s × w_s semantic tokens in each window; the first layer's keys are image
       tokens alone (Eq. 1), further ones' are Concat(S, X) (Eq. 2).
    3. Further layers of stage 3 in each frame: within the windows and across them, in turn.
    4. Linear C → 2C, no downsampling; stage 4 on each frame's semantic tokens; the mean over all frames.

    base_depth: layers of stage 3 before the STGM (2 of 6, 10 of 18)
    stgm_layers: how many layers the STGM has
    """

    def __init__(
        self,
        base_depth: int | None = None,
        stgm_layers: int = 2,
        mask_padding: bool = False,
        **choices: object,
    ):
        options = {name: choices.pop(name) for name in OPTIONS if name in choices}
        options.setdefault("stgm_keys", "image_first")
        if options.get("border", "inside") != "inside":
            raise ValueError(f"border={options['border']!r} is for images; frames have border='inside'")
        super().__init__(mask_padding=mask_padding, **choices)
        self.equip_without_recovery(base_depth, stgm_layers, mask_padding, options)
        self.layers[2] = recast(self.layers[2], FrameUnitStage)
        self.layers[3] = recast(self.layers[3], FrameSemanticStage)


def default_cfg(**kwargs: object) -> dict:
    """``input_size`` is (channels, frames, height, width) of a clip."""
    return {
        "url": "",
        "num_classes": 400,
        "input_size": (3, 32, 224, 224),
        "pool_size": (16, 7, 7),
        "crop_pct": 0.875,
        "interpolation": "bilinear",
        "fixed_input_size": False,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "first_conv": "patch_embed.proj",
        "classifier": "head.fc",
        "license": "mit",
        **kwargs,
    }


default_cfgs = generate_default_cfgs(
    {
        "video_swin_tiny": default_cfg(),
        "video_swin_small": default_cfg(),
        "stvit_video_swin_tiny": default_cfg(pool_size=(16, 6, 6)),
        "stvit_video_swin_small": default_cfg(pool_size=(16, 6, 6)),
    }
)


def create_video(cls: type[VideoSwin], variant: str, pretrained: bool, cfg: dict, **kwargs) -> nn.Module:
    """timm's builder takes image sizes of three numbers alone: it is shown a frame's, the model has the clip's."""
    given = dict(kwargs.pop("pretrained_cfg_overlay", None) or {})
    named = kwargs.get("pretrained_cfg")
    own = named.get("input_size") if isinstance(named, dict) else getattr(named, "input_size", None)
    channels, *sides = given.get("input_size") or own or cfg["input_size"]
    clip = (channels, *([cfg["input_size"][1]] if len(sides) == 2 else []), *sides)  # timm saves no length
    model = build_model_with_cfg(
        cls,
        variant,
        pretrained,
        pretrained_cfg_overlay={**given, "input_size": (clip[0], *clip[-2:])},
        feature_cfg=dict(out_indices=(0, 1, 2, 3), feature_cls="getter"),
        **kwargs,
    )
    model.pretrained_cfg["input_size"] = clip
    return model


def _create(cls: type[VideoSwin], size: str, pretrained: bool, **kwargs: object) -> nn.Module:
    variant = f"{'stvit_' if cls is STViTVideoSwin else ''}video_swin_{size}"
    sizes = {**SIZES[size], "drop_path_rate": {"tiny": 0.1, "small": 0.2}[size]}
    return create_video(cls, variant, pretrained, default_cfg(), **{**sizes, **kwargs})


@register_model
def video_swin_tiny(pretrained: bool = False, **kwargs) -> VideoSwin:
    """Video Swin-T."""
    return _create(VideoSwin, "tiny", pretrained, **kwargs)


@register_model
def video_swin_small(pretrained: bool = False, **kwargs) -> VideoSwin:
    """Video Swin-S."""
    return _create(VideoSwin, "small", pretrained, **kwargs)


@register_model
def stvit_video_swin_tiny(pretrained: bool = False, **kwargs) -> STViTVideoSwin:
    """STViT on Video Swin-T (Table 6)."""
    return _create(STViTVideoSwin, "tiny", pretrained, **kwargs)


@register_model
def stvit_video_swin_small(pretrained: bool = False, **kwargs) -> STViTVideoSwin:
    """STViT on Video Swin-S (Table 6)."""
    return _create(STViTVideoSwin, "small", pretrained, **kwargs)
