"""One flat configuration; its fields carry their help, and the command line is made from them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import typing
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import timm

from stvit.checkpoints import config_beside, find_weights, read_config
from stvit.checkpoints.drafts import drafting
from stvit.data.opened import KINDS, described, kind_of
from stvit.pretrained import SHIPPED, SHORT
from stvit.reduce import METHODS
from stvit.training.recipes import DENSE, DROP_PATHS, RECIPES, drop_path_of


def option(default, help: str):
    return field(default=default, metadata={"help": help})


@dataclass
class TrainConfig:
    """What decides a training. A recipe gives defaults; what the command line names goes before it."""

    recipe: str = option(
        "", f"defaults to start from: {', '.join(RECIPES)} (for scenes the micro ones; else the trunk's)"
    )
    task: str = option(
        "classify",
        "what to train for: classify, segment, detect, or distill (to give the dense base's class feature, no labels)",
    )
    model: str = option("stvit_deit_tiny_patch16_224", "any model registered with timm")
    model_args: dict = field(
        default_factory=dict,
        metadata={"help": "its arguments, as name=value or JSON (depth=6 num_semantic_tokens=9)"},
    )
    init: str = option("", "start from weights: timm:NAME, or a checkpoint's path")
    base: str = option(
        "",
        "fine-tune this instead of --model: a timm model with its pretrained weights, or a checkpoint's folder",
    )
    method: str = option("", f"sparsify the base: stvit, {', '.join(METHODS.names())}")
    tokens: int = option(0, "semantic tokens of stvit, or tokens of meanpool, for the base (0: 16)")
    at: str = option("", "layers in which the base gets fewer tokens, as 5 or 4,7,10 (the method's own)")

    data: str = option(
        "scenes",
        f"{described('classify')}; to segment {described('segment')}; to detect {described('detect')}; "
        f"to distill {described('distill')}",
    )
    image_size: int = option(224, "height and width of the images; of the crop in segmentation")
    train_images: int = option(0, "use this many training images (0: all; scenes: 32768)")
    eval_images: int = option(0, "use this many images to evaluate (0: all; scenes: 4096)")
    data_seed: int = option(0, "which scenes; not the order, which follows from seed")
    workers: int = option(4, "processes that load images")
    cache: str = option("", "folder that keeps scenes and clips between runs")
    clip_length: int = option(32, "frames of a clip, of videos and of moving scenes")
    frame_interval: int = option(2, "frames of a video from one in a clip to the next")
    views: str = option("1x1", "clips x crops of each video in evaluation, averaged (the papers: 4x3)")

    epochs: int = option(300, "passes over the training images")
    batch_size: int = option(1024, "images in a step, over all processes together")
    opt: str = option("adamw", "timm's name of the optimizer")
    lr: float = option(1e-3, "highest learning rate, at this batch size")
    weight_decay: float = option(0.05, "of weights, not of norms, biases and what the model excepts")
    layer_decay: float = option(0.0, "factor of the learning rate from layer to layer downwards (0: none)")
    clip_grad: float = option(0.0, "largest norm of the gradient (0: any)")
    sched: str = option("cosine", "timm's name of the schedule")
    warmup_epochs: float = option(5.0, "epochs of linear warm-up")
    warmup_lr: float = option(1e-6, "learning rate at its beginning")
    min_lr: float = option(1e-5, "learning rate at the end")
    decay_rate: float = option(0.1, "factor of a step or multistep schedule; power of a poly one")
    milestones: str = option("", "epochs after which a multistep schedule lowers the rate, as 27,33")
    drop_path: float = option(0.0, "stochastic depth")

    smoothing: float = option(0.0, "label smoothing")
    mixup: float = option(0.0, "alpha of mixup (0: none)")
    cutmix: float = option(0.0, "alpha of cutmix (0: none)")
    color_jitter: float = option(0.0, "strength of colour jitter where there is no auto-augmentation")
    auto_augment: str = option("", "timm's auto-augmentation, such as rand-m9-mstd0.5-inc1")
    reprob: float = option(0.0, "probability of random erasing")
    padding: float = option(
        0.125, "part of the side by which images of a small set are padded, then cropped (0: not moved)"
    )
    ema_decay: float = option(0.0, "decay of the averaged weights, which are then evaluated (0: none)")

    full: bool = option(
        False, "distill: let all layers learn, not only those behind the base's unchanged ones"
    )
    adapters: int = option(0, "distill: rank of adapters (LoRA) that learn in place of weights (0: none)")
    map_weight: float = option(
        0.0,
        "distill: weight of the map's loss beside the class feature's, for students with a token for each place",
    )
    distill_from: str = option("", "the dense teacher: timm:NAME, or the folder of a checkpoint")
    distill_weight: float = option(0.5, "share of the loss that is the teacher's")
    distill_temperature: float = option(1.0, "softens teacher and student")
    keep_rate: float = option(
        0.0, "keep rate at the end of a schedule from 1 (0: the model's own throughout)"
    )
    keep_rate_start: float = option(0.0, "epoch at which that schedule starts")
    keep_rate_epochs: float = option(100.0, "epochs that it takes")
    ratio_weight: float = option(2.0, "weight of the keep-ratio loss where a model takes keep decisions")

    annotator: str = option(
        "",
        "model that labels every token for LV-ViT (token labels): timm:NAME, or the folder of a checkpoint",
    )
    token_weight: float = option(0.5, "weight of the token labels' loss")
    repeats: int = option(
        1, "augmented copies of an image in an epoch of as many images (repeated augmentation)"
    )
    backbone_rate: float = option(
        1.0,
        "factor of the learning rate for all but the classifier; to distill, for what is the teacher's",
    )

    seed: int = option(0, "of initial weights, order, augmentation and dropout")
    precision: str = option("no", "mixed precision: no, bf16 or fp16")
    device: str = option("auto", "auto, or cpu where there is a GPU too")
    threads: int = option(0, "threads of a process (0: as torch has it)")
    log_every: int = option(50, "steps between lines of the journal")
    eval_every: int = option(1, "epochs between evaluations")
    out: str = option("runs/train", "folder of checkpoints and journal; a run that is there resumes")
    resume: str = option(
        "auto", "auto: go on where the folder holds a run, else begin; must: an error where there is none"
    )
    restart: bool = option(False, "begin anew where a run is there")
    track: str = option("", "log to tensorboard or wandb too, or to both, as tensorboard,wandb")
    debug: bool = option(False, "show where in the code an error was raised")

    @classmethod
    def of(cls, **given) -> TrainConfig:
        """A recipe's values under those that are ``given``; ``model_args`` are merged."""
        unknown = set(given) - {f.name for f in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(f"unknown option {sorted(unknown)[0]!r}")
        given = with_base(given)
        recipe = given.get("recipe") or usual_recipe(given)
        if recipe not in RECIPES:
            raise ValueError(f"unknown recipe {recipe!r}; choose one of {', '.join(RECIPES)}")
        sized = {"drop_path": drop_path_of(recipe, given)} if recipe in DROP_PATHS else {}
        values = {**RECIPES[recipe], **sized, **given}
        values["model_args"] = {**RECIPES[recipe].get("model_args", {}), **given.get("model_args", {})}
        if recipe == "small_set":
            size = values.setdefault("image_size", kind_of(values.get("data", "")).size or 32)
            values["model_args"].setdefault("img_size", size)
        config = cls(**{**values, "recipe": recipe})
        config.check()
        return config

    def check(self) -> None:
        """ValueError for a number that no training can have, and for a None that timm would drop."""
        for name, value in self.model_args.items():
            if value is None:
                raise ValueError(
                    f"model_args: {name}=None would be dropped by timm.create_model; leave it out"
                )
        for name, lowest in LOWEST.items():
            value = getattr(self, name)
            if not lowest <= value < math.inf:
                raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be {lowest} or more")

    def identity(self) -> dict:
        """Options that affect the trained weights; excludes paths of outputs, workers, device and threads."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in ELSEWHERE}

    def chosen(self) -> dict:
        """The part of ``identity`` that differs from the defaults: an option added later leaves it as it is."""
        defaults = {
            f.name: f.default for f in dataclasses.fields(self) if f.default is not dataclasses.MISSING
        }
        return {k: v for k, v in self.identity().items() if k not in defaults or v != defaults[k]}


LOWEST = {
    "image_size": 1, "train_images": 0, "eval_images": 0, "workers": 0, "clip_length": 1, "frame_interval": 1,
    "epochs": 1, "batch_size": 1, "lr": 0, "weight_decay": 0, "layer_decay": 0, "clip_grad": 0, "warmup_epochs": 0,
    "warmup_lr": 0, "min_lr": 0, "drop_path": 0, "smoothing": 0, "mixup": 0, "cutmix": 0, "color_jitter": 0,
    "reprob": 0, "padding": 0, "ema_decay": 0, "distill_weight": 0, "keep_rate": 0, "tokens": 0,
    "token_weight": 0, "repeats": 1, "backbone_rate": 0, "threads": 0, "adapters": 0, "map_weight": 0, "log_every": 1,
    "eval_every": 1, "seed": 0,
}  # fmt: skip


def with_base(given: dict) -> dict:
    """The same options where a folder that ``--model`` or ``--init`` names is the base to go on from."""
    given = dict(given)
    if not given.get("base"):
        if is_folder(given.get("model", "")):
            given["base"] = given.pop("model")
        elif "model" not in given and is_folder(given.get("init", "")):
            given["base"] = given.pop("init")
    if not given.get("base"):
        idle = [name for name in ("method", "tokens", "at") if given.get(name)]
        if idle:
            raise ValueError(
                f"--{idle[0]} says how to sparsify a base; name it with --base (a timm model or a checkpoint's folder)"
            )
        return given
    if "model" in given or given.get("init"):
        raise ValueError("--base names both the model and its weights; leave --model and --init out")
    if given.get("method") and given["method"] not in ("stvit", *METHODS):
        raise ValueError(f"unknown method {given['method']!r}; choose one of stvit, {', '.join(METHODS)}")
    given["model"] = given["base"]
    size_of = as_many_tokens_as_deit if given.get("task") == "distill" else image_size_of
    given.setdefault("image_size", size_of(given["base"]))
    return given


def is_folder(name: str) -> bool:
    return bool(name) and Path(name).is_dir()


def image_size_of(base: str) -> int:
    """The size of images that a timm model or a checkpoint was made for."""
    if Path(base).exists():
        _, arguments, settings = read_config(config_beside(find_weights(base)))
        size = settings.get("input_size") or (0, 0, arguments.get("img_size", 224))
        return size[-1] if isinstance(size[-1], int) else size[-1][-1]
    base = timm_name_of(base)
    check_model(base)
    cfg = timm.get_pretrained_cfg(base)
    assert cfg is not None, base  # check_model knows it
    return cfg.input_size[-1]


def as_many_tokens_as_deit(base: str) -> int:
    """The size at which a ViT of patches p has DeiT's 14 × 14 tokens; of what was built for a size of its own, that."""
    if Path(base).exists():
        return image_size_of(base)
    base = timm_name_of(base)
    check_model(base)
    with drafting():
        patch = getattr(timm.create_model(base).patch_embed, "patch_size", (16, 16))
    return 14 * patch[0]


def timm_name_of(base: str) -> str:
    """timm's name of a model that ``stvit.pretrained`` knows under a shorter one; any other name as it is."""
    return SHIPPED[base].architecture if base in SHIPPED else SHORT.get(base, base)


def check_model(name: str) -> None:
    """ValueError for a name that timm does not know, with the names nearest to it."""
    if timm.is_model(name):
        return
    known = timm.list_models()
    near = [other for other in known if other.startswith(name)] or get_close_matches(name, known, 4, 0.5)
    hint = f"; did you mean {' or '.join(near[:4])}?" if near else ""
    raise ValueError(f"no model {name!r} is registered with timm{hint}")


def usual_recipe(given: dict) -> str:
    """What a model was meant to be trained with: small models for scenes and small sets, else task's and trunk's."""
    task = given.get("task", "classify")
    if task == "distill":
        return "distill"
    kind = kind_of(given.get("data", "scenes"), task if task in KINDS else "classify")
    if kind.moving:
        return "micro_video" if kind.drawn else "video_swin"
    if task in DENSE:
        return DENSE[task][0 if kind.drawn else 1]
    if given.get("base"):
        return "transfer"
    if "lvvit" in given.get("model", ""):
        return "lvvit"
    swin = "swin" in given.get("model", "")
    if kind.size and not swin and given.get("model", "micro").startswith("micro"):
        return "small_set"
    if kind.drawn:
        return "micro_swin" if swin else "micro"
    return "swin" if swin else "deit"


ELSEWHERE = ("recipe", "workers", "cache", "device", "threads", "out", "resume", "restart", "track", "debug")


def parser(**kwargs) -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)
    kinds = typing.get_type_hints(TrainConfig)
    for f in dataclasses.fields(TrainConfig):
        flag, text = f"--{f.name.replace('_', '-')}", f.metadata["help"]
        common: dict[str, typing.Any] = dict(dest=f.name, default=argparse.SUPPRESS)
        if f.name == "model_args":
            result.add_argument(flag, nargs="+", metavar="NAME=VALUE", help=text, **common)
        elif kinds[f.name] is bool:
            result.add_argument(flag, action="store_true", help=text, **common)
        else:
            shown = "" if f.default == "" else f" ({f.default})"
            result.add_argument(flag, type=kinds[f.name], metavar=f.name.upper(), help=text + shown, **common)
    return result


def from_command_line(argv: list[str] | None = None, **kwargs) -> TrainConfig:
    arguments = parser(**kwargs)
    given = vars(arguments.parse_args(argv))
    try:
        if "model_args" in given:
            given["model_args"] = pairs(given["model_args"])
        return TrainConfig.of(**given)
    except ValueError as error:
        arguments.exit(2, f"error: {error}\n")


def pairs(words: list[str]) -> dict:
    """``name=value`` words, or one JSON object, as a dict; values are JSON where they can be."""
    if len(words) == 1 and words[0].lstrip().startswith("{"):
        return json.loads(words[0])
    result = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"model arguments are name=value, which {word!r} is not")
        try:
            result[name] = json.loads({"True": "true", "False": "false", "None": "null"}.get(value, value))
        except json.JSONDecodeError:
            result[name] = value
    return result
