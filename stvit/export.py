"""``python -m stvit.export``: a model as a file that ONNX Runtime or OpenVINO runs without this package.

python -m stvit.export --model runs/bat/model --format onnx --out bat.onnx
python -m stvit.export --model stvit_dinov2_small_16 --format openvino --out few.xml --image-size 224
python -m stvit.export --model deit_small_patch16_224 --method tome --out tome.onnx

The file takes any number of images of one size. Before it is written, its outputs are compared with the model's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import timm
from torch import nn

from stvit.checkpoints import load_checkpoint
from stvit.command import check_numbers, run_command
from stvit.convert.graphs import OPSET, TOLERANCE, own_size, write_graph
from stvit.convert.runtimes import RUNTIMES
from stvit.pretrained import pretrained
from stvit.sparsify import sparsify

__all__ = ["write_graph"]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stvit.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", required=True, help="folder of a checkpoint, or a pretrained model (see stvit.pretrained)")
    add(
        "--untrained", action="store_true", help="a model of timm with the weights it starts with: for timing"
    )
    add("--method", default="", help="stvit or a method of stvit.reduce that the model gets first")
    add("--tokens", type=int, default=0, help="semantic tokens, of --method stvit (0: 16)")
    add("--keep-rate", type=float, default=0.0, help="of --method (0: the method's own)")
    add("--format", choices=RUNTIMES, default="", help="onnx or openvino (by the suffix of --out)")
    add("--out", required=True, type=Path, help="the file: NAME.onnx, or NAME.xml with NAME.bin beside it")
    add("--image-size", type=int, default=0, help="height and width (0: the model's own)")
    add("--tolerance", type=float, default=TOLERANCE, help=f"of the largest output ({TOLERANCE:g})")
    add("--debug", action="store_true", help="show where in the code an error was raised")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    return run_command(lambda: run(args), status=2, debug=args.debug)


def run(args: argparse.Namespace) -> None:
    """Export as the command line says, and print what was written and how near it is."""
    check_numbers(args, {"image_size": 0, "tokens": 0})
    if args.format and args.out.suffix != RUNTIMES[args.format].suffix:
        raise ValueError(
            f"--format {args.format} writes files that end in {RUNTIMES[args.format].suffix}, not {args.out}"
        )
    model = reduced(open_model(args), args).eval()
    found = write_graph(model, args.out, tolerance=args.tolerance)
    size = " × ".join(map(str, own_size(model)))
    runtime = next(one for one in RUNTIMES.values() if one.suffix == args.out.suffix)
    weights = args.out.with_suffix(".bin") if args.out.suffix == ".xml" else args.out
    print(
        f"written      {args.out}, {weights.stat().st_size / 1e6:.1f} MB, ONNX operators of version {OPSET}"
    )
    print(f"images       any number of {size}, float32{normalisation(model)}")
    print(f"parity       {found.difference:.1e} at most in {runtime.title}, over {found.images} images whose "
          f"outputs reach {found.largest:.3g}")  # fmt: skip


def open_model(args: argparse.Namespace) -> nn.Module:
    """The checkpoint, the pretrained model, or an untrained one; for images of ``--image-size``."""
    size = {"img_size": args.image_size} if args.image_size else {}
    if args.untrained:
        if not timm.is_model(args.model):
            raise ValueError(f"--untrained takes a model of timm, which {args.model!r} is not")
        return timm.create_model(args.model, **size)
    if not Path(args.model).exists():
        return pretrained(args.model, **size)
    model = load_checkpoint(args.model)
    if size and hasattr(model, "set_input_size"):
        model.set_input_size(img_size=args.image_size)
    elif size:
        raise ValueError(f"{args.model} cannot be set to another image size; leave --image-size out")
    return model


def reduced(model: nn.Module, args: argparse.Namespace) -> nn.Module:
    """``model`` with fewer tokens, if a method is named."""
    if not args.method:
        if args.tokens or args.keep_rate:
            raise ValueError("--tokens and --keep-rate go with --method")
        return model
    rate = {"keep_rate": args.keep_rate} if args.keep_rate else {}
    return sparsify(model, args.tokens or None, method=args.method, **rate)


def normalisation(model: nn.Module) -> str:
    cfg = getattr(model, "pretrained_cfg", {})
    if not {"mean", "std"} <= set(cfg):
        return ""
    mean, std = (", ".join(f"{value:.3g}" for value in cfg[name]) for name in ("mean", "std"))
    return f", normalised by mean ({mean}) and deviation ({std})"


if __name__ == "__main__":
    raise SystemExit(main())
