"""Records of what was measured, and the page's section, which is made from the records alone.

``record`` measures and writes ``results/throughput/measured/NAME``; ``derive`` reads all that is there
and writes ``results/throughput``. A measurement is valid for its machine alone, so ``make reproduce`` derives the
tables and does not measure again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.results import RESULTS, Report
from analysis.throughput.alike import beside_alike
from analysis.throughput.breakeven import break_even, break_even_by_flops
from analysis.throughput.measure import TimedCell, machine_load, measure
from analysis.throughput.printed import beside, printed
from analysis.throughput.suites import SUITES, Suite
from analysis.throughput.unfinished import Unfinished

if TYPE_CHECKING:
    import pandas as pd

FOLDER = RESULTS / "throughput"
SHOWN_COLUMNS = ("model", "mode", "images_per_second", "clips_per_second", "frames_per_second", "ratio", "ratio_q1",
         "ratio_q3", "ratio_alike", "limit", "realised", "ratio_to_first", "loader_images_per_second", "memory_mb",
         "memory_ratio", "printed_per_second", "printed_ratio")  # fmt: skip
COLUMNS = "runtimes"  # the named run that is shown with a column for each runtime
VARYING = ("task", "batch_size", "image_size", "precision", "device")
EXPLAINED = (
    "Models took turns, A B A B. *ratio* is how many times as fast as the base a model is: the median over rounds "
    "of the base's time by its own in the same round, between its quartiles; the base is the first model in the "
    "same mode, and *ratio_to_first* is against the first row. *ratio_alike* is against the dense model with the "
    "same short cuts: its layers on groups of images, its weights packed where that pays. *limit* is the ratio that "
    "the FLOPs alone would give, *realised* the share of the FLOPs saving that is time saved. *memory* is weights and "
    "the most that a forward holds beside them; *loader_images_per_second* what loading gives without a model. "
    "*printed* is what the paper gives, on a V100 at batch 128."
)


def record(
    name: str, suite: Suite, command: str, threads: int = 2, workers: int = 1, folder: Path = FOLDER
) -> Path:
    """Measure a suite and write its record: rows, break-even points, parts."""
    from analysis.throughput.roofline import profile

    device = suite.cells[0].work.device
    config = {
        "suite": suite.about,
        "cells": [described(cell) for cell in suite.cells],
        "patience": suite.patience._asdict(),
        "workers": workers,
        "load_before": machine_load(),
        **machine(threads, device),
    }
    out = folder / "measured" / name
    kept = Unfinished(name, {"patience": suite.patience, "threads": threads, "workers": workers})
    with Report(f"throughput/measured/{name}", suite.about, command, config, 0, out=out, device=device) as r:
        found = measure(suite.cells, suite.patience, threads, forgiving=True, kept=kept, workers=workers)
        r.table("rows", found.frame, "Every variant with all that was measured.")
        points = break_even(found.rows)
        points = points if len(points) else break_even_by_flops(found.rows)
        if len(points):
            r.table("break_even", points, "Where each method begins to be faster; empty: nowhere.")
        if suite.parts:
            import pandas as pd

            frames = [profile(cell, suite.patience, threads) for cell in suite.parts]
            r.table("parts", pd.concat(frames, ignore_index=True), "Where the time goes.")
        if suite.split:
            import pandas as pd

            from analysis.throughput.split import split

            frames = [split(cell, threads=threads) for cell in suite.split]
            r.table("split", pd.concat(frames, ignore_index=True), "Where the overhead goes.")
        config |= {"load_after": machine_load(), "notes": found.notes}
    kept.clear()
    return out


def described(cell: TimedCell) -> dict:
    modes = [mode._asdict() for mode in cell.modes]
    return {"models": list(cell.models), **cell.work._asdict(), "size": list(cell.work.size), "modes": modes}


def machine(threads: int, device: str) -> dict:
    import torch

    found = {
        "threads": threads,
        "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }
    if device.startswith("cuda"):
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return found


def records(folder: Path = FOLDER) -> dict[str, dict]:
    """The records that there are, suites first and in their order."""
    found = {path.parent.name: path for path in sorted((folder / "measured").glob("*/record.json"))}
    order = [name for name in SUITES if name in found] + [name for name in found if name not in SUITES]
    return {name: json.loads(found[name].read_text(encoding="utf-8")) for name in order}


def derive(folder: Path = FOLDER, out: Path | None = None) -> None:
    """The report from the records in ``folder``, into ``out`` or the same folder; nothing is measured."""
    measured = records(folder)
    inputs = [folder / "measured" / name / file for name in measured for file in files(measured[name])]
    command = "python -m analysis.throughput --report"
    title = "How much of the FLOPs saving is time saved"
    with Report(
        "throughput", title, command, {"measured": list(measured)}, inputs=inputs, out=out or folder
    ) as r:
        if measured:
            r.prose(EXPLAINED)
            pictures(r, folder, {name: read(folder, name) for name in measured})
        else:
            r.prose("Nothing has been measured yet: `python -m analysis.throughput --suite deit` is a start.")
        for name, one in measured.items():
            section(r, folder, name, one)
        r.heading("What the papers print, held against itself")
        r.prose(
            "A printed gain and the two speeds that it comes from say the same twice. Below, *consistent* is whether "
            "any rounding of the speeds gives the gain, *off_by* how many points it is off."
        )
        r.table("printed", printed(), "Every printed speed, and the registered model that it is of.")


def section(r: Report, folder: Path, name: str, one: dict) -> None:
    config = one["config"]
    r.heading(f"{name}: {one['title']}")
    device = config.get("gpu", one["hardware"])
    notes = "".join(f"\n\n{note}" for note in config["notes"])
    r.prose(
        f"`{one['command']}`: {one['date']}, {device}, {config['threads']} threads, torch {one['versions']['torch']}, "
        f"load average {config['load_before']:.1f} before and {config['load_after']:.1f} after.{notes}"
    )
    r.table(name, compact(beside(beside_alike(read(folder, name).to_dict("records")))), "Side by side.")
    if name == COLUMNS:
        caption = "Times as fast as the dense model in the same runtime, between quartiles."
        r.table(f"{name}_columns", in_columns(read(folder, name)), caption)
    for table, caption in (
        (
            "break_even",
            "From which value on each method is faster, at the median and at the lower quartile; empty: nowhere.",
        ),
        (
            "parts",
            "Where the time goes. The roofline is the first model's FLOP/s; one row: the part's products with a single "
            "row, which is what reading its weights and calling them cost; least: the larger of both, near which a "
            "part could come (the rate is a mean: some parts beat it); calls: torch's operations in a forward.",
        ),
        (
            "split",
            "Milliseconds of an image that each method's overhead takes, by what it does, and its part of all.",
        ),
    ):
        if (folder / "measured" / name / f"{table}.csv").exists():
            r.table(f"{name}_{table}", read(folder, name, table), caption)
    if (folder / "measured" / name / "parts.csv").exists():
        from analysis.throughput import figures

        words = in_the_way(read(folder, name, "parts"))
        if words:
            r.prose(words)

        r.figure(
            f"{name}_times",
            figures.parts(read(folder, name, "parts")),
            "Milliseconds of an image in each part; |: what its FLOPs would take at the first model's rate.",
            alt="Bars for the time of each part of each model, with a mark at the roofline",
        )


def in_the_way(parts: pd.DataFrame) -> str:
    """How fast models are beside the first one, and would be with every part at its least time."""
    if "least_milliseconds" not in parts:
        return ""
    words, whole = [], parts[parts.part == "all"]
    for base, *others in (list(same.itertuples()) for _, same in whole.groupby("base", sort=False)):
        for one in others:
            words.append(
                f"{one.model} is {base.milliseconds / one.milliseconds:.2f} times as fast as {base.model} here, and "
                f"would be {base.milliseconds / one.least_milliseconds:.2f} times as fast if each part took its "
                f"least time: FLOPs alone promise {base.gflops / one.gflops:.2f}."
            )
    return " ".join(words)


def pictures(r: Report, folder: Path, frames: dict[str, pd.DataFrame]) -> None:
    from analysis.throughput import crossover, figures

    sweeps = [name for name in frames if name in crossover.SWEEPS]
    if sweeps:
        overhead = read(folder, "rates", "split") if "rates" in frames else None
        r.figure(
            "crossover",
            crossover.crossover(frames, overhead),
            "Where methods pay in DeiT: times as fast as the dense model, dashed what the FLOPs alone would give; "
            "and what of their time goes into scoring, sorting, moving and merging tokens.",
            alt="Speed-up of five methods over image size, batch, width and FLOPs, and bars of their overhead",
        )

    single = [name for name in frames if name not in (*sweeps, COLUMNS) and not figures.swept(frames[name])]
    r.figure(
        "speed_up",
        figures.speed_ups({name: frame for name, frame in frames.items() if name in single}),
        "Speed-up over the dense base (bars: quartiles), beside what the FLOPs alone would give (|).",
        alt="Dots for measured speed-ups of each model, with a mark at the FLOPs limit",
    )
    for name, frame in frames.items():
        if figures.swept(frame) and name not in sweeps:
            r.figure(
                name,
                figures.sweep(frame),
                "Speed-up over the dense base; dashed: what the FLOPs alone would give. Below 1 it does not pay.",
                alt="Speed-up against the swept size, a line for each method, a dashed one for its FLOPs limit",
            )


def compact(rows: Sequence[dict]) -> pd.DataFrame:
    """The columns to read: of the setting those that vary."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    varying = [name for name in VARYING if frame[name].nunique() > 1]
    shown = [name for name in SHOWN_COLUMNS if name in frame and frame[name].notna().any()]
    if "ratio_to_first" in shown and frame.ratio.equals(frame.ratio_to_first):
        shown.remove("ratio_to_first")
    return frame[[*shown[:2], *varying, *shown[2:]]]


def in_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each model and batch, a column for each mode: the ratio to the first model in the same mode."""
    import pandas as pd

    rows = []
    for (batch, model), own in frame.groupby(["batch_size", "model"], sort=False):
        if not own.against.iloc[0].startswith(f"{model},"):
            shown = {
                row.mode: f"{row.ratio:.2f} ({row.ratio_q1:.2f}-{row.ratio_q3:.2f})"
                for row in own.itertuples()
            }
            rows.append({"model": model, "batch": batch, **shown, "by FLOPs": own.limit.iloc[0]})
    return pd.DataFrame(rows)


def files(one: dict) -> list[str]:
    return [file for block in one["blocks"] for file in block.get("files", ())]


def read(folder: Path, name: str, table: str = "rows") -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(folder / "measured" / name / f"{table}.csv")
