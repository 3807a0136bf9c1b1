"""``python -m analysis.variable_counts``: batches whose images keep different numbers of tokens, run in three ways.

padded: all images as wide as the one that keeps most, the rest masked; this is what ``stvit`` does
packed: the tokens of all images in one row, their attention image by image
nested: the same row as torch's nested tensor

Reducing layers are padded in all three. The ways, the dense model and the images one at a time are timed in turns.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import formats
from analysis.commands import Parser, at_least, command, new_folder
from analysis.results import Report

if TYPE_CHECKING:
    from torch import Tensor, nn

SETTINGS = (("ats", dict(keep_rate=0.7)), ("ats", dict(keep_rate=0.5)), ("ats_sorted", {}))
SIZE = 224


def packed_layer(block: nn.Module, x: Tensor, valid: Tensor, nested: bool) -> Tensor:
    """timm's plain layer on the tokens of x (B, T, C) that are valid (B, T) alone, gathered in one row."""
    import torch
    import torch.nn.functional as F

    rows, counts, attention = x[valid], valid.sum(dim=1), block.attn  # (tokens, C)
    projected = attention.qkv(block.norm1(rows)).unflatten(1, (3, attention.num_heads, attention.head_dim))
    parts = projected.unbind(1)  # q, k, v: (tokens, heads, head_dim) each
    if nested:
        offsets = F.pad(counts.cumsum(dim=0), (1, 0))
        jagged = (torch.nested.nested_tensor_from_jagged(part.contiguous(), offsets) for part in parts)
        y = (
            F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in jagged))
            .transpose(1, 2)
            .values()
        )
    else:
        images = zip(*(part.split(counts.tolist()) for part in parts), strict=True)
        y = torch.cat([F.scaled_dot_product_attention(*(p.transpose(0, 1) for p in one)).transpose(0, 1)
                       for one in images])  # fmt: skip
    rows = rows + block.ls1(attention.proj(y.flatten(1)))
    rows = rows + block.ls2(block.mlp(block.norm2(rows)))
    return torch.zeros_like(x).masked_scatter(valid[..., None], rows)


def packed_twin(model: nn.Module, nested: bool) -> nn.Module:
    """``model``, a ViT with reductions, whose plain layers compute with tokens alone where some are padding."""
    import torch.nn.functional as F

    from stvit.models.reduced_vit import ReducedViT
    from stvit.reduce import Plan
    from stvit.reduce.reduction import HostBlock
    from stvit.surgery import recast

    class PackedViT(ReducedViT):
        def run(self, block, x, seen):
            if isinstance(block, HostBlock) or seen.mass is None:
                return super().run(block, x, seen)
            valid = F.pad(seen.mass > 0, (seen.prefix, 0), value=True)
            return packed_layer(block, x, valid, nested), Plan(), seen

    return recast(model, PackedViT)


def ways_of(model: nn.Module) -> dict[str, nn.Module]:
    return {"padded": model, "packed": packed_twin(model, False), "nested": packed_twin(model, True)}


def compute(dense: nn.Module, images: Tensor, batches: list[int], rounds: int, settings=SETTINGS):
    """A row a setting and batch size: tokens at the end, padding, and seconds of each way, medians over ``rounds``."""
    import pandas as pd
    import torch

    import stvit

    found = []
    for method, choices in settings:
        ways = {"dense": dense, **ways_of(stvit.sparsify(dense, method=method, **choices).eval())}
        for batch in batches:
            x = images[:batch]
            with torch.inference_mode():
                tokens = ways["padded"].forward_features(x)[:, dense.num_prefix_tokens :]
                counts = (tokens != 0).any(dim=2).sum(dim=1)
                seconds = {name: [] for name in (*ways, "one by one")}
                for _ in range(rounds):
                    for name, model in ways.items():
                        seconds[name].append(clocked(lambda model=model, x=x: model(x)))
                    alone = ways["padded"]
                    seconds["one by one"].append(clocked(lambda: [alone(one) for one in x.split(1)]))  # noqa: B023
            found.append(
                {
                    "method": method,
                    "keep rate": choices.get("keep_rate"),
                    "batch": batch,
                    "fewest tokens": int(counts.min()),
                    "most tokens": int(counts.max()),
                    "padding %": 100 * (1 - float(counts.sum()) / tokens[..., 0].numel()),
                    **{f"{name}, s": statistics.median(times) for name, times in seconds.items()},
                }
            )
    return pd.DataFrame(found)


def clocked(work) -> float:
    """Seconds of processor time."""
    start = time.process_time()
    work()
    return time.process_time() - start


def report(frame, config: dict, out: Path | None = None) -> None:
    fastest = frame[["padded, s", "packed, s", "nested, s"]]
    gain = 100 * (1 - frame["padded, s"] / frame["dense, s"])
    command = "python -m analysis.variable_counts --report"
    title = "Images that keep different numbers of tokens"
    with Report("variable_counts", title, command, config, 0, out=out) as r:
        r.prose(
            f"DINOv2-S on crops of photographs, one thread, medians of {config['rounds']} turns, processor time. "
            "Padding counts the tokens of the last layers. Against the padded batch, packed takes "
            f"{share(fastest['packed, s'] / fastest['padded, s'])} and nested "
            f"{share(fastest['nested, s'] / fastest['padded, s'])} of the time. The padded batch takes "
            f"{gain.min():.0f} to {gain.max():.0f} % less time than the dense model."
        )
        r.table("ways", frame, "Seconds for a batch in each way, and its images one by one.", digits=3)


def share(ratio) -> str:
    return f"{100 * ratio.min():.0f} to {100 * ratio.max():.0f} %"


@command("analysis.variable_counts")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m analysis.variable_counts", description=__doc__)
    parser.add_argument(
        "--batch", type=at_least(2), nargs="+", default=[8, 16], help="images in a batch (8 16)"
    )
    parser.add_argument("--rounds", type=at_least(1), default=3, help="turns of each way (3)")
    parser.add_argument("--report", action="store_true", help="write results/variable_counts with its record")
    parser.add_argument("--out", type=new_folder, help="folder for the report")
    formats.add_arguments(parser)
    args = parser.parse_args(argv)
    import torch

    from analysis.crops import cut
    from analysis.images import normalised
    from analysis.shared.models import REAL, open_pretrained
    from stvit.data.photographs import shipped

    torch.set_num_threads(1)
    dense = open_pretrained(REAL, SIZE).model.eval()
    images = normalised(cut(shipped(), max(args.batch), SIZE).images, dense)
    frame = compute(dense, images, args.batch, args.rounds)
    if args.report:
        report(frame, dict(model=REAL, size=SIZE, batch=args.batch, rounds=args.rounds), args.out)
    elif not formats.emit(frame, args):
        print(formats.render(frame))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
