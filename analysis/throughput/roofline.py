"""Where the time goes: each part's time against what its FLOPs would take at the dense model's rate.

The roofline is the rate that the hardware reaches on this workload: the dense model's multiply-adds per second.
A part that is slower than that is limited by memory, by small kernels, or by work that FLOPs do not count. For the
first two there is a second mark, ``one_row``; *least* is the larger of both. Neither is a strict bound: the rate is the
dense model's mean, and some of its parts are faster.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from analysis.throughput import specs
from analysis.throughput.measure import TimedCell, torch_threads
from analysis.throughput.one_row import one_row, products
from analysis.throughput.table import size_text
from analysis.throughput.turns import USUAL, Patience, take_turns
from analysis.throughput.variants import Variant, check_device, finisher

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

PARTS = ("patch embedding", "base blocks", "pooling", "STGM", "semantic blocks", "recovery", "reduction",
         "reduced blocks", "patch merging", "head", "the rest")  # fmt: skip
REST = PARTS[-1]
ROLES = {"image": "base blocks", "stgm": "STGM", "semantic": "semantic blocks", "recovery": "recovery"}


class Stopwatch:
    """Seconds of each part; where one part runs inside another, they are the inner one's."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self.clock, self.spent, self.running, self.last = clock, Counter(), [], 0.0

    def enter(self, part: str) -> None:
        self._settle()
        self.running.append(part)

    def leave(self) -> None:
        self._settle()
        self.running.pop()

    def timed(self, part: str, call: Callable) -> Callable:
        """``call``, whose time is the part's."""

        def run(*args, **kwargs):
            self.enter(part)
            try:
                return call(*args, **kwargs)
            finally:
                self.leave()

        return run

    def _settle(self) -> None:
        now = self.clock()
        if self.running:
            self.spent[self.running[-1]] += now - self.last
        self.last = now


def parts(model: nn.Module) -> dict[str, str]:
    """Module name → part, for the modules of a plain, sparse or reduced ViT or Swin that are there."""
    outer = "model." if hasattr(model, "model") else ""
    trunk = model.model if outer else model
    found = {"patch_embed": "patch embedding", "initial": "pooling", "norm": "head", "fc_norm": "head"}
    found |= {"head": "head", "aux_head": "head"}
    for name, part in _layers(trunk).items():
        found[name] = part
        found[f"{name}.reduction"] = "reduction"
    for i, stage in enumerate(getattr(trunk, "layers", ())):
        found |= {f"layers.{i}.downsample": "patch merging"}
        found |= {f"layers.{i}.initial.{n}": "pooling" for n in range(len(getattr(stage, "initial", ())))}
    there = dict(model.named_modules())
    return {outer + name: part for name, part in found.items() if outer + name in there}


def _layers(trunk: nn.Module) -> dict[str, str]:
    if hasattr(trunk, "layers"):
        return {
            f"layers.{i}.blocks.{n}": part
            for i, stage in enumerate(trunk.layers)
            for n, part in enumerate(_stage(stage))
        }
    stgm, part, found = getattr(trunk, "stgm", None), "base blocks", {}
    for i, block in enumerate(getattr(trunk, "blocks", ())):
        if hasattr(block, "reduction"):
            part = "reduced blocks"
        elif stgm is not None and i >= stgm.start:
            part = "STGM" if i < stgm.stop else "semantic blocks"
        found[f"blocks.{i}"] = part
    return found


def _stage(stage: nn.Module) -> list[str]:
    """The parts of a Swin stage's layers: by their role in a dumbbell unit, or all of one kind."""
    if hasattr(stage, "plan"):
        return [ROLES[role] for role, _, _ in stage.plan]
    part = "semantic blocks" if type(stage).__name__ == "SemanticStage" else "base blocks"
    return [part] * len(stage.blocks)


def flops_of_parts(found: dict[str, str], modules: dict[str, int], total: int) -> Counter:
    """Multiply-adds of each part, those of a module within another taken off the outer one's."""
    flops = Counter({REST: total})
    for name, part in found.items():
        own = modules.get(name, 0)
        flops[part] += own
        outer = next((o for o in sorted(found, key=len, reverse=True) if name.startswith(f"{o}.")), None)
        flops[found[outer] if outer else REST] -= own
    return flops


@contextmanager
def watched(model: nn.Module, watch: Stopwatch):
    """``model`` reports to the stopwatch while the context lasts.

    Not by forward hooks: layers with hooks do not run on groups of images, which would change what is timed.
    """
    there, before = dict(model.named_modules()), {}
    for name, part in parts(model).items():
        before[name] = vars(there[name]).get("forward")
        there[name].forward = watch.timed(part, there[name].forward)
    try:
        yield
    finally:
        for name, forward in before.items():
            del there[name].forward
            if forward is not None:
                there[name].forward = forward


