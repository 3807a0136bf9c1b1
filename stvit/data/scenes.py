"""Scenes: textured, rotated, occluding objects on textured ground; the class is that of the marked one.

    scenes = draw_scenes(SceneConfig(), torch.arange(64))
    scenes.images      (B, 3, H, W) uint8
    scenes.labels      (B,) class of the marked object, an index into CLASSES
    scenes.instances   (B, H, W) uint8, 0 for the ground, k + 1 where object k is seen
    scenes.classes     (B, K) class of each object, −1 where there is none; object 0 is the marked one
    scenes.boxes       (B, K, 4) x₀, y₀, x₁, y₁ around what is seen of each, 0 where nothing is
    scenes.radii       (B, K) sizes in pixels

The marked object has a white outline and lies on top. The others are of the same classes and sizes, so
that no bag of colours or shapes gives the label away: a model must find the mark and read what is in it.
A scene is a function of (configuration, split, number) alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from stvit.data.chance import uniform
from stvit.data.shapes import SHAPES, distances

HUES = ("red", "green", "blue")
CLASSES = tuple(f"{hue} {shape}" for shape in SHAPES for hue in HUES)
MOTIONS = ("still", "right", "down", "left", "up")
SPLITS = ("train", "validation", "test")
SMALLEST = 8  # pixels of a scene's side; smaller ones show nothing
SMALL = 5.5  # objects of a smaller radius are reported apart

# Each quantity has a stream of random numbers to itself: adding one leaves the others as they are.
STREAMS = (
    "kind", "hue", "count", "radius", "centre", "angle", "shade", "texture", "frequency", "phase",
    "ground", "ground_angle", "patches", "noise", "motion",
)  # fmt: skip


@dataclass(frozen=True)
class SceneConfig:
    """What decides a set of scenes, in pixels of a ``size`` × ``size`` image."""

    size: int = 48
    min_radius: float = 4.0
    max_radius: float = 9.0
    min_objects: int = 3
    max_objects: int = 6
    outline: float = 1.6
    noise: float = 0.06
    seed: int = 0


class SceneBatch(NamedTuple):
    images: Tensor
    labels: Tensor
    instances: Tensor
    classes: Tensor
    boxes: Tensor
    radii: Tensor

    @property
    def semantic(self) -> Tensor:
        """(B, H, W): 0 for the ground, class + 1 on objects."""
        lookup = torch.cat([torch.zeros_like(self.classes[:, :1]), self.classes + 1], dim=1)
        return lookup.gather(1, self.instances.flatten(1).long()).view_as(self.instances)


class Objects(NamedTuple):
    """The objects of B scenes, (B, K) each, and two vectors of an object: centre and motion (B, K, 2)."""

    classes: Tensor
    radii: Tensor
    centres: Tensor
    angles: Tensor
    colours: Tensor
    texture: Tensor
    frequency: Tensor
    phase: Tensor
    motion: Tensor


class Chance:
    """The random numbers of some scenes, by the name of the quantity."""

    def __init__(self, config: SceneConfig, split: str, index: Tensor):
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
        self.seed, self.split, self.index = config.seed, SPLITS.index(split), index

    def __call__(self, name: str, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * uniform(self.seed, self.split, STREAMS.index(name), self.index, shape)

    def integer(self, name: str, *shape: int, values: int) -> Tensor:
        return (self(name, *shape) * values).long()


def draw_scenes(config: SceneConfig, index: Tensor, split: str = "train") -> SceneBatch:
    """The scenes with these numbers, (B,), on the device of ``index``."""
    chance = Chance(config, split, index)
    objects = choose_objects(config, chance)
    return paint(config, chance, objects, chance("noise", 1, config.size, config.size))


def draw_clips(
    config: SceneConfig, index: Tensor, frames: int, split: str = "train"
) -> tuple[list[SceneBatch], Tensor]:
    """The same scenes in motion: one batch a frame, and the marked object's motion, an index into MOTIONS."""
    chance = Chance(config, split, index)
    objects = choose_objects(config, chance)
    label = chance.integer("motion", config.max_objects, values=len(MOTIONS))  # (B, K)
    steps = torch.tensor([[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]], device=index.device)[label]  # (B, K, 2)
    grain = chance("noise", 1, config.size, config.size)
    clip = []
    for t in range(frames):
        travel = config.size / 4 * (t / max(frames - 1, 1) - 0.5)
        moved = objects._replace(centres=objects.centres + travel * steps)
        clip.append(paint(config, chance, moved, grain.roll((7 * t, 3 * t), (2, 3))))
    return clip, label[:, 0]


def choose_objects(config: SceneConfig, chance: Chance) -> Objects:
    many, colours = config.max_objects, 3
    kind = chance.integer("kind", many, values=len(SHAPES))
    hue = chance.integer("hue", many, values=len(HUES))
    count = config.min_objects + chance.integer("count", 1, values=many - config.min_objects + 1)
    present = torch.arange(many, device=kind.device) < count
    radii = chance("radius", many, low=config.min_radius, high=config.max_radius)
    room = (radii + config.outline)[..., None]
    centres = room + chance("centre", many, 2) * (config.size - 2 * room)
    shade = chance("shade", many, colours)
    own = torch.eye(colours, device=kind.device)[hue]
    return Objects(
        classes=torch.where(present, kind * len(HUES) + hue, -1),
        radii=radii,
        centres=centres,
        angles=chance("angle", many, high=2 * torch.pi),
        colours=own * (0.65 + 0.3 * shade) + (1 - own) * 0.45 * shade,
        texture=chance.integer("texture", many, values=3),
        frequency=chance("frequency", many, low=0.9, high=1.8),
        phase=chance("phase", many, 2, high=2 * torch.pi),
        motion=torch.zeros_like(centres),
    )


