"""What the command lines that evaluate segmenters and detectors share."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn

from stvit.command import check_numbers, open_device
from stvit.data.opened import described
from stvit.dense.saved import load
from stvit.training.config import TrainConfig

LOWEST = {"images": 0, "image_size": 1, "data_seed": 0}


def build_parser(prog: str, description: str, task: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {prog}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", help="folder that training wrote: runs/…/model")
    parser.add_argument("--data", default="scenes", help=f"{described(task)}; without it scenes")
    parser.add_argument("--split", default="", help="which scenes, or which folder (test; validation)")
    parser.add_argument("--images", type=int, default=0, help="how many (0: all; scenes: 2048)")
    parser.add_argument("--image-size", type=int, default=64, help="scenes' size, or the shorter side (64)")
    parser.add_argument("--data-seed", type=int, default=0, help="which scenes (0)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", action="store_true", help="all scores as JSON")
    parser.add_argument("--debug", action="store_true", help="show where in the code an error was raised")
    return parser


def open_model(args: argparse.Namespace, task: str) -> tuple[nn.Module, TrainConfig, torch.device]:
    """The model on its device, and the options of training that say which images."""
    check_numbers(args, LOWEST)
    device = open_device(args.device)
    if not Path(args.checkpoint).is_dir():
        raise ValueError(
            f"there is no folder {args.checkpoint}; training writes one, such as runs/train/model"
        )
    model = load(args.checkpoint).to(device)
    kind, arguments = model.built_from
    if kind != task:
        raise ValueError(f"{args.checkpoint} holds a model to {kind}, not to {task}")
    config = TrainConfig(
        task=task, model=arguments["backbone"], data=args.data, image_size=args.image_size,
        eval_images=args.images, data_seed=args.data_seed, workers=0,
    )  # fmt: skip
    return model, config, device


def check_class_count(names: tuple[str, ...], model: nn.Module, data: str) -> None:
    known = model.built_from[1]["num_classes"]
    if len(names) != known:
        raise ValueError(f"{data} has {len(names)} classes, the model {known}")