def profile(cell: TimedCell, patience: Patience = USUAL, threads: int = 2) -> pd.DataFrame:
    """The parts of every model of ``cell``, in turn, in its first mode; the first model is the roofline."""
    import pandas as pd

    work = cell.work
    check_device(work.device)
    with torch_threads(threads):
        models = [Variant(spec, cell.modes[0]).build(work) for spec in cell.models]
        spent = time_parts(models, work, patience)
        rows_alone = [time_one_row(model, work, patience) for model in models]
        calls = [count_calls(model, work.inputs()) for model in models]
    counts = {spec: specs.count(spec, work.size, work.dense) for spec in cell.models}
    base = cell.models[0]
    rate = counts[base].total * work.batch_size / sum(spent[0].values())  # multiply-adds a second
    frames = []
    for spec, model, seconds, alone, called in zip(
        cell.models, models, spent, rows_alone, calls, strict=True
    ):
        flops = flops_of_parts(parts(model), counts[spec].modules, counts[spec].total)
        frame = rows(spec, seconds, flops, rate, work.batch_size, alone)
        frames.append(
            frame.assign(calls=[called.total() if part == "all" else called[part] for part in frame.part])
        )
    frame = pd.concat(frames, ignore_index=True)
    return frame.assign(
        base=base, batch_size=work.batch_size, image_size=size_text(work.size), device=work.device
    )


def time_parts(models: Sequence[nn.Module], work, patience: Patience) -> list[dict[str, float]]:
    """The median over rounds of each part's seconds in a forward, for each model."""
    import torch

    clock, inputs = clock_of(work.device), work.inputs()

    def make(model: nn.Module, rounds: list[Counter]):
        def call() -> None:
            watch = Stopwatch(clock)
            with torch.inference_mode(), watched(model, watch):
                watch.timed(REST, model)(inputs)
            rounds.append(watch.spent)

        return call

    spent: list[list[Counter]] = [[] for _ in models]
    runs = [make(model, rounds) for model, rounds in zip(models, spent, strict=True)]
    take_turns(runs, patience._replace(turn=0.0))
    return [
        {part: statistics.median(r[part] for r in rounds[patience.warmup :]) for part in PARTS if part in rounds[-1]}
        for rounds in spent
    ]  # fmt: skip


def time_one_row(model: nn.Module, work, patience: Patience) -> dict[str, float]:
    """The median over rounds of the seconds that each part's products take with one row."""
    clock, found = clock_of(work.device), products(model, parts(model))
    rounds = [one_row(found, Stopwatch(clock)) for _ in range(patience.warmup + patience.rounds)]
    return {part: statistics.median(r[part] for r in rounds[patience.warmup :]) for part in rounds[-1]}


def count_calls(model: nn.Module, inputs) -> Counter:
    """How many operations of torch a forward of each part calls."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    watch, calls = Stopwatch(), Counter()

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            calls[watch.running[-1]] += 1
            return operation(*args, **(kwargs or {}))

    with torch.inference_mode(), watched(model, watch), Counting():
        watch.timed(REST, model)(inputs)
    return calls


def clock_of(device: str) -> Callable[[], float]:
    """A clock that reads the time when the device has done its work."""
    finish = finisher(device)

    def clock() -> float:
        finish()
        return time.perf_counter()

    return clock


def rows(
    spec: str, seconds: dict[str, float], flops: Counter, rate: float, images: int, alone: dict[str, float]
) -> pd.DataFrame:
    """A row for each part, and one for all: milliseconds of an image, what they would be at ``rate``, and at least.

    alone: seconds of a batch in which one row goes through each part's weights
    """
    import pandas as pd

    time_all, flops_all = sum(seconds.values()), sum(flops.values())
    bound = {part: max(alone.get(part, 0.0) / images, flops[part] / rate) for part in seconds}
    bound["all"], alone = sum(bound.values()), {**alone, "all": sum(alone.values())}
    found = []
    for part in (*seconds, "all"):
        own = time_all if part == "all" else seconds[part]
        work = flops_all if part == "all" else flops[part]
        roof = work / rate
        found.append(
            {
                "model": spec,
                "part": part,
                "milliseconds": 1e3 * own / images,
                "time_share": own / time_all,
                "gflops": work / 1e9,
                "flops_share": work / flops_all,
                "roofline_milliseconds": 1e3 * roof,
                "times_roofline": own / images / roof if roof > 0 else None,
                "one_row_milliseconds": 1e3 * alone[part] / images if part in alone else None,
                "least_milliseconds": 1e3 * bound[part],
            }
        )
    return pd.DataFrame(found)
