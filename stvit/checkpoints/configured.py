"""What a checkpoint's ``config.json`` may say: a registered architecture and numbers, flags and words for it.

A configuration may come from a stranger. It is data, not a call: only arguments that describe an architecture
are taken, with values in the bounds below, and nothing that makes timm open a file or fetch an address
(``pretrained``, ``checkpoint_path``, ``pretrained_cfg``, names such as ``hf-hub:…``).

    allowed = {**architecture_rules(), "channels": integer(1, 4096)}
    arguments = check_arguments(content["arguments"], allowed, source="runs/x/config.json")
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from timm.models import is_model, split_model_name_tag
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

from stvit.checkpoints.errors import CheckpointError, first_line
from stvit.layers.window_options import WORDS
from stvit.models.lvvit import LVViT, ReducedLVViT, STViTLVViT
from stvit.models.micro_swin import DenseSwin
from stvit.models.placed import ReducedBeit, ReducedEva
from stvit.models.recovered_vit import RecoveredTokens
from stvit.models.reduced_vit import ReducedViT
from stvit.models.sparsified_swin import CHOICES as SWIN_CHOICES
from stvit.models.stvit_swin import STViTRSwin, STViTSwin
from stvit.models.stvit_video_swin import STViTVideoSwin
from stvit.models.video_swin import VideoSwin
from stvit.models.vit import SemanticTokens, STViT
from stvit.reduce import METHODS
from stvit.sparsify import sparsify

Rule = Callable[[Any], "str | None"]  # of a value: what is wrong with it, or None

WORD = re.compile(r"[A-Za-z0-9_.+-]{0,48}")
LARGEST_FILE = 2**24  # bytes; the class names of ImageNet-22k take a hundredth of it
ENTRIES = 256  # of a list of numbers
PARTS = ("__init__", "equip")
CLASSES = (
    VisionTransformer, SwinTransformer, STViT, SemanticTokens, ReducedViT, LVViT, STViTLVViT, ReducedLVViT,
    STViTSwin, STViTRSwin, STViTVideoSwin, VideoSwin, DenseSwin, ReducedEva, ReducedBeit,
    RecoveredTokens,
)  # fmt: skip


def integer(lowest: int, highest: int) -> Rule:
    """A whole number, or lists of them such as (height, width), within bounds."""

    def wrong(value: Any) -> str | None:
        if isinstance(value, (list, tuple)):
            return _first_wrong(value, wrong)
        if isinstance(value, bool) or not isinstance(value, int):
            return "is not a whole number"
        return None if lowest <= value <= highest else f"is not between {lowest:,} and {highest:,}"

    return wrong


def number(lowest: float, highest: float) -> Rule:
    """A finite number, or lists of them, within bounds."""

    def wrong(value: Any) -> str | None:
        if isinstance(value, (list, tuple)):
            return _first_wrong(value, wrong)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return "is not a finite number"
        return None if lowest <= value <= highest else f"is not between {lowest:,} and {highest:,}"

    return wrong


def word(value: Any) -> str | None:
    """A short name, such as that of a kind of pooling; neither a path nor an address."""
    return None if isinstance(value, str) and WORD.fullmatch(value) else "is not a short word"


def flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "is neither true nor false"


def modest(value: Any) -> str | None:
    """For arguments without a bound of their own: true, false, a word, or numbers up to a million."""
    if isinstance(value, bool):
        return None
    return word(value) if isinstance(value, str) else number(-1e6, 1e6)(value)


def model_name(value: Any) -> str | None:
    """A model that this timm builds by itself: no prefix such as ``hf-hub:``, no sparsified one."""
    if not isinstance(value, str) or not WORD.fullmatch(value) or not is_model(value):
        return "is not an architecture that stvit or this timm knows"
    return "is itself made from another model" if _name(value).startswith("stvit_sparsified") else None


def _name(architecture: str) -> str:
    return split_model_name_tag(architecture)[0]


def _first_wrong(values: list | tuple, wrong: Rule, depth: int = 0) -> str | None:
    if len(values) > ENTRIES:
        return f"has more than {ENTRIES} entries"
    return next((reason for value in values if (reason := _inner(value, wrong, depth))), None)


def _inner(value: Any, wrong: Rule, depth: int) -> str | None:
    if isinstance(value, (list, tuple)):
        return "is nested too deeply" if depth == 3 else _first_wrong(value, wrong, depth + 1)
    return wrong(value)


BOUNDS: dict[str, Rule] = {
    "num_classes": integer(0, 1_000_000), "in_chans": integer(1, 1024), "img_size": integer(1, 8192),
    "patch_size": integer(1, 1024), "embed_dim": integer(1, 16384), "depth": integer(0, 512), "depths": integer(0, 512),
    "num_heads": integer(1, 1024), "head_dim": integer(1, 4096), "window_size": integer(1, 64),
    "reg_tokens": integer(0, 4096), "mlp_ratio": number(0.01, 64), "base": model_name,
    "num_semantic_tokens": integer(1, 16384), "num_tokens": integer(1, 16384), "stgm_layers": integer(0, 512),
    "base_depth": integer(0, 512), "units": integer(0, 512), "tokens": integer(1, 16384),
    "keep_rate": number(0, 1), "r": integer(0, 65536), "frames": integer(1, 1024), "clip_length": integer(1, 1024),
    "skip_lam": number(1e-3, 1e3),
}  # fmt: skip


def _names(calls: Iterable[Callable]) -> set[str]:
    """Names of the arguments that these callables take."""
    parameters = (p for call in calls for p in inspect.signature(call).parameters.values())
    return {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


@lru_cache
def _class_names() -> frozenset[str]:
    """Arguments of the architectures' constructors, and of what equips them with semantic tokens or a method."""
    calls = [c.__dict__[part] for cls in CLASSES for c in cls.__mro__ for part in PARTS if part in vars(c)]
    return frozenset(_names((sparsify, *calls)) | {*SWIN_CHOICES})


