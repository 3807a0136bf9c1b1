"""The cluster-center recovery theorem (STViT, appendix 6.6): simulated, corrected and understood.

Without arguments: the default grid of formula against simulation, and its summary. With any of --d --K --n
--sigma --theta --gamma --init --lam: that one setting. Angles on the command line are in degrees.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from pathlib import Path

import pandas as pd

from analysis import formats
from analysis.cluster_sim.experiments import NAMES, experiment, shown
from analysis.cluster_sim.geometry import INITS
from analysis.cluster_sim.options import Options, SimulatedCell
from analysis.commands import Parser, at_least, command, new_folder
from analysis.results import HOME
from analysis.shared.loop import BACKENDS

STORE = HOME / ".cache" / "cluster_sim"
PROBLEM_OPTIONS = ("d", "K", "n", "sigma", "theta", "gamma", "init", "lam")


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog="python -m analysis.cluster_sim",
        description=__doc__,
    )
    what = p.add_argument_group("what to run")
    what.add_argument("--experiment", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    what.add_argument(
        "--report", action="store_true", help="all experiments into results/cluster_sim (or --out)"
    )
    size = what.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a small grid, in seconds")
    size.add_argument(
        "--full", action="store_true", help="hours; resumable: finished cells are kept in --out"
    )
    one = p.add_argument_group("one setting (others at K=16, d=256, n=1024, θ=45°, σ=1)")
    one.add_argument("--d", type=int, help="dimension")
    one.add_argument("--K", type=int, help="clusters")
    one.add_argument("--n", type=int, help="tokens a cluster")
    one.add_argument("--sigma", type=float, help="noise: tokens are N(μ_i, σ²I/d)")
    one.add_argument("--theta", type=float, metavar="DEGREES", help="angle between the query and its center")
    one.add_argument("--gamma", type=float, help="⟨μ_i, μ_j⟩ of any two centers (default 0)")
    one.add_argument("--init", metavar="NAME", help=f"where the query tilts: {', '.join(INITS)}")
    one.add_argument("--lam", type=float, help="λ (default: the theorem's (log d + log K)/Δ)")
    run = p.add_argument_group("how to run")
    run.add_argument(
        "--trials", type=at_least(2), help="updates a setting (default: as many as each experiment needs)"
    )
    run.add_argument("--seed", type=at_least(0), default=0)
    run.add_argument("--device", default="cpu", help="where tokens live when they are made: cpu, cuda, ...")
    run.add_argument("--jobs", type=at_least(1), default=0, help="workers (default: one a core)")
    run.add_argument(
        "--backend", default="threading", metavar="NAME", help=f"joblib's: {', '.join(BACKENDS)}"
    )
    run.add_argument(
        "--out", type=new_folder, metavar="DIR", help="tables, figures and finished cells go here"
    )
    run.add_argument("--no-progress", action="store_true", help="no progress bar on standard error")
    formats.add_arguments(p)
    return p


def options_from(args: argparse.Namespace) -> Options:
    if args.backend not in BACKENDS:
        raise ValueError(f"unknown backend {args.backend!r}; choose from {', '.join(BACKENDS)}")
    if args.device != "cpu":
        from analysis.cluster_sim.attention import resolve_device

        resolve_device(args.device)
    level = "quick" if args.quick else "full" if args.full else "default"
    store = None
    if args.full:
        store = (args.out or STORE) / "cells"
    shown = not args.no_progress
    return Options(level, args.trials, args.seed, args.device, args.jobs, args.backend, store, shown)


def single(args: argparse.Namespace, options: Options) -> pd.DataFrame:
    """One setting: the reduced sampler's row, and the same update from tokens on ``--device``."""
    from analysis.cluster_sim.measure import measure, tokens_on_device

    given = {name: getattr(args, name) for name in PROBLEM_OPTIONS if getattr(args, name) is not None}
    if "theta" in given:
        given["theta"] = math.radians(given["theta"])
    cell = dataclasses.replace(SimulatedCell(trials=options.count(200), seed=options.seed), **given)
    row = measure(cell)
    if options.device != "cpu":
        row |= tokens_on_device(cell, options.device)
    return pd.DataFrame([row])


def say_single(frame: pd.DataFrame) -> str:
    row = frame.iloc[0]
    lines = [f"{name:<19}{formats.render(frame[[name]]).splitlines()[-1]}" for name in frame]
    if row.regime != "Gaussian":
        lines.append(
            f"F3 is vacuous or approximate here: v = {row.v:.3g} exceeds 0.1 ln n (regime: {row.regime})."
        )
    for name in ("printed", "typical", "corrected", "certified"):
        if row[name] >= 1:
            lines.append(f"The {name} bound is vacuous here.")
    if not row.covered:
        lines.append(
            "The typical and corrected bounds claim nothing here (v ≤ ½ ln n, n ≤ e^{d/8}, 5K < n²)."
        )
    return "\n".join(lines)


def run(args: argparse.Namespace) -> int:
    options = options_from(args)
    if args.report:
        from analysis.cluster_sim.report import write

        write(options, _command(), args.out)
        return 0
    if any(getattr(args, name) is not None for name in PROBLEM_OPTIONS):
        if args.experiment:
            raise ValueError(
                "--experiment runs its own settings; leave out " + " ".join(f"--{s}" for s in PROBLEM_OPTIONS)
            )
        frame = single(args, options)
        if not formats.emit(frame, args):
            print(say_single(frame))
        return 0
    name = args.experiment or "grid"
    module = experiment(name)
    frame = module.compute(options)
    table = shown(module, frame)
    if not formats.emit(table, args):
        print(f"{module.TITLE}\n\n{formats.render(table)}\n\n{module.words(frame)}")
    if args.out:
        _keep(args.out, name, frame, table, module)
    return 0


def _keep(out: Path, name: str, frame: pd.DataFrame, table: pd.DataFrame, module) -> None:
    """The figure, the table and every row, without a record: ``--report`` writes the one with it."""
    from analysis import style

    out.mkdir(parents=True, exist_ok=True)
    for stem, content in ((name, table), (f"{name}_rows", frame)):
        (out / f"{stem}.csv").write_text(content.to_csv(index=False, lineterminator="\n"), encoding="utf-8")
    style.save(module.plot(frame), out / name)


def _command() -> str:
    return "python -m analysis.cluster_sim " + " ".join(sys.argv[1:])


@command("analysis.cluster_sim")
def main(argv: list[str] | None = None) -> int:
    p = parser()
    args = p.parse_args(argv)
    from threadpoolctl import threadpool_limits

    try:
        with threadpool_limits(1):  # the work is spread over cells; a second level of threads only costs
            return run(args)
    except KeyboardInterrupt:
        p.exit(130, f"{p.prog}: stopped; with --full the same command continues from here\n")


if __name__ == "__main__":
    sys.exit(main())
