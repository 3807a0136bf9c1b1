"""``python -m analysis.throughput.int8``: fewer tokens and fewer bits, apart and together, on a real model.

DINOv2-S with all its tokens, its distilled student of 16 semantic tokens, and reductions off the shelf run in ONNX
Runtime on photographs that none of them was trained on by this project: in float32, and with the weights of linear
layers in 8 bits and activations quantized as they come (ONNX Runtime's own tool). Each model is timed in turns, and its
class feature compared with that of the dense model in float32: the cosine after the mean over all crops is taken off.

If the two savings multiply, "product" is the ratio of both together: the one of fewer tokens times the one of 8 bits.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import formats
from analysis.commands import Parser, at_least, command, new_folder
from analysis.results import Report
from analysis.throughput.table import speed_up
from analysis.throughput.turns import Patience, take_turns

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from analysis.crops import Crops

BASE, STUDENT, SIZE = (
    "dinov2_small",
    "stvit_dinov2_small_16",
    126,
)  # the size that the student was distilled at
METHODS = {"evit": {}, "bat": {}, "tome": {"r": 5}}  # need no training; of 81 tokens ToMe leaves 21
USUAL = Patience(rounds=15, warmup=1, seconds=100, turn=0.2)


def subjects() -> dict[str, nn.Module]:
    """The models by name, the dense one first; each returns its class feature."""
    import stvit

    dense = stvit.pretrained(BASE, quiet=True, img_size=SIZE)
    found = {"dense": dense, "stvit, distilled": stvit.pretrained(STUDENT, quiet=True)}
    return found | {
        method: stvit.sparsify(dense, method=method, **own).eval() for method, own in METHODS.items()
    }


def pixels(crops: Crops, model: nn.Module) -> Tensor:
    """Crops as the model wants them: (n, 3, size, size)."""
    import torch

    mean, std = (torch.tensor(model.pretrained_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return (torch.from_numpy(crops.images).permute(0, 3, 1, 2) / 255 - mean) / std


def quantize(source: Path, target: Path) -> Path:
    """Matrices of weights in 8 bits, one scale a column; of these 7 are used, since AVX2's 16-bit sums overflow."""
    from stvit.extras import require

    tool = require("onnxruntime.quantization", "8-bit weights")
    logging.getLogger().setLevel(logging.ERROR)  # it advises a step that exported graphs have behind them
    tool.quantize_dynamic(
        source,
        target,
        ["MatMul", "Gemm"],
        per_channel=True,
        reduce_range=True,
        weight_type=tool.QuantType.QInt8,
        nodes_to_exclude=stacked(source),
        extra_options={"MatMulConstBOnly": True},
    )
    return target


def stacked(source: Path) -> list[str]:
    """Products with a stack of matrices, a head each, for which no kernel takes a scale a column."""
    import onnx

    graph = onnx.load(source).graph
    ranks = {value.name: len(value.dims) for value in graph.initializer}
    return [node.name for node in graph.node if any(ranks.get(name, 0) > 2 for name in node.input)]


def compare(
    models: dict[str, nn.Module], images: Tensor, batch: int, threads: int, patience: Patience
) -> pd.DataFrame:
    """A row for each model and precision; the first model in float32 is the one that all are compared with."""
    import pandas as pd

    from stvit.convert.graphs import write_graph
    from stvit.convert.runtimes import open_graph

    runs, sizes = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, model) in enumerate(models.items()):
            plain = Path(folder) / f"{number}.onnx"
            write_graph(model, plain, images.shape[2:])
            for precision, path in (
                ("float32", plain),
                ("int8", quantize(plain, plain.with_suffix(".int8.onnx"))),
            ):
                runs[name, precision] = open_graph(path, threads)
                sizes[name, precision] = path.stat().st_size / 1e6
        features = {key: features_of(run, images, batch) for key, run in runs.items()}
        turns = take_turns([partial(run, images[:batch]) for run in runs.values()], patience)
    seconds = dict(zip(runs, turns.seconds, strict=True))
    base = next(iter(runs))
    rows = []
    for (name, precision), own in seconds.items():
        ratio = speed_up(seconds[base], own)
        near = centred_cosine(features[name, precision], features[base])
        rows.append(
            {
                "model": name,
                "precision": precision,
                "ratio": ratio.median,
                "ratio_q1": ratio.q1,
                "ratio_q3": ratio.q3,
                "milliseconds": 1e3 * statistics.median(own) / batch,
                "cosine": near,
                "megabytes": sizes[name, precision],
            }
        )
    return pd.DataFrame([{**row, **expected(row, rows)} for row in rows])


