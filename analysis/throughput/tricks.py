"""``python -m analysis.throughput.tricks``: what each optimisation of the models pays, one by one.

A model as it comes stands beside itself with one thing changed, all in turn. What comes with every model is
taken away; what ``stvit.optimize`` adds is added, one trick upon the other; and of two further ideas the upper
bound is measured: the whole of what they could save at most, which says whether they are worth writing.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import formats
from analysis.results import Report
from analysis.throughput.turns import Patience, take_turns

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

WORK = (
    ("stvit_deit_small_patch16_224", 32),
    ("stvit_deit_small_patch16_224", 1),
    ("stvit_r_swin_small_patch4_window7_224", 8),
)
USUAL = Patience(rounds=25, warmup=2, seconds=60, turn=0.2)
AS_IT_IS, WORTH = "as it is", 2.0  # per cent of the time


@contextmanager
def whole_batches():
    """Without groups of images (``stvit.groups``)."""
    from stvit import groups

    before, groups.GROUP = groups.GROUP, 2**62
    try:
        yield
    finally:
        groups.GROUP = before


def in_whole_batches(model: nn.Module) -> Callable[[Tensor], Tensor]:
    def run(images: Tensor) -> Tensor:
        with whole_batches():
            return model(images)

    return run


def without_centers(model: nn.Module) -> nn.Module:
    """Without G: all that a constant G·W_q could save, and more."""
    from torch import nn

    from stvit.semantic import GlobalCenters

    model = deepcopy(model)
    for layer in model.modules():
        centers = getattr(layer, "centers", None)
        if isinstance(centers, GlobalCenters):
            layer.centers = nn.Identity() if hasattr(layer, "prefix") else None
    return model


def without_affine(model: nn.Module) -> nn.Module:
    """LayerNorm without scale and shift: what moving them into the next layer could save at most."""
    from torch import nn

    model = deepcopy(model)
    for layer in model.modules():
        if isinstance(layer, nn.LayerNorm):
            layer.weight = layer.bias = None
    return model


def variants(model: nn.Module) -> dict[str, Callable[[Tensor], Tensor]]:
    """What stands beside what: the model as it is, and itself with one thing changed."""
    import stvit
    from stvit.optimize import TRICKS
    from stvit.token_linear import for_many_tokens

    names = list(TRICKS)
    upon = {
        f"with {' + '.join(names[: i + 1])}": stvit.optimize(model, tuple(names[: i + 1]))
        for i in range(len(names))
    }
    return {
        AS_IT_IS: model,
        "without groups of images": in_whole_batches(model),
        "without the transposed product": for_many_tokens(model),
        **upon,
        "bound: without G": without_centers(model),
        "bound: norms without scale and shift": without_affine(model),
    }


def compute(work=WORK, threads: int = 2, patience: Patience = USUAL) -> pd.DataFrame:
    """A row for each variant: time by that of the model as it is, with quartiles."""
    import pandas as pd
    import timm
    import torch

    import stvit  # noqa: F401 (registers its models)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    rows = []
    for name, batch in work:
        torch.manual_seed(0)
        model = timm.create_model(name).eval()
        images = torch.randn(batch, *model.default_cfg["input_size"])
        found = variants(model)
        with torch.inference_mode():
            turns = take_turns([partial(run, images) for run in found.values()], patience)
        rows += [row(name, batch, change, *pair) for change, *pair in paired(found, turns.seconds)]
    torch.set_num_threads(before)
    return pd.DataFrame(rows)


def paired(found: dict, seconds: list[list[float]]):
    """Each change with its times and those of what it is compared to: the variant before, for added tricks."""
    times = dict(zip(found, seconds, strict=True))
    before = AS_IT_IS
    for change in found:
        against = before if change.startswith("with ") else AS_IT_IS
        yield change, times[change], times[against], times[AS_IT_IS]
        if change.startswith("with "):
            before = change


def row(
    name: str, batch: int, change: str, own: list[float], against: list[float], base: list[float]
) -> dict:
    step = [100 * (a / b - 1) for a, b in zip(own, against, strict=True)]
    low, middle, high = statistics.quantiles(step, n=4) if len(step) > 1 else step * 3
    return {
        "model": name,
        "batch": batch,
        "change": change,
        "time %": 100 * statistics.median(a / b for a, b in zip(own, base, strict=True)),
        "this step %": middle,
        "q1": low,
        "q3": high,
        "rounds": len(own),
    }


def report(frame: pd.DataFrame, config: dict, out: Path | None = None) -> None:
    with Report(
        "tricks",
        "What each optimisation pays",
        "python -m analysis.throughput.tricks --report",
        config,
        0,
        out=out,
    ) as r:
        r.prose(
            "*time* is that of the model as it comes; *this step* is what the one change makes of it, in per cent, "
            "between its quartiles: against the model as it comes, and for the tricks of `stvit.optimize` against "
            f"the tricks before. A trick is kept where it pays {WORTH:g} % somewhere. The two bounds are what "
            "precomputing G·W_q, and moving the norms' scale and shift into the next layer, could save at most: they "
            "are not written where that is less."
        )
        r.table("tricks", frame, "Models beside themselves, in turn, on this machine.", digits=1)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m analysis.throughput.tricks", description=__doc__)
    parser.add_argument("--model", help="one registered model (default: STViT-DeiT-S and STViT-R-Swin-S)")
    parser.add_argument("--batch", type=int, default=8, help="its batch (8)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument(
        "--seconds", type=float, default=60, help="for each model, once there are five rounds (60)"
    )
    parser.add_argument("--report", action="store_true", help="write results/tricks with its record")
    parser.add_argument("--out", type=Path, help="folder for the report")
    formats.add_arguments(parser)
    args = parser.parse_args(argv)
    work = ((args.model, args.batch),) if args.model else WORK
    frame = compute(work, args.threads, USUAL._replace(rounds=args.rounds, seconds=args.seconds))
    if args.report:
        config = {"work": [list(w) for w in work], "threads": args.threads, "rounds": args.rounds}
        report(frame, config, args.out)
    elif not formats.emit(frame, args):
        print(formats.render(frame))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
