"""timm's automatic augmentation, guarded: it never raises, and is otherwise timm's own."""

import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import LEVEL_TO_ARG, AugmentOp

from stvit.data.augmentation import guard, operations
from stvit.training.recipes import RECIPES

RECIPE = RECIPES["deit"]


def transform(size: int = 16, auto_augment: str = RECIPE["auto_augment"]):
    return create_transform(size, is_training=True, auto_augment=auto_augment, interpolation="bicubic")


def images(count: int, size: int = 16) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in pixels]


def test_the_recipe_never_raises():
    guarded = transform()
    guard(guarded)
    random.seed(0)
    pictures = images(100)
    for i in range(10_000):
        out = guarded(pictures[i % 100])
    assert out.shape == (3, 16, 16)


@pytest.mark.parametrize("name", [name for name in LEVEL_TO_ARG if name.startswith("Posterize")])
@pytest.mark.parametrize("level", [0, 0.4, 5, 9.9, 10])
def test_at_least_one_bit_is_kept_and_more_as_timm_says(name, level):
    """On every Pillow: with 0 bits some versions raise and others return a black image."""
    step = AugmentOp(name, prob=1.0, magnitude=level)
    before = step.level_fn
    guard(step)
    guard(step)  # once more changes nothing
    assert step.level_fn(level, {}) == (max(1, before(level, {})[0]),)
    step(images(1)[0])
    assert LEVEL_TO_ARG[name] is before  # timm's own table is as it was


@pytest.mark.parametrize(
    "policy", ["rand-m9-mstd0.5-inc1", "rand-m10-n3", "augmix-m5", "original", "v0r", "3a"]
)
def test_steps_are_found_in_every_policy(policy):
    found = transform(auto_augment=policy)
    guard(found)
    steps = [step for step in operations(found) if step.name.startswith("Posterize")]
    assert bool(steps) == (policy != "3a")
    assert all(step.level_fn(level, {})[0] >= 1 for step in steps for level in (0, 10))


def test_a_guarded_transform_travels_to_worker_processes():
    guarded = transform()
    guard(guarded)
    again, picture = pickle.loads(pickle.dumps(guarded)), images(1)[0]
    outs = []
    for one in (guarded, again):
        random.seed(3)
        np.random.seed(3)
        torch.manual_seed(3)
        outs.append(one(picture))
    assert outs[0].equal(outs[1])
