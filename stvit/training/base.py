"""A model to fine-tune: a timm model with its pretrained weights or a checkpoint, sparsified if a method is named.

    model = open_base(config, num_classes)   # config.base, .method, .tokens, .at, .keep_rate, .model_args

The same by hand:

    model = timm.create_model("deit_small_patch16_224", pretrained=True, num_classes=3)
    model = stvit.sparsify(model, method="bat", keep_rate=0.7)
"""

from __future__ import annotations

from pathlib import Path

import timm
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from tqdm import tqdm

from stvit.checkpoints import config_beside, fill, find_weights, read_config, read_state_dict
from stvit.models.reduced_vit import method_choices
from stvit.models.sparsified_swin import CHOICES as SWIN_CHOICES
from stvit.models.vit import SEMANTIC_CHOICES
from stvit.pretrained import SHIPPED, SHORT, pretrained
from stvit.sparsify import sparsify
from stvit.training.config import TrainConfig, check_model


def open_base(config: TrainConfig, num_classes: int) -> nn.Module:
    """The base with a classifier for ``num_classes`` and for images of ``config.image_size``, sparsified."""
    return sparsified(open_dense(config, num_classes), config)


def open_dense(config: TrainConfig, num_classes: int) -> nn.Module:
    """The base as it is, with all its tokens."""
    choices = {name: value for name, value in config.model_args.items() if name in choices_of(config.method)}
    args = {name: value for name, value in config.model_args.items() if name not in choices}
    args = {"num_classes": num_classes, "drop_path_rate": config.drop_path, **args}
    opened = from_checkpoint if Path(config.base).exists() else from_timm
    return resize(opened(config.base, args), config.image_size)


def sparsified(model: nn.Module, config: TrainConfig) -> nn.Module:
    """``model`` with fewer tokens, if a method is named."""
    if not config.method:
        return model
    choices = {name: value for name, value in config.model_args.items() if name in choices_of(config.method)}
    if config.keep_rate:
        if "keep_rate" not in choices_of(config.method):
            raise ValueError(f"method {config.method} has no keep rate; leave --keep-rate out")
        choices["keep_rate"] = config.keep_rate
    return sparsify(model, config.tokens or None, layers(config.at), config.method, **choices)


def choices_of(method: str) -> tuple[str, ...]:
    """Model arguments that are choices of a method rather than arguments of the base."""
    if not method:
        return ()
    return (*SEMANTIC_CHOICES, *SWIN_CHOICES) if method == "stvit" else method_choices(method)


def layers(words: str) -> int | tuple[int, ...] | None:
    """ "5" or "4,7,10" as numbers; None if empty."""
    try:
        numbers = tuple(int(word) for word in words.split(",")) if words else ()
    except ValueError:
        raise ValueError(f"--at takes layers such as 5 or 4,7,10, not {words!r}") from None
    return numbers[0] if len(numbers) == 1 else numbers or None


def from_checkpoint(base: str, args: dict | None = None) -> nn.Module:
    """A checkpoint's model, with another classifier where the classes differ in number."""
    weights = find_weights(base)
    name, own, settings = read_config(config_beside(weights))
    model = timm.create_model(name, **{**own, **(args or {})})
    tensors = without_other_heads(read_state_dict(weights), model)
    heads = tuple(f"{head}*" for head in head_names(model))
    fill(model, tensors, source=base, fresh=heads)
    settings.pop("label_names", None)
    model.pretrained_cfg = {**model.pretrained_cfg, **settings}
    return model


def from_timm(base: str, args: dict) -> nn.Module:
    """A timm model with its pretrained weights; where they cannot be had, this is said, and it starts untrained."""
    if base in (*SHIPPED, *SHORT):
        return pretrained(base, **args).train()
    check_model(base)
    try:
        model = timm.create_model(base, pretrained=True, **args)
    except (OSError, RuntimeError) as error:  # no network, no such file, no weights published
        reason = str(error).strip().split("\n")[0]
        tqdm.write(f"no pretrained weights of {base} can be had ({reason}); it starts from random ones")
        return timm.create_model(base, **args)
    tqdm.write(f"{base} starts from its pretrained weights")
    return model


def resize(model: nn.Module, size: int) -> nn.Module:
    """Plain ViTs and Swins for images of another size; positions are interpolated."""
    known = type(model) is VisionTransformer or isinstance(model, SwinTransformer)
    if known and hasattr(model, "set_input_size") and tuple(model.patch_embed.img_size) != (size, size):
        model.set_input_size(img_size=(size, size))
    return model


def head_names(model: nn.Module) -> tuple[str, ...]:
    heads = getattr(model, "pretrained_cfg", {}).get("classifier") or "head"
    return tuple(f"{name}." for name in ((heads,) if isinstance(heads, str) else heads))


def without_other_heads(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Without a classifier of another number of classes; whatever else does not fit is an error later."""
    prefixes, own = head_names(model), model.state_dict()
    return {
        name: value
        for name, value in tensors.items()
        if not (name.startswith(prefixes) and name in own and own[name].shape != value.shape)
    }
