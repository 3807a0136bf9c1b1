"""``python -m stvit.evaluate``: top-1, top-5, confusion and calibration of a checkpoint, or what its features know.

python -m stvit.evaluate results/checkpoints/micro_deit
python -m stvit.evaluate runs/mine/model --data path/to/images --image-size 224
python -m stvit.evaluate runs/video/model --data kinetics:path/to/videos --views 4x3
python -m stvit.evaluate runs/mine/model --probe linear --data fashion_mnist
python -m stvit.evaluate --model dinov2_small --image-size 98 --probe knn --data fashion_mnist --train-images 4000

--probe freezes the model: logistic regression on its features, or the vote of the nearest training images, is fitted
on the training images of --data and tested on the others. Any model of timm can be probed, trained on any classes.
"""

# ruff: noqa: E402 (what is missing is told first)
from __future__ import annotations

from stvit.extras import need

need("train", "evaluation")

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import timm
import torch
from torch import nn

from stvit.checkpoints import load_checkpoint
from stvit.checkpoints.saving import plain
from stvit.command import check_numbers, open_device, run_command
from stvit.data.folders import check_same_classes
from stvit.data.opened import described, kind_of, open_held_out
from stvit.pretrained import pretrained
from stvit.training.config import TrainConfig
from stvit.training.probe import PROBES, probe_data
from stvit.training.scores import Scores, evaluate, half_width, predict

__all__ = ["Scores", "evaluate", "half_width", "predict"]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stvit.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoint",
        nargs="?",
        default="",
        help="folder that stvit.save_checkpoint wrote, or a .safetensors file",
    )
    parser.add_argument(
        "--model",
        default="",
        metavar="NAME",
        help="probe this instead: a pretrained model (see stvit.pretrained)",
    )
    parser.add_argument(
        "--probe", choices=PROBES, help="fit this on frozen features instead of asking the classifier"
    )
    parser.add_argument("--neighbours", type=int, default=20, help="that vote in --probe knn (20)")
    parser.add_argument(
        "--strength",
        type=float,
        default=1.0,
        help="C of --probe linear, the inverse weight of its penalty (1)",
    )
    parser.add_argument(
        "--train-images", type=int, default=0, help="to fit a probe on (0: all; scenes: 32768)"
    )
    parser.add_argument(
        "--data",
        default="",
        help=f"{described()}; without it scenes, or clips for a model of clips",
    )
    parser.add_argument(
        "--split", default="test", choices=("validation", "test"), help="which scenes, clips or list (test)"
    )
    parser.add_argument("--images", type=int, default=0, help="how many (0: all; scenes: 20480)")
    parser.add_argument("--data-seed", type=int, default=0, help="which scenes (0)")
    parser.add_argument("--image-size", type=int, default=0, help="height and width (0: the model's own)")
    parser.add_argument("--clip-length", type=int, default=0, help="frames of a clip (0: the model's own)")
    parser.add_argument("--frame-interval", type=int, default=2, help="between frames of a video's clip (2)")
    parser.add_argument(
        "--views", default="1x1", help="clips x crops of a video, averaged (1x1; the paper: 4x3)"
    )
    parser.add_argument("--batch-size", type=int, default=64, help="images or videos at a time (64)")
    parser.add_argument("--workers", type=int, default=4, help="processes that load images (4)")
    parser.add_argument("--cache", default="", help="folder that keeps scenes between runs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--json", action="store_true", help="everything, the confusion matrix included, as JSON"
    )
    parser.add_argument("--debug", action="store_true", help="show where in the code an error was raised")
    return parser