def paint(config: SceneConfig, chance: Chance, objects: Objects, grain: Tensor) -> SceneBatch:
    """Objects from the last to the first on the ground, then noise; what is seen of each is its mask."""
    side = torch.arange(config.size, device=grain.device, dtype=torch.float32) + 0.5
    rows, columns = side[:, None], side[None, :]
    canvas = ground(config, chance)  # (B, 3, H, W)
    instances = torch.zeros(canvas.shape[0], *canvas.shape[2:], dtype=torch.uint8, device=grain.device)
    for k in reversed(range(config.max_objects)):
        x, y = turn(objects.centres[:, k], objects.angles[:, k], columns, rows)
        r = objects.radii[:, k, None, None]
        kind = objects.classes[:, k].clamp(min=0) // len(HUES)
        distance = distances(kind, x, y, r)  # (B, H, W)
        distance = torch.where((objects.classes[:, k] >= 0)[:, None, None], distance, torch.inf)
        colour = objects.colours[:, k, :, None, None] * (1 + 0.3 * pattern(objects, k, x, y))[:, None]
        if k == 0:  # the mark: a white rim around it
            canvas = blend(canvas, torch.ones_like(canvas), distance - config.outline)
        canvas = blend(canvas, colour, distance)
        seen = distance <= (config.outline if k == 0 else 0.0)
        instances = torch.where(seen, torch.tensor(k + 1, dtype=torch.uint8, device=seen.device), instances)
    canvas = canvas + config.noise * (grain - 0.5) * 12**0.5
    images = (canvas.clamp(0, 1) * 255).round().to(torch.uint8)
    return SceneBatch(
        images,
        objects.classes[:, 0],
        instances,
        objects.classes,
        boxes(instances, config.max_objects),
        objects.radii,
    )


def turn(centre: Tensor, angle: Tensor, columns: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of all pixels in an object's own frame: two of (B, H, W)."""
    dx, dy = columns - centre[:, 0, None, None], rows - centre[:, 1, None, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return cos * dx + sin * dy, cos * dy - sin * dx


def pattern(objects: Objects, k: int, x: Tensor, y: Tensor) -> Tensor:
    """The texture in [−1, 1]: plain, stripes or checks that turn with the object."""
    f = objects.frequency[:, k, None, None]
    across = (f * x + objects.phase[:, k, :1, None]).sin()
    along = (f * y + objects.phase[:, k, 1:, None]).sin()
    kind = objects.texture[:, k, None, None]
    return torch.where(
        kind == 0, torch.zeros_like(x), across * torch.where(kind == 1, torch.ones_like(x), along)
    )


def blend(below: Tensor, above: Tensor, distance: Tensor) -> Tensor:
    """``above`` inside the figure, ``below`` outside, one pixel of transition."""
    cover = (0.5 - distance).clamp(0, 1)[:, None]
    return below + cover * (above - below)


def ground(config: SceneConfig, chance: Chance) -> Tensor:
    """A gradient between two colours, coarse patches of light, and a grating: (B, 3, H, W)."""
    size = config.size
    first, second = chance("ground", 2, 3, low=0.15, high=0.75)[..., None, None].unbind(1)
    angle, grating, phase = (2 * torch.pi * chance("ground_angle", 3))[..., None, None].unbind(1)
    axis = torch.linspace(-1, 1, size, device=first.device)
    ramp = 0.5 + 0.35 * (angle.cos() * axis + angle.sin() * axis[:, None])[:, None]  # (B, 1, H, W)
    patches = torch.nn.functional.interpolate(chance("patches", 1, 7, 7) - 0.5, size, mode="bilinear")
    waves = (size / 6 * (grating.cos() * axis + grating.sin() * axis[:, None]) + phase).sin()[:, None]
    return first + (second - first) * ramp + 0.3 * patches + 0.05 * waves


def boxes(instances: Tensor, count: int) -> Tensor:
    """(B, K, 4) around the pixels of each instance: x₀, y₀, x₁, y₁ with the ends outside."""
    masks = instances[:, None] == torch.arange(1, count + 1, device=instances.device)[:, None, None]
    sides = []
    for axis in (2, 3):  # columns hold any of the mask, then rows
        line = masks.any(dim=axis)  # (B, K, W) and (B, K, H)
        place = torch.arange(line.shape[-1], device=line.device)
        start = torch.where(line, place, line.shape[-1]).amin(-1)
        sides.append(
            (start.where(line.any(-1), torch.zeros_like(start)), torch.where(line, place + 1, 0).amax(-1))
        )
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], dim=2)


def sized(config: SceneConfig, size: int) -> SceneConfig:
    """The same scenes at another resolution."""
    if size < SMALLEST:
        raise ValueError(f"scenes of {size} × {size} pixels show nothing; they must be {SMALLEST} or larger")
    scale = size / config.size
    lengths = {name: getattr(config, name) * scale for name in ("min_radius", "max_radius", "outline")}
    return replace(config, size=size, **lengths)
