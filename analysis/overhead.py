"""``python -m analysis.overhead``: what deciding and merging cost on top of the layers themselves.

Each method is timed in turns with plain layers that get the same number of tokens, cut off by a slice, pair by
pair, so that a busy machine slows both. Where a method keeps all tokens and a layer computes with fewer, the plain
layer computes with as few, and the others skip it. The overhead is the median of the pairs' ratios less 1; the
ratio of the two fastest runs and the multiply-adds of the reductions are listed with it.
"""

from __future__ import annotations

import json
import statistics
import time
from datetime import datetime, timezone
from pathlib import Path

from analysis import formats
from analysis.commands import Parser, at_least, command, new_folder
from analysis.results import Report, environment, output

MODEL = "deit_small_patch16_224"
LIMIT = 15  # per cent; what costs more has its reason here
REASONS = {
    "atc": "clusters are joined one pair at a time, so that many small steps follow each other in each of its layers",
    "mctf": "its rule reads whole attention maps, which are formed in memory instead of fused, and then rows and "
    "columns of them are fused",
    "dge": "its few queries look at all tokens, whose keys and values the plain layers with as few tokens do not "
    "compute",
}


def cut_twin(model, images):
    """The plain model with ``model``'s numbers of tokens on ``images``: at each reduction, those after the first M go.

    Layers that do not reduce run on groups of images, as ``model``'s do.
    """
    import torch
    from timm.models.vision_transformer import VisionTransformer

    import stvit
    from stvit.fast.groups import in_groups
    from stvit.reduce.reduction import HostBlock

    class Cut(VisionTransformer):
        def forward_features(self, x):
            x = self.norm_pre(self._pos_embed(self.patch_embed(x)))
            for block, tokens, where in zip(self.blocks, self.lengths, self.where, strict=True):
                if where == "around":
                    x = torch.cat([in_groups(block, x[:, :tokens]), x[:, tokens:]], dim=1)
                    continue
                if where == "in front":
                    x = x[:, :tokens]
                if where == "within" and x.shape[1] > tokens:
                    x = x + block.ls1(block.attn(block.norm1(x)))
                    x = x[:, :tokens]
                    x = x + block.ls2(block.mlp(block.norm2(x)))
                else:
                    x = in_groups(block, x)[:, :tokens]
            return self.norm(x)

        def forward(self, x):
            return self.forward_head(self.forward_features(x))

    plain = stvit.densify(model)
    plain.__class__ = Cut
    trace: list = []
    with torch.no_grad():
        model.forward_layers(images, trace)
    plain.lengths = [computed_with(x, plan, model.num_prefix_tokens) for x, plan in trace]
    plain.where = [block.where if isinstance(block, HostBlock) else "" for block in model.blocks]
    return plain


def computed_with(x, plan, prefix: int) -> int:
    """How many tokens a layer computed with that returned x (B, T, C), padding among them."""
    if plan.computed is None:
        return x.shape[1]
    return prefix + plan.computed.matrix(x.shape[1] - prefix).shape[1]


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def time_pairs(first, second, images, pairs: int, clock: str = "wall") -> list[tuple[float, float]]:
    """Seconds of both models' forwards, in turn, the order swapped from pair to pair."""
    import torch

    now = CLOCKS[clock]

    def seconds(model) -> float:
        start = now()
        model(images)
        if images.is_cuda:
            torch.cuda.synchronize()
        return now() - start

    with torch.inference_mode():
        seconds(first), seconds(second)
        times = []
        for i in range(pairs):
            if i % 2:
                b = seconds(second)
                times.append((seconds(first), b))
            else:
                a = seconds(first)
                times.append((a, seconds(second)))
    return times


def reduction_flops(model, images=None) -> int:
    """Multiply-adds of all reductions on an image: class attention, matching and merging.

    Where a method keeps all tokens, what it decides is part of its layers: then all that plain layers do not compute
    on these ``images``, since the images decide with how many tokens a layer computes.
    """
    import torch

    from analysis.shared.counting import count, torch_count

    shape = (1, model.in_chans, *model.patch_embed.img_size)
    if not model.keeps_all:
        return count(model, shape).reductions()
    images = torch.zeros(shape) if images is None else images
    return (torch_count(model, images) - torch_count(cut_twin(model, images), images)) // len(images)


