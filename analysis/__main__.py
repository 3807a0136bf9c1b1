"""``python -m analysis`` lists the analyses; ``python -m analysis run`` does those that are out of date."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from analysis.commands import Parser, command
from analysis.dependencies import needed
from analysis.formats import dump
from analysis.results import HOME, RESULTS, ROOT, versions

STATE = HOME / ".cache" / "reproduce.json"
OFF_THE_SHELF, PROBES = "results/offtheshelf/cells", "results/offtheshelf/probes"
CHECKPOINTS = "results/checkpoints"
VERDICTS = tuple(f"results/{name}/conclusions.csv" for name in ("distilled", "real_labels", "ablations"))


@dataclass(frozen=True)
class Job:
    """An analysis: ``python -m analysis.NAME ARGUMENTS`` writes ``results/NAME``.

    What it depends on are the modules that it imports, which ``analysis.dependencies`` finds, and its inputs.
    """

    name: str
    about: str
    inputs: tuple[str, ...] = ()  # files and folders of data that it reads
    arguments: tuple[str, ...] = ("--report",)
    measures: bool = False  # this machine's speed: runs when asked for by name alone

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", f"analysis.{self.name}", *self.arguments]


JOBS = [
    Job("overview", "STViT in one picture"),
    Job("complexity", "FLOPs: printed, in closed form, counted", ("analysis/paper/flops_cells.csv",)),
    Job("cluster_sim", "the cluster-center recovery theorem, simulated"),
    Job(
        "ablations",
        "the papers' ablations, trained on scenes; shipped checkpoints counted again",
        ("results/ablations/cells", CHECKPOINTS),
    ),
    Job(
        "offtheshelf",
        "every reduction in a trained model, without training, on photographs",
        (OFF_THE_SHELF, PROBES),
    ),
    Job(
        "distilled",
        "students of a real model, trained without labels: the ablations' conclusions again",
        ("results/distilled/cells", "results/distilled/pilot", "results/ablations/conclusions.csv"),
    ),
    Job(
        "real_labels",
        "the papers' classification tables on Fashion-MNIST, trained from scratch",
        ("results/real_labels/cells",),
    ),
    Job("attention_maps", "who looks at whom, and the captions in numbers", (CHECKPOINTS,)),
    Job("token_maps", "what becomes of each patch, by every method", (CHECKPOINTS, OFF_THE_SHELF)),
    Job(
        "planes",
        "accuracy against FLOPs and throughput, printed and ours",
        ("analysis/paper", "results/ablations/cells", OFF_THE_SHELF),
    ),
    Job(
        "throughput",
        "measured speeds beside the FLOPs saved, from their records (python -m analysis.throughput --suite)",
        ("results/throughput/measured", "analysis/paper"),
    ),
    Job(
        "dense",
        "detection and segmentation with STViT-R, trained on scenes",
        (
            "results/dense/cells",
            "results/dense/steps",
            "results/dense/checkpoints",
            "results/complexity/cells.csv",
            "analysis/paper",
        ),
    ),
    Job(
        "video",
        "STViT on Video Swin: Table 6, small models trained on moving scenes, tokens over frames",
        ("results/video/cells", "results/video/checkpoints", "analysis/paper"),
    ),
    Job(
        "diversity",
        "how diverse the tokens are that each method leaves",
        ("analysis/paper/bat_fig6.csv", OFF_THE_SHELF),
    ),
    Job(
        "conclusions",
        "what the papers conclude, as each source of evidence tells it",
        tuple(name for name in VERDICTS if (HOME / name).exists()),
    ),
    Job("overhead", "what deciding and merging cost beside the layers, timed on this machine", measures=True),
    Job(
        "variable_counts",
        "images that keep different numbers of tokens in one batch: padded, packed and nested, timed on this machine",
        measures=True,
    ),
]


def dependencies(job: Job) -> list[Path]:
    """The sources of the modules that a job imports, and its data."""
    files = needed(f"analysis.{job.name}", ROOT)
    for name in job.inputs:
        path = _where(name) / name
        files += sorted(path.rglob("*")) if path.is_dir() else [path]
    suffixes = (".py", ".csv", ".json", ".jsonl", ".safetensors")
    return [file for file in files if file.suffix in suffixes and file.is_file() and file.name != "run.json"]


def _where(name: str) -> Path:
    """Results stand in the checkout, or of an installed package in the current folder; the rest with the code."""
    return HOME if name.startswith("results/") else ROOT


def fingerprint(job: Job) -> str:
    """A hash over what a job depends on, its arguments and the package versions."""
    state = hashlib.sha256(json.dumps([job.arguments, versions()], sort_keys=True).encode())
    for file in dependencies(job):
        home = HOME if file.is_relative_to(HOME) else ROOT
        state.update(file.relative_to(home).as_posix().encode() + b"\0" + file.read_bytes())
    return state.hexdigest()


def outputs_intact(job: Job) -> bool:
    """Do all files that the job's record names still exist?"""
    record = RESULTS / job.name / "record.json"
    if not record.exists():
        return False
    blocks = json.loads(record.read_text(encoding="utf-8"))["blocks"]
    return all((record.parent / file).exists() for block in blocks for file in block.get("files", ()))


def run(jobs: list[Job], force: bool = False) -> int:
    done = json.loads(STATE.read_text()) if STATE.exists() else {}
    failed = []
    for number, job in enumerate(jobs, 1):
        mark = f"[{number}/{len(jobs)}] {job.name}"
        now = fingerprint(job)
        if not force and done.get(job.name) == now and outputs_intact(job):
            print(f"{mark}: unchanged", flush=True)
            continue
        print(f"{mark}: {job.about} ...", flush=True)
        start = time.perf_counter()
        if subprocess.run(job.command, cwd=HOME).returncode:
            failed.append(job.name)
            continue
        print(f"{mark}: done in {time.perf_counter() - start:.0f} s", flush=True)
        done[job.name] = now
        STATE.parent.mkdir(exist_ok=True)
        dump(done, STATE)

    from analysis import page

    print(f"The page: {_shown(page.write())}")
    if failed:
        print(f"Failed: {', '.join(failed)}; the messages are above.", file=sys.stderr)
    return 1 if failed else 0


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


@command("analysis")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m analysis", description=__doc__)
    commands = parser.add_subparsers(dest="action")
    runner = commands.add_parser("run", help="run what is out of date, then write results/index.html")
    runner.add_argument("names", nargs="*", metavar="NAME", help="these alone (default: all)")
    runner.add_argument("--force", action="store_true", help="run also what has not changed")
    args = parser.parse_args(argv)
    table = {job.name: job for job in JOBS}
    if args.action is None:
        for job in JOBS:
            print(f"python -m analysis.{job.name:<16} {job.about}")
        print(f"python -m analysis {'run':<16} all of these that are out of date, and the results page")
        return 0
    unknown = [name for name in args.names if name not in table]
    if unknown:
        runner.error(f"unknown analysis {unknown[0]!r}; choose from {', '.join(table)}")
    names = args.names or [job.name for job in JOBS if not job.measures]
    return run([table[name] for name in names], args.force)


if __name__ == "__main__":
    sys.exit(main())
