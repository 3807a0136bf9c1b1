"""``python -m analysis.throughput.tricks``: the gain of each optimisation of the models, one at a time.

A model is timed as it comes and with one thing changed, in turns. What comes with every model is taken away, what
``stvit.optimize`` may add is added, and for two further ideas the most that they could save is measured, which
shows whether they are worth implementing.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import formats
from analysis.commands import Parser, at_least, command, new_folder
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
    """Without groups of images (``stvit.fast.groups``)."""
    from stvit.fast import groups

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


def with_projected_keys(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Without ``stvit.fast.absorbed``: every token's key and value are projected."""
    from stvit.fast import absorbed

    def run(images: Tensor) -> Tensor:
        before, absorbed.applies = absorbed.applies, lambda *_: False
        try:
            return model(images)
        finally:
            absorbed.applies = before

    return run


def without_centers(model: nn.Module) -> nn.Module:
    """Without G: all that a constant G·W_q could save, and more."""
    from torch import nn

    from stvit.layers.semantic import GlobalCenters

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
    """The variants to compare: the model as it is, and with one thing changed."""
    import stvit
    from stvit.fast.token_linear import for_many_tokens

    return {
        AS_IT_IS: model,
        "without groups of images": in_whole_batches(model),
        "without the transposed product": for_many_tokens(model),
        "with projected keys and values": with_projected_keys(model),
        "with packed weights": stvit.optimize(model, pack=True),
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
        base = turns.seconds[0]
        rows += [row(name, batch, *pair, base) for pair in zip(found, turns.seconds, strict=True)]
    torch.set_num_threads(before)
    return pd.DataFrame(rows)


def row(name: str, batch: int, change: str, own: list[float], base: list[float]) -> dict:
    shares = [100 * a / b for a, b in zip(own, base, strict=True)]
    low, middle, high = statistics.quantiles(shares, n=4) if len(shares) > 1 else shares * 3
    return {
        "model": name,
        "batch": batch,
        "change": change,
        "time %": middle,
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
            "The time with one thing changed, in per cent of that of the model as it comes, between its quartiles. A "
            f"trick is kept where it pays {WORTH:g} % on some processor; packing is done where it has been seen to "
            "pay, with AVX-512. The two bounds are what precomputing G·W_q, "
            "and moving the norms' scale and shift into the next layer, could save at most."
        )
        r.table("tricks", frame, "Models beside themselves, in turn, on this machine.", digits=1)


@command("analysis.throughput.tricks")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m analysis.throughput.tricks", description=__doc__)
    parser.add_argument("--model", help="one registered model (default: STViT-DeiT-S and STViT-R-Swin-S)")
    parser.add_argument("--batch", type=at_least(1), default=8, help="its batch (8)")
    parser.add_argument("--threads", type=at_least(1), default=2)
    parser.add_argument("--rounds", type=at_least(1), default=25)
    parser.add_argument(
        "--seconds", type=float, default=60, help="for each model, once there are five rounds (60)"
    )
    parser.add_argument("--report", action="store_true", help="write results/tricks with its record")
    parser.add_argument("--out", type=new_folder, help="folder for the report")
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