LOWEST = {
    "neighbours": 1, "train_images": 0, "images": 0, "image_size": 0, "clip_length": 0, "frame_interval": 1,
    "batch_size": 1, "workers": 0, "data_seed": 0,
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    return run_command(lambda: run(args), status=2, debug=args.debug)


def run(args: argparse.Namespace) -> None:
    """Evaluate as the command line says, and print the scores."""
    check_numbers(args, LOWEST)
    device = open_device(args.device)
    if args.probe:
        return run_probe(args, device)
    if args.model or not args.checkpoint:
        raise ValueError(
            "name the folder of a trained model; --model NAME goes with --probe linear or --probe knn"
        )
    model = open_classifier(args.checkpoint).to(device)
    config = data_config(args, model)
    names, batches = open_held_out(config, args.split)
    check_classes(model, names, config.data)
    scores = evaluate(model, batches, model.num_classes, device)
    skipped = getattr(batches, "skipped", {})  # files that could not be read
    if args.json:
        print(json.dumps(plain(asdict(scores) | ({"skipped": skipped} if skipped else {}))))
    else:
        print(describe(scores, names, skipped))


def run_probe(args: argparse.Namespace, device: torch.device) -> None:
    """Fit a probe on the features of a frozen model, and print what it scores."""
    model = open_frozen(args).to(device)
    config = data_config(args, model)
    given = {"neighbours": args.neighbours} if args.probe == "knn" else {"strength": args.strength}
    found = probe_data(model, config, args.probe, device, args.split, **given)
    if args.json:
        print(json.dumps(found._asdict()))
        return
    print(f"probe              {found.probe}, on {found.train_images:,} training images of {config.data}")
    print(f"images             {found.images:,}")
    print(f"top-1              {found.top1:.2f} ± {found.top1_half:.2f} %")


def open_frozen(args: argparse.Namespace) -> nn.Module:
    """The checkpoint's model, or the pretrained one that --model names, at the size of --image-size."""
    if bool(args.model) == bool(args.checkpoint):
        raise ValueError("name one model to probe: the folder of a checkpoint, or --model NAME")
    if args.checkpoint:
        return load_checkpoint(args.checkpoint)
    return pretrained(args.model, **({"img_size": args.image_size} if args.image_size else {}))


def open_classifier(path: str) -> nn.Module:
    """The checkpoint's model; ValueError for anything else that could be meant."""
    if not Path(path).exists() and timm.is_model(path):
        raise ValueError(
            f"{path} is the name of a model, not a checkpoint: evaluate takes the folder of a trained one, such as "
            "runs/train/model"
        )
    model = load_checkpoint(path)
    if not getattr(model, "num_classes", 0):
        raise ValueError(f"{path} has no classifier to evaluate")
    return model


def data_config(args: argparse.Namespace, model: nn.Module) -> TrainConfig:
    """The options of training that say which images, as the command line and the model have them."""
    _, *frames, _, size = model.pretrained_cfg["input_size"]
    config = TrainConfig(
        model=model.pretrained_cfg["architecture"], data=args.data or ("clips" if frames else "scenes"),
        image_size=args.image_size or size, eval_images=args.images, train_images=args.train_images,
        data_seed=args.data_seed,
        clip_length=args.clip_length or (frames or [1])[0], frame_interval=args.frame_interval, views=args.views,
        batch_size=args.batch_size, workers=args.workers, cache=args.cache,
        model_args={"num_classes": model.num_classes},
    )  # fmt: skip
    if bool(frames) != kind_of(config.data).moving:
        raise ValueError(
            f"{config.model} is a model of {'clips' if frames else 'images'}, which {config.data} is not"
        )
    return config


def check_classes(model: nn.Module, names: tuple[str, ...], data: str) -> None:
    """ValueError where the data's classes are not those the model was trained on."""
    known = tuple(model.pretrained_cfg.get("label_names") or ())
    if known:
        check_same_classes(known, tuple(names), "the model", data)
    if len(names) != model.num_classes:
        raise ValueError(f"the model knows {model.num_classes} classes, {data} has {len(names)}")


def describe(scores: Scores, names: tuple[str, ...], skipped: dict[str, str] | None = None) -> str:
    lines = [f"skipped            {len(skipped):,} (could not be read)"] if skipped else []
    lines += [
        f"images             {scores.images:,}",
        f"top-1              {scores.top1:.2f} ± {scores.top1_half:.2f} %",
        f"top-5              {scores.top5:.2f} %",
        f"loss               {scores.loss:.4f}",
        f"calibration error  {scores.calibration_error:.2f} % (15 bins)",
        "",
        "most often confused:",
    ]
    wrong = [
        (count, names[true], names[predicted])
        for true, row in enumerate(scores.confusion)
        for predicted, count in enumerate(row)
        if true != predicted and count
    ]
    lines += [
        f"  {count:6,}  {true} taken for {predicted}"
        for count, true, predicted in sorted(wrong, reverse=True)[:8]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
