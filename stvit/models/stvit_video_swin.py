"""STViT on Video Swin (Table 6): semantic tokens from each frame; all later layers work frame by frame."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from stvit.layers.window_options import OPTIONS
from stvit.layers.window_semantic import Windows
from stvit.models.dumbbell import DumbbellStage, SemanticStage
from stvit.models.registry import STAGES, SWIN_SIZES, build, default_cfg, register
from stvit.models.stvit_swin import SemanticSwin
from stvit.models.video_swin import VideoSwin
from stvit.surgery import recast


class FrameUnitStage(DumbbellStage):
    """Stage 3: base layers on the clip, then STGM and semantic layers on each of its frames."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)  # (B, T, H, W, C)
        blocks, clips = iter(self.blocks), x.shape[:2]
        for _ in range(self.units[0].image):
            x = self.run(next(blocks), x)
        where = self.layout(tuple(map(int, x.shape[2:4])), x.device)
        tokens = self.tokens(x.flatten(0, 1))  # (B·T, N, C)
        s = self.initial[0](tokens, where.grid)  # P (B·T, M, C)
        s = self.semantic_tokens(0, s, tokens, blocks, where)
        return s.unflatten(1, where.semantic).unflatten(0, clips)  # (B, T, h, w, C)


class ClipUnitStage(DumbbellStage):
    """Stage 3 with one set of semantic tokens for the whole clip: they attend to the image tokens of all frames."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)  # (B, T, H, W, C)
        blocks, (B, T) = iter(self.blocks), x.shape[:2]
        for _ in range(self.units[0].image):
            x = self.run(next(blocks), x)
        where = self.layout(tuple(map(int, x.shape[2:4])), x.device)
        frames = self.tokens(x.flatten(0, 1))  # (B·T, N, C)
        s = (
            self.initial[0](frames, where.grid).unflatten(0, (B, T)).mean(1)
        )  # P, the mean over frames (B, M, C)
        keys, N, M = self.options.stgm_keys, frames.shape[1], s.shape[1]
        where = where._replace(
            generate=over_frames(where.generate, M if keys == "concat" else 0, N, T),
            cluster=over_frames(where.cluster, 0 if keys == "image" else M, N, T),
        )
        s = self.semantic_tokens(0, s, frames.unflatten(0, (B, T)).flatten(1, 2), blocks, where)
        return s.unflatten(1, where.semantic)[:, None]  # (B, 1, h, w, C)


def over_frames(windows: Windows | None, own: int, count: int, frames: int) -> Windows | None:
    """Windows whose keys are image tokens of one frame, with those at the same places of all frames.

    own: how many keys before the image tokens are semantic tokens; count: image tokens of a frame
    """
    if windows is None:  # attention to all keys, of whatever frame
        return None
    first = int((windows.keys[0] < own).sum())  # semantic tokens come first in every row
    semantic, image = windows.keys[:, :first], windows.keys[:, first:]
    return windows._replace(keys=torch.cat([semantic, *(image + t * count for t in range(frames))], dim=1))


class FrameSemanticStage(SemanticStage):
    """Stage 4: a linear C → 2C and layers across the windows of each frame's semantic tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])  # (B, T, h, w, 2C)


SCOPES: dict[str, type[DumbbellStage]] = {"frame": FrameUnitStage, "clip": ClipUnitStage}


class STViTVideoSwin(VideoSwin, SemanticSwin):
    """STViT in Video Swin. Arguments are those below, SemanticOptions' and Video Swin's.

    1. Swin's patch stem, stages 1 and 2, and the first ``base_depth`` layers of stage 3, on the clip.
    2. STGM in each frame: w_s × w_s semantic tokens in each window; the first layer's keys are image
       tokens alone (Eq. 1), further ones' are Concat(S, X) (Eq. 2).
    3. Further layers of stage 3 in each frame: within the windows and across them, in turn.
    4. Linear C → 2C, no downsampling; stage 4 on each frame's semantic tokens; the mean over all frames.

    base_depth: layers of stage 3 before the STGM (2 of 6, 10 of 18)
    stgm_layers: how many layers the STGM has
    scope: semantic tokens of each frame (frame), as the printed FLOPs have it, or of the whole clip (clip),
        whose keys are the image tokens of all frames: fewer tokens after the STGM by the number of frames
    """

    def __init__(
        self,
        base_depth: int | None = None,
        stgm_layers: int = 2,
        mask_padding: bool = False,
        scope: str = "frame",
        **choices: object,
    ):
        if scope not in SCOPES:
            raise ValueError(f"unknown scope {scope!r}; choose one of {', '.join(SCOPES)}")
        options = {name: choices.pop(name) for name in OPTIONS if name in choices}
        options.setdefault("stgm_keys", "image_first")
        if options.get("border", "inside") != "inside":
            raise ValueError(f"border={options['border']!r} is for images; frames have border='inside'")
        super().__init__(mask_padding=mask_padding, **choices)
        self.equip_without_recovery(base_depth, stgm_layers, mask_padding, options)
        self.layers[2] = recast(self.layers[2], SCOPES[scope])
        self.layers[3] = recast(self.layers[3], FrameSemanticStage)


def clip_cfg(**changes: object) -> dict:
    """``input_size`` is (channels, frames, height, width) of a clip."""
    kinetics = dict(num_classes=400, input_size=(3, 32, 224, 224), pool_size=(16, 7, 7), crop_pct=0.875)
    own = dict(interpolation="bilinear", first_conv="patch_embed.proj", classifier="head.fc")
    return default_cfg(**{**kinetics, **own, **changes})


def create_video(cls: type[VideoSwin], name: str, pretrained: bool, cfg: dict, **kwargs) -> nn.Module:
    """timm's builder takes image sizes of three numbers alone: it is shown a frame's, the model has the clip's."""
    given = dict(kwargs.pop("pretrained_cfg_overlay", None) or {})
    named = kwargs.get("pretrained_cfg")
    own = named.get("input_size") if isinstance(named, dict) else getattr(named, "input_size", None)
    channels, *sides = given.get("input_size") or own or cfg["input_size"]
    clip = (channels, *([cfg["input_size"][1]] if len(sides) == 2 else []), *sides)  # timm saves no length
    overlay = {**given, "input_size": (clip[0], *clip[-2:])}
    model = build(cls, name, pretrained, **{"out_indices": STAGES, **kwargs}, pretrained_cfg_overlay=overlay)
    model.pretrained_cfg["input_size"] = clip
    return model


def register_video(name: str, cls: type[VideoSwin], doc: str, cfg: dict, **defaults: object) -> None:
    register(name, cls, doc, cfg, build=partial(create_video, cfg=cfg), **defaults)


for _size, _drop_path in (("tiny", 0.1), ("small", 0.2)):
    _settings = dict(SWIN_SIZES[_size], drop_path_rate=_drop_path)
    _letter = _size[0].upper()
    register_video(f"video_swin_{_size}", VideoSwin, f"Video Swin-{_letter}.", clip_cfg(), **_settings)
    register_video(
        f"stvit_video_swin_{_size}",
        STViTVideoSwin,
        f"STViT on Video Swin-{_letter} (Table 6).",
        clip_cfg(pool_size=(16, 6, 6)),
        **_settings,
    )
