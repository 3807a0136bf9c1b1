"""``python -m analysis.gpu``: all runs that need a CUDA device, by priority, within a budget of seconds.

make gpu BUDGET=300 OUT=gpu-results                 speed, then students of the real model at full budget
make gpu STEPS=distill BUDGET=300 OUT=gpu-results   one step alone
make gpu FOLDER=photographs                          with what analysis.distilled pack wrote
make gpu BUDGET=60 DEVICE=cpu                       a rehearsal: every step at toy size

Each step ends when its share of the budget does, and what it has written by then is packed: OUT/records.tar.gz.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from analysis.commands import Parser, at_least, command, new_folder
from analysis.formats import dump
from analysis.gpu.steps import STEPS, Step
from analysis.results import environment

PACKED_SUFFIXES = ".json", ".csv", ".log"


def run(steps: list[Step], out: Path, budget: float, device: str, folder: str = "") -> list[dict]:
    """Run the steps in order; seconds that one leaves over go to those that follow."""
    end, shares, told = time.monotonic() + budget, sum(step.share for step in steps), []
    for step in steps:
        seconds = (end - time.monotonic()) * step.share / shares
        shares -= step.share
        begun = time.monotonic()
        print(f"{step.name}: {step.about}, {seconds:.0f} s", flush=True)
        status = start(step.command(out, seconds, device, folder), out / f"{step.name}.log", seconds)
        told.append({"step": step.name, "status": status, "seconds": round(time.monotonic() - begun, 1)})
        print(f"{step.name}: {status} after {told[-1]['seconds']:.0f} s", flush=True)
    return told


def start(words: list[str], log: Path, seconds: float) -> str:
    """ "done", "stopped" at the end of its time, or "failed" with the last line of its output."""
    with log.open("w", encoding="utf-8") as file:
        try:
            code = subprocess.run(
                words, stdout=file, stderr=subprocess.STDOUT, timeout=max(seconds, 1)
            ).returncode
        except subprocess.TimeoutExpired:
            return "stopped"
    if code == 0:
        return "done"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"failed: {lines[-1] if lines else f'status {code}'}"


def pack(out: Path) -> Path:
    """All records of ``out`` in one file."""
    target = out / "records.tar.gz"
    files = [
        path
        for path in sorted(out.rglob("*"))
        if path.suffix in PACKED_SUFFIXES and "cache" not in path.parts
    ]
    with tarfile.open(target, "w:gz") as archive:
        for path in files:
            archive.add(path, path.relative_to(out).as_posix())
    return target


def find_device(name: str) -> str:
    """ValueError with the remedy where there is no GPU."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch finds no CUDA device here; rehearse with DEVICE=cpu (--device cpu)")
    return name


@command("analysis.gpu")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m analysis.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", default=",".join(STEPS), help=f"by commas, of {', '.join(STEPS)} (all)")
    parser.add_argument("--budget", type=at_least(1), default=300, help="seconds in all (300)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu is a rehearsal (cuda)")
    parser.add_argument("--out", type=new_folder, default=Path("gpu-results"), help="folder (gpu-results)")
    parser.add_argument("--folder", default="", help="photographs (python -m analysis.distilled pack)")
    args = parser.parse_args(argv)
    unknown = [name for name in args.steps.split(",") if name not in STEPS]
    if unknown:
        raise ValueError(f"unknown step {unknown[0]!r}; choose from {', '.join(STEPS)}")
    device = find_device(args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    steps = [STEPS[name] for name in dict.fromkeys(args.steps.split(","))]
    told = run(steps, args.out, args.budget, device, args.folder)
    dump({"steps": told, "budget": args.budget, **environment(device)}, args.out / "gpu.json")
    print(pack(args.out))
    return 1 if any(one["status"].startswith("failed") for one in told) else 0


if __name__ == "__main__":
    sys.exit(main())
