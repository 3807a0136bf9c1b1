"""Which semantic token takes which patch, frame by frame: a strip and a moving picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis import style
from analysis.panels import blank
from analysis.shared.token_maps import colours, token_map

if TYPE_CHECKING:
    from torch import Tensor, nn

DELAY = 160  # milliseconds a frame of the moving picture
SCALE = 8  # its pixels for one of the clip


class Followed(NamedTuple):
    """A clip and where its patches go.

    frames: (T, H, W, 3) uint8
    shares: name of the layer → (T', M, N) how much of each semantic token comes from each patch of a frame
    grid: of the patches in stage 3
    predicted: the label that the model predicts
    """

    frames: np.ndarray
    shares: dict[str, Tensor]
    grid: tuple[int, int]
    predicted: int

    def labels(self, layer: str) -> np.ndarray:
        """(T', N): the semantic token that takes most of each patch."""
        return self.shares[layer].argmax(1).numpy()

    def frame_of(self, step: int) -> int:
        """The clip's frame in the middle of the patches of a time step."""
        steps = len(next(iter(self.shares.values())))
        return int((step + 0.5) * len(self.frames) / steps)


def follow(model: nn.Module, clip: Tensor) -> Followed:
    """One clip (3, T, H, W) uint8 through the model, watched by ``stvit.record``."""
    import torch

    import stvit
    from stvit.data.drawn import normalise

    with torch.inference_mode(), stvit.record(model, attention=False) as maps:
        logits = model(normalise(clip[None]))
    layers = {name.removesuffix(".assignment"): shares for name, shares in maps.items() if ".blocks." in name}
    with torch.inference_mode():
        _, features = model.forward_intermediates(normalise(clip[None]), indices=[1])
    grid = tuple(-(-side // 2) for side in features[0].shape[-2:])  # stage 3 halves stage 2's map
    return Followed(clip.permute(1, 2, 3, 0).numpy(), layers, grid, int(logits.argmax()))


def strip(clips: list[Followed], titles: list[str], label: str):
    """Two rows a clip: frames, and the patches in the colour of the token that takes them in the last STGM layer."""
    steps = len(next(iter(clips[0].shares.values())))
    with style.house_style():
        side = style.PAGE / (steps + 1.2)
        fig, axes = style.figure(
            style.PAGE, 2 * len(clips) * (side + 0.08) + 0.45, 2 * len(clips), steps, squeeze=False
        )
        for row, (followed, title) in enumerate(zip(clips, titles, strict=True)):
            layer = list(followed.shares)[-1]
            for step in range(steps):
                above, below = axes[2 * row, step], axes[2 * row + 1, step]
                frame = followed.frame_of(step)
                above.imshow(followed.frames[frame])
                blank(above, f"frame {frame + 1}" if row == 0 else "")
                token_map(
                    below, followed.frames[frame], followed.labels(layer)[step], followed.grid, soft=True
                )
            axes[2 * row, 0].set_ylabel(title, fontsize=7)
            axes[2 * row + 1, 0].set_ylabel("semantic tokens", fontsize=7)
        fig.suptitle(label, fontsize=8, x=0.01, ha="left")
    return fig


def animate(followed: Followed, path: Path) -> Path:
    """A GIF: each frame beside its patches in the colours of the semantic tokens that take them."""
    from PIL import Image

    layer = list(followed.shares)[-1]
    labels = followed.labels(layer)
    palette = colours(followed.shares[layer].shape[1])
    pictures = []
    for number, frame in enumerate(followed.frames):
        step = number * len(labels) // len(followed.frames)
        pictures.append(Image.fromarray(_beside(frame, labels[step].reshape(followed.grid), palette)))
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=DELAY, loop=0, optimize=False)
    return path


def _beside(frame: np.ndarray, labels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """(H, W, 3) and (h, w) → the frame, a gap, and the frame under its tokens' colours, enlarged."""
    height, width = frame.shape[:2]
    at = labels[
        np.arange(height)[:, None] * labels.shape[0] // height, np.arange(width) * labels.shape[1] // width
    ]
    tinted = (0.45 * frame + 0.55 * 255 * palette[at]).astype(np.uint8)
    gap = np.full((height, 1, 3), 255, np.uint8)
    return np.concatenate([frame, gap, tinted], axis=1).repeat(SCALE, 0).repeat(SCALE, 1)
