"""Where a method's overhead goes: scoring tokens, sorting them, moving them, and merging them.

torch's profiler times each operator. Those that run while a layer reduces its tokens are the overhead, by what they do:

    sort     order, the largest, the most similar
    gather   rows that are taken, put back, or copied
    scores   what else planning computes: class attention, similarities, a predictor's layers
    merge    what else making the new tokens computes: weighted sums

Of STViT, pooling the initial tokens is ``scores``, and the layers in which they look at the image are ``merge``.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from analysis.throughput import specs
from analysis.throughput.measure import TimedCell, torch_threads
from analysis.throughput.variants import Variant

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

KINDS = ("scores", "sort", "gather", "merge")
SCORES, MERGE = "stvit::scores", "stvit::merge"  # ranges that the profiler is told of
SORTING = ("sort", "topk", "argsort", "max", "amax", "argmax", "argmin", "min", "amin")
MOVING = (
    "index_select",
    "index",
    "gather",
    "scatter",
    "cat",
    "copy",
    "clone",
    "contiguous",
    "index_put",
    "take",
)


@contextmanager
def ranged(owner: object, name: str, label: str) -> Iterator[None]:
    """``owner.name(...)`` as a range of the profiler while the context lasts."""
    from torch.profiler import record_function

    call: Callable = getattr(owner, name)

    def run(*args, **kwargs):
        with record_function(label):
            return call(*args, **kwargs)

    object.__setattr__(owner, name, run)
    try:
        yield
    finally:
        object.__delattr__(owner, name)


@contextmanager
def watched(model: nn.Module) -> Iterator[None]:
    """``model`` with its planning and its merging as ranges."""
    with ExitStack() as stack:
        for block in getattr(model, "blocks", ()):
            if hasattr(block, "reduction"):
                stack.enter_context(ranged(block, "reduce", MERGE))
                stack.enter_context(ranged(block.reduction, "plan", SCORES))
        if hasattr(model, "stgm"):
            stack.enter_context(ranged(model.initial, "forward", SCORES))
            for block in model.blocks[model.stgm]:
                stack.enter_context(ranged(block, "forward", MERGE))
        yield


def kind_of(operator: str, ranges: Sequence[str]) -> str | None:
    """What an operator in ``ranges`` (the innermost first) does; None outside of them."""
    inside = next((label for label in ranges if label in (SCORES, MERGE)), None)
    if inside is None:
        return None
    name = operator.removeprefix("aten::").rstrip("_")
    for kind, names in (("sort", SORTING), ("gather", MOVING)):
        if name.removesuffix("_add").rstrip("_") in names:
            return kind
    return "scores" if inside == SCORES else "merge"


def profiled(model: nn.Module, images) -> dict[str, float]:
    """Microseconds of one forward by kind, and of all of it."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with torch.inference_mode(), watched(model), profile(activities=[ProfilerActivity.CPU]) as recorded:
        model(images)
    spent = dict.fromkeys((*KINDS, "all"), 0.0)
    for event in recorded.events():
        if event.name in (SCORES, MERGE):
            continue
        spent["all"] += event.self_cpu_time_total
        kind = kind_of(event.name, list(ancestors(event)))
        if kind:
            spent[kind] += event.self_cpu_time_total
    return spent


def ancestors(event) -> Iterator[str]:
    while event.cpu_parent is not None:
        event = event.cpu_parent
        yield event.name


def split(cell: TimedCell, rounds: int = 5, threads: int = 2) -> pd.DataFrame:
    """A row for each model of ``cell`` but the first, in turns: milliseconds of an image by kind."""
    import pandas as pd

    work = cell.work
    images = work.inputs()
    with torch_threads(threads):
        models = {spec: Variant(spec).build(work) for spec in cell.models[1:]}
        for model in models.values():
            profiled(model, images)
        found = [{spec: profiled(model, images) for spec, model in models.items()} for _ in range(rounds)]
    rows = []
    for spec in models:
        spent = {kind: statistics.median(one[spec][kind] for one in found) for kind in (*KINDS, "all")}
        milliseconds = {kind: spent[kind] / 1e3 / work.batch_size for kind in spent}
        share = sum(spent[kind] for kind in KINDS) / spent["all"]
        rows.append(
            {
                "model": specs.split(spec)[0],
                "batch_size": work.batch_size,
                **milliseconds,
                "overhead_share": share,
            }
        )
    return pd.DataFrame(rows)