def expected(row: dict, rows: list[dict]) -> dict:
    """What a sparse model in 8 bits has if both savings, and both losses, multiply."""
    apart = {(one["model"], one["precision"]): one for one in rows}
    dense = rows[0]["model"]
    if row["model"] == dense or row["precision"] == "float32":
        return {"product": None, "of_product": None, "cosine_product": None}
    sparse, bits = apart[row["model"], "float32"], apart[dense, "int8"]
    product = sparse["ratio"] * bits["ratio"]
    return {
        "product": product,
        "of_product": row["ratio"] / product,
        "cosine_product": sparse["cosine"] * bits["cosine"],
    }


def features_of(run, images: Tensor, batch: int) -> Tensor:
    import torch

    return torch.cat([run(part) for part in images.split(batch)])


def centred_cosine(found: Tensor, reference: Tensor) -> float:
    """The mean cosine of class features, from which the reference's mean over the images is taken off."""
    import torch.nn.functional as F

    mean = reference.mean(dim=0)
    return F.cosine_similarity(found - mean, reference - mean).mean().item()


def report(frame: pd.DataFrame, config: dict, inputs: dict, out: Path | None = None) -> None:
    with Report(
        "int8",
        "Fewer tokens and fewer bits",
        "python -m analysis.throughput.int8 --report",
        {**config, "photographs": inputs},
        config["seed"],
        out=out,
    ) as r:
        r.prose(sentence(frame))
        r.table(
            "int8",
            frame,
            f"DINOv2-S at {SIZE} × {SIZE} in ONNX Runtime, by turns. ratio: times as fast as dense in float32; "
            "cosine: of class features, centred; product: what both would be if they multiplied; of_product: the "
            "ratio by it.",
        )


def sentence(frame: pd.DataFrame) -> str:
    """Do the savings multiply?"""
    both = frame[frame["product"].notna()]
    bits = frame[(frame.model == frame.model.iloc[0]) & (frame.precision == "int8")].iloc[0]
    parts = "; ".join(
        f"{row.model} {row.ratio:.2f} beside a product of {row.product:.2f} (cosine {row.cosine:.3f} beside "
        f"{row.cosine_product:.3f})"
        for row in both.itertuples()
    )
    low, high = both.of_product.min(), both.of_product.max()
    return (
        f"8 bits alone make the dense model {bits.ratio:.2f} times as fast, at a centred cosine of {bits.cosine:.3f}. "
        f"Together with fewer tokens: {parts}. Sparse models in 8 bits reach {low:.0%} to {high:.0%} of the "
        "product of the two ratios."
    )


@command("analysis.throughput.int8")
def main(argv: list[str] | None = None) -> int:
    import torch

    from analysis.crops import cut
    from stvit.data.photographs import shipped

    parser = Parser(prog="python -m analysis.throughput.int8", description=__doc__)
    parser.add_argument("--crops", type=at_least(2), default=120, help="of photographs, for the cosine (120)")
    parser.add_argument("--batch", type=at_least(1), default=8)
    parser.add_argument("--threads", type=at_least(1), default=2)
    parser.add_argument("--rounds", type=at_least(1), default=USUAL.rounds)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", action="store_true", help="write results/int8 with its record")
    parser.add_argument("--out", type=new_folder, help="folder for the report")
    formats.add_arguments(parser)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    models = subjects()
    crops = cut(shipped(), args.crops, SIZE, args.seed)
    images = pixels(crops, models["dense"])
    frame = compare(models, images, args.batch, args.threads, USUAL._replace(rounds=args.rounds))
    if args.report:
        config = {name: getattr(args, name) for name in ("crops", "batch", "threads", "rounds", "seed")}
        report(frame, {**config, "base": BASE, "student": STUDENT}, crops.record(), args.out)
    if not formats.emit(frame, args):
        print(f"{formats.render(frame, digits=3)}\n\n{sentence(frame)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
