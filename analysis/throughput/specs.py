"""Models by name and options, ``name:option=value:…``, built for the size that they are to be measured at."""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from analysis.shared.counting import Count

InputSize = tuple[int, ...]  # (height, width), or (frames, height, width)
TORCHVISION = "torchvision."


def split(spec: str) -> tuple[str, dict]:
    """``name:option=value:…`` → the name and its options."""
    name, *options = spec.split(":")
    found = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise ValueError(f"{option!r} in {spec!r} is no option=value")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = value
    return name, found


def split_list(text: str) -> tuple[str, ...]:
    """Split a list of models at its commas, except those within an option such as (2, 2, 6, 2)."""
    return tuple(spec for spec in re.split(r",(?![^(\[]*[)\]])", text) if spec)


def default_size(specs: tuple[str, ...]) -> InputSize:
    """What the first of the models that says so takes: (224, 224), or (32, 224, 224) for video."""
    import timm

    import stvit  # noqa: F401  registers its models

    for spec in specs:
        name, _ = split(spec)
        if timm.is_model(name) and (cfg := timm.get_pretrained_cfg(name)) is not None:
            return tuple(cfg.input_size[1:])
    return 224, 224


def resolve(spec: str, size: InputSize, dense: bool = False) -> tuple[str, dict]:
    """The name and all options that ``spec`` needs at ``size``; ``dense``: as a backbone of four maps."""
    from timm.models.swin_transformer import SwinTransformer
    from timm.models.vision_transformer import VisionTransformer

    name, options = split(spec)
    if name.startswith(TORCHVISION):
        return name, {**({"dense": True} if dense else {}), **options}
    check_known(name)
    if dense:
        options.setdefault("features_only", True)
    if size == default_size((name,)):
        return name, options
    kind = type_of(name)
    if issubclass(kind, VisionTransformer):
        options = {"img_size": size, **options}
    elif kind is SwinTransformer:
        options = {"strict_img_size": False, **options}
    return name, options


def check_known(name: str) -> None:
    import timm

    import stvit  # noqa: F401

    if not timm.is_model(name):
        raise ValueError(
            f"no model {name!r}; python -c \"import timm, stvit; print(timm.list_models('*deit*'))\" lists some"
        )


@cache
def type_of(name: str) -> type[nn.Module]:
    import timm
    import torch

    with torch.device("meta"):
        return type(timm.create_model(name))


def build(spec: str, size: InputSize, dense: bool = False) -> nn.Module:
    """The model in evaluation mode, with the weights that it starts with."""
    from analysis.shared.counting import create
    from analysis.shared.flops.readings import Build

    name, options = resolve(spec, size, dense)
    return create(Build(name, options), device="cpu")


def count(spec: str, size: InputSize, dense: bool = False) -> Count:
    """Its multiply-adds for one input, attention included, remembered while sources stay as they are."""
    from analysis.shared.counting import count_once
    from analysis.shared.flops.readings import Build

    name, options = resolve(spec, size, dense)
    counted = count_once(Build(name, options, (1, 3, *size)))
    if isinstance(counted, str):
        raise ValueError(counted)
    return counted
