"""The tables, from the printed cells, the closed forms and the records of finished cells alone."""

from __future__ import annotations

import pandas as pd

from analysis.results import PAPER
from analysis.shared import twins
from analysis.shared.statistics import paired, spread
from analysis.shared.verdicts import FEWEST
from analysis.video.cells import CELLS, DENSE, EPOCHS, MODELS, SEEDS, VideoCell, record_of

PRINTED = PAPER / "stvit_table6.csv"
SETTINGS = {"VideoSwin": "32x224x224", "STViT": "32x224x224, M=9"}


def printed() -> pd.DataFrame:
    """Table 6: FLOPs printed and in closed form, and what else is printed there."""
    from analysis.shared.flops.readings import readings, rounded

    table = pd.read_csv(PRINTED, dtype={"gflops": str})
    known, lines = readings(), []
    for row in table.itertuples():
        reading = known["STViT", "6", row.model, SETTINGS[row.model.split("-")[0]]]
        flops = reading.cost().total
        lines.append(
            {
                "model": row.model,
                "gflops_printed": row.gflops,
                "gflops": flops / 1e9,
                "at_the_printed_digit": rounded(flops, row.gflops) == row.gflops,
                "top1_printed": row.top1,
                "frames_per_second_printed": row.frames_per_second,
            }
        )
    frame = pd.DataFrame(lines)
    base = frame.gflops.where(frame.model.str.startswith("VideoSwin")).ffill()
    return frame.assign(saved_percent=100 * (1 - frame.gflops / base))


def results_of(model: str, epochs: int, folder=CELLS) -> dict[int, dict]:
    """The records of a model that exist, by seed."""
    found = {seed: record_of(VideoCell(model, seed, epochs), folder) for seed in SEEDS}
    return {seed: record for seed, record in found.items() if record}


def trained(folder=CELLS) -> pd.DataFrame:
    """A row for each model and number of passes that has records; twin rows are refused."""
    twins.refuse(
        (
            f"{epochs} passes",
            {
                name: {
                    seed: record["test"]["top1"] for seed, record in results_of(model, epochs, folder).items()
                }
                for model, name in MODELS.items()
            },
        )
        for epochs in EPOCHS
    )
    known = [epochs for epochs in EPOCHS if any(results_of(model, epochs, folder) for model in MODELS)]
    return pd.DataFrame([line for epochs in known or EPOCHS[:1] for line in compared(epochs, folder)])


def compared(epochs: int, folder=CELLS) -> list[dict]:
    """For each model mean and spread over seeds, and the difference to the dense one, paired by seed."""
    base = {seed: record["test"]["top1"] for seed, record in results_of(DENSE, epochs, folder).items()}
    lines, cost = [], None
    for model, name in MODELS.items():
        records = results_of(model, epochs, folder)
        own = {seed: record["test"]["top1"] for seed, record in records.items()}
        mean, sd, _ = spread(list(own.values()))
        differences = paired(own, base) if model != DENSE else []
        difference, _, half = spread(differences)
        if len(differences) < FEWEST:  # an interval from two seeds is too wide to use
            half = None
        flops = next((record["multiply_adds"] for record in records.values()), None)
        cost = cost or flops
        lines.append(
            {
                "model": name,
                "passes": epochs,
                "seeds": len(own),
                "top1": mean,
                "sd": sd,
                "lowest": min(own.values(), default=None),
                "highest": max(own.values(), default=None),
                "difference": difference,
                "half_width": half,
                "clips": next((record["test"]["clips"] for record in records.values()), None),
                "mflops": flops and flops / 1e6,
                "saved_percent": flops and 100 * (1 - flops / cost),
                "cpu_seconds": spread([r["seconds"]["training_cpu"] for r in records.values()])[0],
            }
        )
    return lines


def by_motion(folder=CELLS) -> pd.DataFrame:
    """Top-1 by the marked object's motion, over all seeds of a model after the most passes with records."""
    from stvit.data.scenes import MOTIONS

    lines = []
    for model, name in MODELS.items():
        found = [list(results_of(model, epochs, folder).values()) for epochs in EPOCHS]
        records = next(filter(None, reversed(found)), [])
        for number, motion in enumerate(MOTIONS):
            rows = [record["test"]["confusion"][number] for record in records]
            count = sum(map(sum, rows))
            right = sum(row[number] for row in rows)
            lines.append(
                {
                    "model": name,
                    "motion": motion,
                    "clips": count,
                    "top1": 100 * right / count if count else None,
                }
            )
    return pd.DataFrame(lines)
