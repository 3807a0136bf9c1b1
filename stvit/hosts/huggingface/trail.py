"""What layers of one forward hand on to each other, where the model's own loop hands on tokens alone.

The tower's forward begins a trail and passes it to its layers as a keyword. Each layer reads what its stage may know
and writes what the next stage may; entries stay, so that a layer that gradient checkpointing runs again finds its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stvit.hosts.huggingface.maps import MapWatch, wants_maps
from stvit.layers.windows import Grid
from stvit.reduce.plan import Plan
from stvit.reduce.reduction import Seen


class RotaryPair(tuple):
    """Cosines and sines, as transformers' layers want them, and the angles that they are of."""

    angles: Tensor | None

    def __new__(cls, cos: Tensor, sin: Tensor, angles: Tensor) -> RotaryPair:
        self = super().__new__(cls, (cos, sin))
        self.angles = angles
        return self

    @classmethod
    def of(cls, angles: Tensor, dtype: torch.dtype) -> RotaryPair:
        """For merged tokens, whose angles are (B, M, head_dim)."""
        return cls(angles.cos().to(dtype)[:, None], angles.sin().to(dtype)[:, None], angles)


class Trail:
    """One forward's.

    seen: stage → what its layer may know; stages count the layers that change the tokens, from 0
    plans: stage → what its layer did
    image: the image tokens that semantic tokens look at, class and register tokens in front
    watch: what sees the attention maps, where they are asked for
    """

    def __init__(self, grid: Grid, prefix: int):
        count = grid[0] * grid[1]
        self.seen: dict[int, Seen] = {0: Seen(count, grid, None, prefix, whole=grid)}
        self.plans: dict[int, Plan] = {}
        self.image: Tensor | None = None
        self.watch: MapWatch | None = None

    @staticmethod
    def needed(trail: Trail | None) -> Trail:
        if trail is None:
            raise ValueError(
                "a sparsified layer runs inside its model: call the model, not a part of it or .forward"
            )
        return trail

    def before(self, stage: int, x: Tensor, settings: dict) -> Seen:
        """What the layer of this stage may know, which is given x (B, prefix + N, C)."""
        seen = self.seen[stage]
        if stage == 0:
            found = x.shape[1] - seen.prefix
            if found != seen.initial:
                raise ValueError(f"the model made {found} image tokens of an image of {seen.grid} patches")
            pair = settings.get("position_embeddings")
            if pair is not None:
                seen = self.seen[0] = seen._replace(angles=pair.angles)
        return seen


class TrailStart:
    """The forward pre-hook of a tower: looks at its arguments and gives its layers a trail.

    layers: where they are in the tower
    head_reads_all: whether the model's head would read padding, too
    """

    def __init__(self, layers: str, prefix: int, patch: tuple[int, int], head_reads_all: bool):
        self.layers, self.prefix, self.patch, self.head_reads_all = layers, prefix, patch, head_reads_all

    def __call__(self, tower: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        pixels = args[0] if args else kwargs.get("pixel_values")
        if pixels is None:
            return args, kwargs  # the model says so itself
        if (
            self.head_reads_all
            and len(pixels) > 1
            and any(getattr(part, "pads", False) for part in tower.modules())
        ):
            raise ValueError(
                f"the method keeps as many tokens as an image needs, and the model's head would read the padding of "
                f"a batch of {len(pixels)}: give it one image at a time"
            )
        if kwargs.get("attention_mask") is not None:
            raise ValueError(
                "attention_mask counts image tokens, of which later layers have fewer; leave it out"
            )
        if "spatial_shapes" in kwargs or len(args) == 3:
            args, kwargs, grid = self.one_size(args, kwargs)
        else:
            grid = (pixels.shape[-2] // self.patch[0], pixels.shape[-1] // self.patch[1])
        trail = Trail(grid, self.prefix)
        if wants_maps(tower, kwargs):
            trail.watch = MapWatch(tower.get_submodule(self.layers))
            kwargs = {**kwargs, "output_attentions": False}
        return args, {**kwargs, "trail": trail}

    @staticmethod
    def one_size(args: tuple, kwargs: dict) -> tuple[tuple, dict, Grid]:
        """SigLIP 2's arguments: images of one size without padding, for which no mask is needed."""
        names = ("pixel_values", "pixel_attention_mask", "spatial_shapes")
        kwargs = {**kwargs, **dict(zip(names, args, strict=False))}
        mask, shapes = kwargs["pixel_attention_mask"], kwargs["spatial_shapes"]
        sizes: list[Any] = torch.as_tensor(shapes).unique(dim=0).tolist()
        if (
            len(sizes) > 1
            or sizes[0][0] * sizes[0][1] != kwargs["pixel_values"].shape[1]
            or not (mask is None or mask.all())
        ):
            raise ValueError(
                f"images of different sizes or with padding are in the batch (spatial_shapes {sizes}); a sparsified "
                "SigLIP 2 takes images of one size, without padding"
            )
        return (), {**kwargs, "pixel_attention_mask": None}, tuple(sizes[0])