def architecture_rules() -> dict[str, Rule]:
    """What each argument of an architecture may be."""
    names = (_class_names() | _names(METHODS.values())) - {"self", "model", "device", "dtype"}
    return {name: BOUNDS.get(name, modest) for name in (*names, *BOUNDS)}


def check_arguments(arguments: Any, allowed: Mapping[str, Rule], source: str | Path) -> dict[str, Any]:
    """``arguments`` if they are a dict of allowed names and values (None is the default); CheckpointError else."""
    if not isinstance(arguments, dict):
        raise CheckpointError(
            f"{source}: the model's arguments are {type(arguments).__name__}, not a table of names"
        )
    for name, value in arguments.items():
        if name not in allowed:
            raise CheckpointError(
                f"{source}: {_shown(name)} is not an argument of an architecture, so that it is not passed on; build "
                "the model yourself and load the weights into it: load_checkpoint(path, model)"
            )
        reason = None if value is None else allowed[name](value)
        if reason:
            raise CheckpointError(f"{source}: {name} = {_shown(value)} {reason}")
    return {name: in_words(name, value) for name, value in arguments.items()}


def in_words(option: str, value: Any) -> Any:
    """None of an older configuration as the word that says what it meant then, since timm drops None."""
    return {"merger": "none", **WORDS}.get(option) if value is None else value


def read_json(path: Path) -> Any:
    """The content of a JSON file of moderate size."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise CheckpointError(
                f"{path} is larger than {LARGEST_FILE >> 20} MiB, which no configuration is"
            )
        return json.loads(path.read_text(encoding="utf-8"))
    except CheckpointError:
        raise
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointError(f"{path} is not a model configuration: {first_line(error)}") from None


def read_config(path: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The architecture, its arguments, and what is known of its images and classes, from a ``config.json``."""
    content = read_json(path)
    if not isinstance(content, dict) or "architecture" not in content:
        raise CheckpointError(f"{path} is not a model configuration: it names no architecture")
    name = content["architecture"]
    if not isinstance(name, str) or not WORD.fullmatch(name) or not is_model(name):
        raise CheckpointError(
            f"{path} names the architecture {_shown(name)}, which neither stvit nor this timm knows"
        )
    rules = architecture_rules()
    arguments = check_arguments(content.get("model_args") or {}, rules, path)
    classes = content.get("num_classes")
    if classes is not None:
        check_arguments({"num_classes": classes}, rules, path)
        if arguments.setdefault("num_classes", classes) != classes:
            raise CheckpointError(
                f"{path} contradicts itself: num_classes is {classes} at the top, {arguments['num_classes']} in "
                "model_args"
            )
    return name, arguments, _image_settings(content, classes, path)


SETTINGS: dict[str, Rule] = {
    "input_size": integer(1, 8192), "mean": number(-1e3, 1e3), "std": number(1e-6, 1e3), "interpolation": word,
    "crop_pct": number(0.01, 1), "crop_mode": word, "fixed_input_size": flag,
}  # fmt: skip


def _image_settings(content: dict, classes: int | None, path: Path) -> dict[str, Any]:
    """How images reach the model, and the names of its classes; other entries, such as addresses, are left out."""
    given = content.get("pretrained_cfg") or {}
    if not isinstance(given, dict):
        raise CheckpointError(f"{path}: pretrained_cfg is {type(given).__name__}, not a table of names")
    found = check_arguments({name: given[name] for name in SETTINGS if name in given}, SETTINGS, path)
    found = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items() if v is not None}
    if len(found.get("input_size", (3, 1, 1))) not in (3, 4):
        raise CheckpointError(
            f"{path}: input_size is {_shown(found['input_size'])}, not (channels, height, width)"
        )
    names = content.get("label_names")
    if isinstance(names, list):
        if not all(isinstance(name, str) for name in names) or len(names) != classes:
            raise CheckpointError(f"{path}: label_names are not {classes} names, one for each class")
        found["label_names"] = tuple(names)
    return found


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
