"""A training's state on disk: written whole or not at all, and found again by the same command."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from stvit.checkpoints.errors import first_line
from stvit.checkpoints.saving import scratch_prefix
from stvit.training.config import TrainConfig

STATE = "last.pt"
RESUME = ("auto", "must")


def write(state: dict, path: Path) -> None:
    """A file that is either the old one or the new one, whenever the machine stops."""
    scratch = path.with_name(f"{scratch_prefix()}{path.name}")
    with scratch.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)


def read(folder: Path, config: TrainConfig) -> dict | None:
    """The state of the run in ``folder``; None if there is none. Another run's state is an error.

    An option that did not exist yet when the state was written has its default there.
    """
    path = folder / STATE
    if config.resume not in RESUME:
        raise ValueError(f"--resume is {config.resume!r}; choose one of {', '.join(RESUME)}")
    if config.resume == "must" and (config.restart or not path.exists()):
        reason = "--restart would begin anew" if config.restart else f"{path} is not there"
        raise ValueError(f"--resume must asks for a run to go on with, but {reason}")
    if config.restart or not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"{path} is damaged ({first_line(error)}); --restart begins the run anew") from error
    mine, there = config.identity(), {**TrainConfig().identity(), **state["config"]}
    changed = sorted(name for name in mine | there if mine.get(name) != there.get(name))
    if changed:
        listed = "; ".join(f"{name} was {there.get(name)!r}, is {mine.get(name)!r}" for name in changed)
        raise ValueError(
            f"{folder} holds a run with other options ({listed}); name another --out, or --restart to replace it"
        )
    return state


def check_classes(state: dict, class_names: tuple[str, ...], folder: Path) -> None:
    """ValueError where the data of a run has other classes than when it began."""
    before = tuple(state.get("class_names", class_names))  # older states do not tell
    if before != tuple(class_names):
        raise ValueError(
            f"the run in {folder} began with the classes {', '.join(before[:6])}, the data has now "
            f"{', '.join(class_names[:6])}; --restart begins anew"
        )
