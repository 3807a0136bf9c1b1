"""Micro Video Swins: clips of 8 frames of 32 × 32, for a CPU to train in minutes.

``micro_video_swin`` is the dense trunk, ``micro_stvit_video_swin`` STViT in it with semantic tokens of each frame,
``micro_stvit_video_swin_clip`` with semantic tokens of the whole clip. Patches are of two frames
and 2 × 2 pixels, so that stage 3 has four maps of 4 × 4 tokens, each four windows of 2 × 2, and a semantic
token for each window. As in Video Swin-T the STGM follows the first two of six layers there. The stem is
convolutional because a short training finds motion too late through patches that one linear layer embeds.
"""

from __future__ import annotations

from torch import nn

from stvit.models.stvit_video_swin import STViTVideoSwin, clip_cfg, register_video
from stvit.models.video_swin import ClipEmbed, VideoSwin


class ConvClipStem(ClipEmbed):
    """Two 3×3×3 convolutions with BatchNorm and ReLU; the first halves the image, the second joins frames."""

    def __init__(
        self,
        img_size: int,
        patch_size: tuple[int, int],
        in_chans: int,
        embed_dim: int,
        frames: int,
        **settings,
    ):
        super().__init__(img_size, patch_size, in_chans, embed_dim, frames, **settings)
        like = {name: settings.get(name) for name in ("device", "dtype")}
        self.proj = nn.Sequential(
            nn.Conv3d(in_chans, embed_dim, 3, (1, *self.patch_size), 1, bias=False, **like),
            nn.BatchNorm3d(embed_dim, **like),
            nn.ReLU(),
            nn.Conv3d(embed_dim, embed_dim, 3, (frames, 1, 1), 1, bias=False, **like),
            nn.BatchNorm3d(embed_dim, **like),
            nn.ReLU(),
        )  # (B, C, T / frames, H / patch, W / patch)
        self.norm = nn.Identity()


TRUNK = dict(
    img_size=32, patch_size=(2, 2, 2), window_size=(4, 2, 2), embed_dim=16, depths=(1, 1, 6, 1),
    num_heads=(1, 2, 4, 8), mlp_ratio=3, drop_path_rate=0.0, embed_layer=ConvClipStem,
)  # fmt: skip
SEMANTIC = dict(semantic_window=1)
FAMILY: dict[str, tuple[type[VideoSwin], dict]] = {
    "micro_video_swin": (VideoSwin, {}),
    "micro_stvit_video_swin": (STViTVideoSwin, SEMANTIC),
    "micro_stvit_video_swin_clip": (STViTVideoSwin, dict(SEMANTIC, scope="clip")),
}
CFG = clip_cfg(
    input_size=(3, 8, 32, 32),
    pool_size=(4, 2, 2),
    num_classes=5,
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    first_conv="patch_embed.proj.0",
)

for _name, (_cls, _defaults) in FAMILY.items():
    register_video(
        _name,
        _cls,
        f"{_cls.__name__} for clips of 8 frames of 32 × 32: {_defaults}.",
        CFG,
        **TRUNK,
        **_defaults,
    )
