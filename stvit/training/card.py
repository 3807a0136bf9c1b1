"""The model card beside a checkpoint: ``README.md`` with the model, its data, budget, scores, command and versions."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from importlib import metadata
from pathlib import Path

from torch import nn

from stvit.checkpoints.saving import plain, scratch_prefix
from stvit.training.config import TrainConfig
from stvit.training.recipes import DENSE, RECIPES
from stvit.training.tasks import LABELS
from stvit.version import __version__

CARD = "README.md"
PACKAGES = ("torch", "timm", "accelerate")
NAMES = 12  # classes that are named
ALWAYS = ("image_size", "drop_path")  # follow from the base and the model, where they are not given


def write(folder: Path, config: TrainConfig, model: nn.Module, scores: dict) -> Path:
    """Write the card into ``folder``, replacing an older one as a whole."""
    path = folder / CARD
    scratch = folder / f"{scratch_prefix()}{CARD}"
    scratch.write_text(text(config, model, scores), encoding="utf-8")
    os.replace(scratch, path)
    return path


def text(config: TrainConfig, model: nn.Module, scores: dict) -> str:
    """scores: what the record holds of the run, such as epochs, seconds and the task's scores."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    base = f", from the weights of `{config.base}`" if config.base else ""
    method = f", with fewer tokens by `{config.method}`" if config.method else ""
    data = f"`{config.data}`, {config.train_images or 'all'} training images of {config.image_size} pixels"
    lines = [
        "---", "library_name: timm", "tags: [vision, stvit]", "---", "",
        f"# {Path(config.base).name if config.base else config.model}",
        "",
        f"- **Model:** {type(model).__name__}, {parameters:,} parameters{base}{method}.",
        f"- **Task and data:** {config.task}; {data}.",
        f"- **Budget:** {scores['epochs']} of {config.epochs} passes over the data, {config.batch_size} images a step"
        f"{timed(scores)}.",
        f"- **Score:** {told(scores) or 'none yet'}.",
        *classes(model),
        "",
        "Made by", "", "```sh", command(config), "```", "", "and read by", "", "```python",
        loading(config), "```", "",
        f"with {', '.join(f'{name} {version}' for name, version in versions().items())}.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def told(scores: dict) -> str:
    """The scores, each with half the width of its 95 % interval where it has one."""
    found = []
    for name, value in plain(scores).items():
        if isinstance(value, float) and name in LABELS:
            half = scores.get(f"{name}_half")
            found.append(
                f"{LABELS[name]} {value:.2f}{'' if half is None else f' ± {half:.2f} (95 % interval)'} %"
            )
    return ", ".join(found)


def timed(scores: dict) -> str:
    return (
        f"; {scores['seconds']:.0f} seconds on {scores.get('device', 'cpu')}" if "seconds" in scores else ""
    )


def classes(model: nn.Module) -> list[str]:
    names = (getattr(model, "pretrained_cfg", None) or {}).get("label_names") or ()
    if not names:
        return []
    more = f" and {len(names) - NAMES} others" if len(names) > NAMES else ""
    return [f"- **Classes:** {', '.join(map(str, names[:NAMES]))}{more}."]


def loading(config: TrainConfig) -> str:
    loader = "stvit.dense.load" if config.task in DENSE else "stvit.load_checkpoint"
    return f'model = {loader}("this folder").eval()'


def command(config: TrainConfig) -> str:
    """The command line that gives this configuration again."""
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    words = ["python", "-m", "stvit.train", "--recipe", config.recipe]
    stated = {*RECIPES.get(config.recipe, {}), *ALWAYS}
    for name, value in config.identity().items():
        if (name == "model" and config.base) or (value == defaults[name] and name not in stated):
            continue
        flag = f"--{name.replace('_', '-')}"
        if name == "model_args":
            words += [flag, json.dumps(value)] if value else []
        elif isinstance(value, bool):
            words += [flag] if value else []
        else:
            words += [flag, str(value)]
    return shlex.join([*words, "--out", config.out])


def versions() -> dict[str, str]:
    return {"stvit": __version__, **{name: metadata.version(name) for name in PACKAGES}}