def compute(
    methods: list[str],
    batch: int = 64,
    threads: int = 2,
    pairs: int = 7,
    base: str = MODEL,
    device: str = "cpu",
    clock: str = "wall",
    choices: dict | None = None,
    **model_args,
):
    """A row for each method: seconds of both, the overhead, and what the reductions compute."""
    import pandas as pd
    import timm
    import torch

    import stvit

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    dense = timm.create_model(base, **model_args).eval()
    images = torch.randn(batch, dense.in_chans, *dense.patch_embed.img_size).to(device)
    rows = []
    for method in methods:
        model = stvit.sparsify(dense, method=method, **(choices or {}))
        flops, twin = reduction_flops(model.to(device), images), cut_twin(model, images)
        times = time_pairs(model, twin.to(device), images, pairs, clock)
        own, plain = (min(run) for run in zip(*times, strict=True))
        rows.append(
            {
                "method": method,
                "tokens": twin.lengths[-1],
                "seconds": own,
                "plain seconds": plain,
                "overhead %": 100 * (statistics.median(a / b for a, b in times) - 1),
                "overhead of the fastest %": 100 * (own / plain - 1),
                "reductions, 10⁶ multiply-adds": flops / 1e6,
                "pairs": pairs,
                "measured": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
            }
        )
    return pd.DataFrame(rows)


def with_others(frame, config: dict, folder: Path):
    """``frame`` among the rows of the report in ``folder``, if those were measured alike; newer ones replace older."""
    import pandas as pd

    record, table = folder / "record.json", folder / "overhead.csv"
    if not (record.exists() and table.exists()):
        return frame
    known = json.loads(record.read_text(encoding="utf-8"))
    how = {name: value for name, value in config.items() if name != "pairs"}
    same_machine = known["hardware"] == environment(config["device"])["hardware"]
    if not (same_machine and how.items() <= known["config"].items()):
        return frame
    kept = pd.read_csv(table).set_index("method")
    names = [*kept.index, *(name for name in frame.method if name not in kept.index)]
    rows = pd.concat([kept[~kept.index.isin(frame.method)], frame.set_index("method")])
    return rows.loc[names].reset_index()


def report(frame, config: dict, out: Path | None = None) -> None:
    command = "python -m analysis.overhead --report"
    device = config["device"]
    frame = with_others(frame, config, out or output("overhead"))
    with Report("overhead", "What reducing costs", command, config, 0, out=out, device=device) as r:
        r.prose(
            "A reduction must cost less than it saves. Each method was timed in pairs with plain layers that get the "
            f"same numbers of tokens for nothing, at batch {config['batch']} on {config['threads']} threads "
            f"(median of the pairs' ratios, {config['clock']} time)."
        )
        r.table("overhead", frame, "Forward time with and without the work of the reductions.", digits=3)
        r.prose(costly(frame))


def costly(frame) -> str:
    """The methods above ``LIMIT``, and why."""
    above = frame[frame["overhead %"] > LIMIT].sort_values("overhead %", ascending=False)
    if above.empty:
        return f"No method costs more than {LIMIT} %."
    told = (
        f"{row['method']} {row['overhead %']:.0f} %: {REASONS.get(row['method'], 'the reason is not known')}"
        for _, row in above.iterrows()
    )
    return f"Above {LIMIT} %: {'; '.join(told)}."


@command("analysis.overhead")
def main(argv: list[str] | None = None) -> int:
    from stvit.reduce import METHODS

    parser = Parser(prog="python -m analysis.overhead", description=__doc__)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, metavar="METHOD")
    parser.add_argument("--model", default=MODEL, help=f"a plain ViT of timm (default {MODEL})")
    parser.add_argument("--batch", type=at_least(1), default=64)
    parser.add_argument("--threads", type=at_least(1), default=2)
    parser.add_argument("--pairs", type=at_least(1), default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: of this process alone, for a busy machine and one thread",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="write results/overhead with its record; methods that are not measured now keep their rows",
    )
    parser.add_argument("--out", type=new_folder, help="folder for the report")
    formats.add_arguments(parser)
    args = parser.parse_args(argv)
    frame = compute(args.methods, args.batch, args.threads, args.pairs, args.model, args.device, args.clock)
    if args.report:
        config = {
            key: getattr(args, key) for key in ("model", "batch", "threads", "pairs", "device", "clock")
        }
        report(frame, config, args.out)
    elif not formats.emit(frame, args):
        print(formats.render(frame))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
