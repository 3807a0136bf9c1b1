"""``python -m stvit.evaluate``: top-1, top-5, confusion and calibration of a checkpoint.

python -m stvit.evaluate results/checkpoints/micro_deit
python -m stvit.evaluate runs/mine/model --data path/to/images --image-size 224
python -m stvit.evaluate runs/video/model --data kinetics:path/to/videos --views 4x3
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
)


@dataclass
class Scores:
    """Percentages, with half the width of top-1's 95 % interval over images; confusion[true][told]."""

    images: int
    top1: float
    top1_half: float
    top5: float
    loss: float
    calibration_error: float
    confusion: list[list[int]]


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    num_classes: int,
    device: str | torch.device = "cpu",
) -> Scores:
    """Scores over all batches, and over those of all processes where there are several."""
    was_training = model.training
    model.eval()
    metrics = create_metrics(num_classes).to(device)
    total = torch.zeros(2, dtype=torch.float64, device=device)  # loss, images
    for images, targets in batches:
        images, targets = images.to(device), targets.to(device)
        logits = predict(model, images)
        metrics.update(logits.softmax(-1), targets)
        loss = nn.functional.cross_entropy(logits, targets, reduction="sum")
        total += torch.stack([loss.double(), torch.tensor(len(targets), dtype=torch.float64, device=device)])
    model.train(was_training)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
    loss, count = total.tolist()
    if not count:
        raise ValueError("there are no images to evaluate")
    found = metrics.compute()
    confusion = found["confusion"]
    top1 = 100 * int(confusion.trace()) / int(count)
    return Scores(
        images=int(count),
        top1=top1,
        top1_half=half_width(top1, int(count)),
        top5=100 * float(found["top5"]),
        loss=loss / count,
        calibration_error=100 * float(found["calibration"]),
        confusion=confusion.tolist(),
    )


def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Logits; of videos in several views (B, views, 3, T, H, W) the logarithm of their mean probabilities."""
    if images.ndim < 6:
        return model(images).float()
    logits = model(images.flatten(0, 1)).float()  # (B·views, classes)
    return logits.log_softmax(-1).unflatten(0, images.shape[:2]).logsumexp(1) - math.log(images.shape[1])


def create_metrics(num_classes: int) -> MetricCollection:
    return MetricCollection(
        {
            "top5": MulticlassAccuracy(num_classes, top_k=min(5, num_classes), average="micro"),
            "calibration": MulticlassCalibrationError(num_classes, n_bins=15),
            "confusion": MulticlassConfusionMatrix(num_classes),
        },
        compute_groups=False,
    )


def half_width(percent: float, images: int) -> float:
    """Half the width of the 95 % interval of a percentage, from the binomial distribution."""
    return 1.96 * (percent * (100 - percent) / images) ** 0.5


def main(argv: list[str] | None = None) -> int:
    import stvit.training.config as training
    from stvit.checkpoints import load_checkpoint

    parser = argparse.ArgumentParser(
        prog="python -m stvit.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", help="folder that stvit.save_checkpoint wrote, or a .safetensors file")
    parser.add_argument(
        "--data",
        default="",
        help="scenes (default), clips (default for a model of clips), a folder with validation/CLASS/*.jpg, or "
        "kinetics:FOLDER with validation.csv of labels and paths of videos",
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
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--cache", default="", help="folder that keeps scenes between runs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--json", action="store_true", help="everything, the confusion matrix included, as JSON"
    )
    args = parser.parse_args(argv)
    model = load_checkpoint(args.checkpoint).to(args.device)
    _, *frames, _, size = model.pretrained_cfg["input_size"]
    config = training.TrainConfig(
        model=model.pretrained_cfg["architecture"], data=args.data or ("clips" if frames else "scenes"),
        image_size=args.image_size or size, eval_images=args.images, data_seed=args.data_seed,
        clip_length=args.clip_length or (frames or [1])[0], frame_interval=args.frame_interval, views=args.views,
        batch_size=args.batch_size, workers=args.workers, cache=args.cache,
        model_args={"num_classes": model.num_classes},
    )  # fmt: skip
    if bool(frames) != (config.data == "clips" or config.data.startswith("kinetics:")):
        parser.error(
            f"{config.model} is a model of {'clips' if frames else 'images'}, which {config.data} is not"
        )
    names, batches = held_out(config, args.split)
    if frames and len(names) != model.num_classes:
        parser.error(f"the model tells {model.num_classes} classes apart, {config.data} has {len(names)}")
    scores = evaluate(model, batches, model.num_classes, args.device)
    skipped = getattr(batches, "skipped", {})  # files that could not be read
    if args.json:
        print(json.dumps(asdict(scores) | ({"skipped": skipped} if skipped else {})))
    else:
        print(describe(scores, names, skipped))
    return 0


def held_out(config, split: str):
    """Class names and evaluation batches of what ``config.data`` names."""
    from stvit.data.opened import scene_batches
    from stvit.data.scenes import CLASSES, SceneConfig, Scenes, sized

    if config.data == "scenes":
        scenes = sized(SceneConfig(seed=config.data_seed), config.image_size)
        held = Scenes(scenes, split, config.eval_images or 20480, config.cache or None)
        return CLASSES, scene_batches(held, batch_size=config.batch_size)
    if config.data == "clips":
        from stvit.data.clips import ClipSource, open_clips

        return ClipSource.class_names, scene_batches(
            open_clips(config, split, config.eval_images or 4096), batch_size=config.batch_size
        )
    if config.data.startswith("kinetics:"):
        from stvit.data.videos import evaluation_videos

        return evaluation_videos(config, split)
    from stvit.data.folders import evaluation_batches

    return evaluation_batches(config)


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
        (count, names[true], names[told])
        for true, row in enumerate(scores.confusion)
        for told, count in enumerate(row)
        if true != told and count
    ]
    lines += [
        f"  {count:6,}  {true} taken for {told}" for count, true, told in sorted(wrong, reverse=True)[:8]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
