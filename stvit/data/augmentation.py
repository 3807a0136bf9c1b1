"""timm's automatic augmentation, with a guard: posterizing keeps at least one bit of each channel.

timm's policies at full strength ask for 0 bits, a black image, which Pillow has refused since version 13. timm is
kept because its policies are those of the papers' recipes (DeiT's, Swin's).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from timm.data.auto_augment import AugmentOp
from torchvision.transforms import Compose


def guard(transform: Compose) -> None:
    """Bound the posterizing steps of one transform in place; timm's tables stay as they are."""
    for step in operations(transform):
        if step.name.startswith("Posterize") and not isinstance(step.level_fn, partial):
            step.level_fn = partial(at_least_one_bit, step.level_fn)


def at_least_one_bit(level_fn: Callable[..., tuple[int]], level: float, hparams: dict) -> tuple[int]:
    (bits,) = level_fn(level, hparams)
    return (max(1, bits),)


def operations(transform) -> Iterator[AugmentOp]:
    """The steps of RandAugment, AugMix and AutoAugment, however deep timm has put them in a transform."""
    if isinstance(transform, AugmentOp):
        yield transform
    elif isinstance(transform, (list, tuple)):
        for part in transform:
            yield from operations(part)
    else:
        for name in ("transforms", "ops", "policy"):
            yield from operations(getattr(transform, name, ()))
