"""Weights for Video Swin and STViT on it: torchvision's, the Video Swin authors', and an image Swin's, inflated.

    load_video_swin(model, torchvision.models.video.swin3d_t(weights="KINETICS400_V1"))
    load_video_swin(model, "swin_tiny_patch244_window877_kinetics400_1k.pth")
    load_video_swin(model, timm.create_model("stvit_swin_tiny_patch4_window7_224", pretrained=True))

Files are read as weights alone, so that nothing in them can run. An image model's patches become ``frames``
copies whose sum they are, and its relative positions hold for every distance in time, as Video Swin begins.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import Tensor

from stvit.convert.sources import Source, weights_of
from stvit.convert.swin import fill_shared
from stvit.models.video_swin import VideoSwin

TABLE, PATCHES = "relative_position_bias_table", "patch_embed.proj.weight"
Rules = tuple[tuple[re.Pattern[str], "str | Callable[[re.Match[str]], str]"], ...]
TORCHVISION: Rules = (  # torchvision's names → timm's; stages and mergings take turns there
    (re.compile(r"^features\.(\d*[02468])\.(\d+)\."), lambda m: f"layers.{int(m[1]) // 2}.blocks.{m[2]}."),
    (re.compile(r"^features\.(\d*[13579])\."), lambda m: f"layers.{int(m[1]) // 2 + 1}.downsample."),
    (re.compile(r"\.mlp\.0\."), ".mlp.fc1."),
    (re.compile(r"\.mlp\.3\."), ".mlp.fc2."),
    (re.compile(r"^head\.(?=weight|bias)"), "head.fc."),
)
AUTHORS: Rules = (  # the authors' names → timm's; a merging is the end of its stage there
    (re.compile(r"^backbone\."), ""),
    (re.compile(r"^cls_head\.fc_cls\."), "head.fc."),
    (re.compile(r"^layers\.(\d+)\.downsample\."), lambda m: f"layers.{int(m[1]) + 1}.downsample."),
    (re.compile(r"^head\.(?=weight|bias)"), "head.fc."),
)


def load_video_swin(model: VideoSwin, source: Source) -> list[str]:
    """Copy what ``model`` shares with ``source`` into it, by name; returns the parameters that stay fresh.

    ``source``: a model, a state dict, a checkpoint's path, or a timm model's name. Shared are patches, window
    layers, the projections, norms and FFNs of semantic layers, pooling and G where both have them, mergings,
    and the classifier if it has as many classes. Raises CheckpointError where a shared layer has another shape.
    """
    if not isinstance(model, VideoSwin):
        raise ValueError(f"{type(model).__name__} is neither Video Swin nor STViT on it")
    given = to_timm(weights_of(source))
    if not is_video(given):
        given = inflate(given, model.patch_embed.frames, model.span)
    own = model.state_dict()
    shared = {
        name: value
        for name, value in given.items()
        if name in own and not (name.startswith("head.") and value.shape != own[name].shape)
    }
    return fill_shared(model, shared, "this model")


def to_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under timm's names, without what follows from the sizes."""
    rules: Rules = ()
    if any(name.startswith("features.") for name in state):
        rules = TORCHVISION
    elif any(name.endswith("layers.0.downsample.reduction.weight") for name in state):
        rules = AUTHORS
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in rules:
            name = pattern.sub(replacement, name)
        if not name.endswith(("relative_position_index", "attn_mask")):
            renamed[name] = value
    return renamed


def is_video(state: dict[str, Tensor]) -> bool:
    """Are the patches those of clips? STViT-Swin for images has a stem of another name."""
    return PATCHES in state and state[PATCHES].ndim == 5


def inflate(state: dict[str, Tensor], frames: int, span: int) -> dict[str, Tensor]:
    """An image Swin's weights for clips: patches of ``frames`` frames, windows of ``span``."""
    inflated = dict(state)
    if PATCHES in state:  # not in STViT-Swin, whose stem is another; Video Swin's patches are fresh then
        inflated[PATCHES] = state[PATCHES].unsqueeze(2).repeat(1, 1, frames, 1, 1) / frames  # (C, 3, t, h, w)
    for name, value in state.items():
        if name.endswith(TABLE):
            inflated[name] = value.repeat(2 * span - 1, 1)  # time is the slowest of the three axes
        elif name.startswith("patch_embed.") and PATCHES not in state:
            del inflated[name]
    return inflated
