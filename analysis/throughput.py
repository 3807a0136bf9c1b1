"""``python -m analysis.throughput``: models side by side, images a second and the FLOPs saving realised.

    python -m analysis.throughput --models swin_small_patch4_window7_224,stvit_swin_small_patch4_window7_224
    python -m analysis.throughput --models a,b:semantic_window=2 --image-size 800x1333 --profile

The first model is the base. Models take turns, A B A B, so that whatever else the machine does falls on
all of them; a ratio is the median over rounds of the times of one round, beside its quartiles. The realised
share is (1 − time ratio) / (1 − FLOPs ratio), attention counted.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import statistics
import time
from typing import TYPE_CHECKING

from analysis import formats
from analysis.results import Report

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

DEFAULT = (
    "swin_small_patch4_window7_224",
    "stvit_swin_small_patch4_window7_224",
    "stvit_r_swin_small_patch4_window7_224",
)
ANY_SIZE = dict(strict_img_size=False)  # what timm's Swin needs to take another size than 224


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


def build(spec: str, size: tuple[int, int], dense: bool) -> nn.Module:
    """A registered model in evaluation mode; ``dense``: as a backbone of four maps."""
    import timm

    import stvit  # noqa: F401  registers its models

    name, options = split(spec)
    if not timm.is_model(name):
        raise ValueError(
            f"no model {name!r}; python -c \"import timm, stvit; print(timm.list_models('*swin*'))\""
        )
    if dense:
        options.setdefault("features_only", True)
    if size != (224, 224) and name.startswith(("swin_", "swinv2_")):
        options = {**ANY_SIZE, **options}
    return timm.create_model(name, **options).eval()


def take_turns(models: list[nn.Module], images: Tensor, rounds: int, warmup: int) -> list[list[float]]:
    """Seconds of each model's forward in each round, in turn: (models, rounds)."""
    import torch

    seconds: list[list[float]] = [[] for _ in models]
    with torch.inference_mode():
        for turn in range(-warmup, rounds):
            for model, times in zip(models, seconds, strict=True):
                start = time.perf_counter()
                model(images)
                if turn >= 0:
                    times.append(time.perf_counter() - start)
    return seconds


def compute(
    models: tuple[str, ...] = DEFAULT,
    batch_size: int = 8,
    image_size: tuple[int, int] = (224, 224),
    threads: int = 2,
    rounds: int = 9,
    warmup: int = 2,
    dense: bool = False,
) -> pd.DataFrame:
    """One row for each model; see the module's words for what is measured."""
    import pandas as pd
    import torch

    from analysis.complexity.counting import count

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    built = [build(spec, image_size, dense) for spec in models]
    flops = [count(model, (1, 3, *image_size)).total for model in built]
    seconds = take_turns(built, torch.randn(batch_size, 3, *image_size), rounds, warmup)
    rows = []
    for spec, model_flops, times in zip(models, flops, seconds, strict=True):
        ratios = sorted(own / base for own, base in zip(times, seconds[0], strict=True))
        ratio, flops_ratio = statistics.median(ratios), model_flops / flops[0]
        low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratio,) * 3
        saving = 1 - flops_ratio
        rows.append(
            {
                "model": spec,
                "images_per_second": batch_size / statistics.median(times),
                "ratio": ratio,
                "ratio_q1": low,
                "ratio_q3": high,
                "gflops": model_flops / 1e9,
                "flops_ratio": flops_ratio,
                "realised": (1 - ratio) / saving if abs(saving) > 1e-9 else None,
                "batch_size": batch_size,
                "image_size": "x".join(map(str, image_size)),
                "threads": threads,
                "rounds": rounds,
                "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            }
        )
    return pd.DataFrame(rows)


def parts(model: nn.Module) -> dict[str, nn.Module]:
    """What a profile times: stem, mergings, pooling, and the attention and FFN of each layer."""
    inner = getattr(model, "model", model)
    found = {}
    for name, module in inner.named_modules():
        *_, before, last = ["", "", *name.split(".")]
        if (
            last in ("patch_embed", "downsample")
            or before == "initial"
            or last in ("norm1", "norm2", "attn", "mlp")
        ):
            found[name] = module
    return found


def group(name: str) -> str:
    """``layers.2.blocks.7.attn`` → ``layers.2 attn``: a stage's layers of one kind together."""
    words = name.split(".")
    if "blocks" in words:
        return f"{'.'.join(words[: words.index('blocks')]) or 'blocks'} {words[-1]}"
    return ".".join(words[:3])


def profile(
    spec: str, batch_size: int, image_size: tuple[int, int], threads: int, rounds: int, dense: bool
) -> pd.DataFrame:
    """Time of a model's parts beside their FLOPs; what no part accounts for is ``the rest``."""
    import pandas as pd
    import torch

    from analysis.complexity.counting import count

    torch.set_num_threads(threads)
    model = build(spec, image_size, dense)
    counted = count(model, (1, 3, *image_size))
    prefix = "model." if hasattr(model, "model") else ""
    flops: dict[str, float] = {}
    seconds: dict[str, list[float]] = {}
    started: dict[str, float] = {}
    hooks = []
    for name, module in parts(model).items():
        key = group(name)
        flops[key] = flops.get(key, 0) + counted.modules.get(prefix + name, 0)

        def before(_module, _args, _kwargs=None, key=key) -> None:
            started[key] = time.perf_counter()

        def after(_module, _args, _out, key=key) -> None:
            seconds.setdefault(key, []).append(time.perf_counter() - started[key])

        hooks += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    images = torch.randn(batch_size, 3, *image_size)
    take_turns([model], images, 0, warmup=2)
    seconds.clear()
    total = statistics.fmean(take_turns([model], images, rounds, warmup=0)[0])
    for hook in hooks:
        hook.remove()
    spent = {key: sum(times) / rounds for key, times in seconds.items()}
    spent["the rest"] = total - sum(spent.values())
    flops["the rest"] = counted.total - sum(flops.values())
    rows = [
        {
            "model": spec,
            "part": key,
            "milliseconds": 1e3 * spent[key] / batch_size,
            "time_share": spent[key] / total,
            "gflops": flops.get(key, 0) / 1e9,
            "flops_share": flops.get(key, 0) / counted.total,
        }
        for key in spent
    ]
    return pd.DataFrame(rows)


def size(text: str) -> tuple[int, int]:
    sides = [int(side) for side in text.lower().split("x")]
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no image size: 224, or 800x1333")
    return sides[0], sides[-1]


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="python -m analysis.throughput", description=__doc__.split("\n\n")[0]
    )
    options.add_argument(
        "--models", default=",".join(DEFAULT), help="name[:option=value …], by commas; the base first"
    )
    options.add_argument("--batch-size", type=int, default=8, help="images in a batch (8)")
    options.add_argument("--image-size", type=size, default=(224, 224), help="224, or 800x1333 (224)")
    options.add_argument("--threads", type=int, default=2, help="threads of torch (2)")
    options.add_argument("--rounds", type=int, default=9, help="turns of each model (9)")
    options.add_argument("--dense", action="store_true", help="as backbones of four maps (features_only)")
    options.add_argument(
        "--profile", action="store_true", help="the time of each part beside its FLOPs instead"
    )
    options.add_argument("--report", action="store_true", help="write results/throughput/")
    formats.add_arguments(options)
    return options


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    specs = tuple(re.split(r",(?![^(\[]*[)\]])", args.models))  # not at the commas of (2, 2, 6, 2)
    common = dict(
        batch_size=args.batch_size, image_size=args.image_size, threads=args.threads, dense=args.dense
    )
    try:
        if args.report:
            return report(specs, {**common, "rounds": args.rounds})
        frame = (
            profiles(specs, args.rounds, common)
            if args.profile
            else compute(specs, rounds=args.rounds, **common)
        )
    except ValueError as error:
        parser().error(str(error))
    if not formats.emit(frame, args):
        print(formats.render(frame))


def profiles(specs: tuple[str, ...], rounds: int, common: dict) -> pd.DataFrame:
    import pandas as pd

    return pd.concat([profile(spec, rounds=rounds, **common) for spec in specs], ignore_index=True)


def report(specs: tuple[str, ...], config: dict) -> None:
    side = "x".join(map(str, config["image_size"]))
    command = (
        f"python -m analysis.throughput --models {','.join(specs)} --batch-size {config['batch_size']} --image-size "
        f"{side} --threads {config['threads']} --rounds {config['rounds']}{' --dense' * config['dense']} --report"
    )
    record = {**config, "image_size": list(config["image_size"]), "models": list(specs)}
    with Report("throughput", "How much of the FLOPs saving is time saved", command, record, seed=0) as out:
        out.prose(
            "Models took turns on the same images; *ratio* is the median over rounds of a model's time by the base's "
            "in the same round, between its quartiles. *realised* is the share of the FLOPs saving that is time saved."
        )
        out.table("models", compute(specs, **config), "Side by side on this machine.")
        common = {key: value for key, value in config.items() if key != "rounds"}
        out.table("profile", profiles(specs, config["rounds"], common), "Where the time goes, and the FLOPs.")


if __name__ == "__main__":
    main()
