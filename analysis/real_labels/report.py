"""``results/real_labels``: every table from the records, the verdicts, and accuracy against cost."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd

from analysis.real_labels import tables
from analysis.real_labels.cells import CELLS, TEST_IMAGES, plan, record_of
from analysis.real_labels.design import DENSE_ROW, GOAL, SEEDS, TABLES, TRAINING
from analysis.real_labels.figure import plot
from analysis.real_labels.verdicts import verdicts
from analysis.results import Report
from analysis.shared import records, twins
from analysis.shared.statistics import spread
from analysis.shared.tables import PROGRESS, captioned
from analysis.shared.verdicts import MARGIN

LACKING = "no cell is finished yet: python -m analysis.real_labels run trains them"
COLUMNS_EXPLAINED = (
    "seeds: how many are finished, of five; top1 and sd: mean and spread over seeds (%); difference: to the first "
    "row, paired by seed, with half the width of its 95 % interval over seeds (half_width) and over test images "
    "(half_images); gained, lost: test images that only this row, and only the first row, names rightly; mflops: "
    "counted multiply-adds, 10⁶; minutes and images_per_second: of training a seed, in the time of one core (cpu) or "
    "by the clock (cuda), on machines of unlike speed, which the records name: rows are not to be compared by them."
)


def derived(folder: Path = CELLS) -> dict[str, tuple[pd.DataFrame, str]]:
    """Each table that is begun, and its caption, from the records in ``folder`` alone; twin rows are refused."""
    twins.refuse((table.name, tables.accuracies_of(table, folder=folder)) for table in TABLES)
    twins.refuse_one_architecture((table.name, fingerprints(table, folder)) for table in TABLES)
    begun = [table for table in TABLES if fingerprints(table, folder)]
    found = captioned(begun, partial(tables.tabulate, folder=folder), COLUMNS_EXPLAINED)
    found["conclusions"] = (
        verdicts(folder=folder),
        "The papers' conclusions on real labels; a verdict needs three seeds. verdict: all comparisons of the grid "
        "judged together (Holm); alone: each by its own 95 % interval; pooled: with the spread over the table's "
        "complete rows. Evidence: paired difference ± half its own interval | half the pooled one.",
    )
    found["progress"] = tables.progress(folder=folder), PROGRESS
    return found


def fingerprints(table, folder: Path = CELLS) -> dict[str, str]:
    """The architecture of every row that has a record."""
    found = {row.name: tables.results_of(row, folder=folder) for row in table.rows}
    return {name: next(iter(records.values()))["fingerprint"] for name, records in found.items() if records}


def write(out: Path | None = None, folder: Path = CELLS) -> int:
    finished = sum(record_of(cell, folder) is not None for cell in plan())
    if not finished:
        print(LACKING)
        return 0
    config = {"training": TRAINING, "seeds": list(SEEDS), "test_images": TEST_IMAGES, "margin": MARGIN}
    with Report(
        "real_labels", "The tables on real labels", "python -m analysis.real_labels --report",
        config=config, inputs=records.kept(folder, out), out=out,
    ) as report:  # fmt: skip
        report.prose(introduction(finished, folder))
        found = derived(folder)
        frame, caption = found.pop("conclusions")
        report.heading("What the papers conclude, and what holds here")
        report.table("conclusions", frame, caption)
        caption = (
            "Accuracy and cost of the dense models, STViT by its number of tokens and BAT by its keep rate, and of the "
            "methods at like FLOPs, as far as they are trained; a dot is a seed, a bar the mean of a row."
        )
        alt = "Top-1 on Fashion-MNIST against multiply-adds, and top-1 of the methods at like FLOPs"
        report.figure("accuracy_and_cost", plot(folder), caption, alt)
        report.heading("Tables")
        for name, (frame, caption) in found.items():
            report.table(name, frame, caption)
    print(f"{finished} of {len(plan())} cells tabulated")
    return 0


def introduction(cells: int, folder: Path) -> str:
    return (
        f"The papers' classification tables, trained from scratch on Fashion-MNIST ({cells} of {len(plan())} cells are "
        "finished). A model has six layers of width 64 on 7 × 7 tokens of 28 × 28 images, trained for "
        f"{TRAINING['epochs']} passes over 60,000 images ({TRAINING['opt']}, learning rate {TRAINING['lr']}, batch "
        f"{TRAINING['batch_size']}, all rows alike) and tested on {TEST_IMAGES:,}. The recipe was chosen on the dense "
        f"model alone; differences of {MARGIN} points count, as was said before any row ran. {reached(folder)}\n\n"
        "**What this cannot show**: what ImageNet's resolution, pretraining, distillation or 300 epochs do. Objects "
        "fill these images and stand in their middle, so that a fixed place says more here than in photographs."
    )


def reached(folder: Path) -> str:
    """Whether the dense model is as good, and its seeds as close, as effects of half a point ask for."""
    values = list(tables.accuracies(tables.results_of(DENSE_ROW, folder=folder)).values())
    mean, sd, _ = spread(values)
    if mean is None:
        return "The dense model is not trained yet."
    goal = f"The goal was {GOAL['top1']:.0f} % with seeds within {GOAL['sd']} points (standard deviation): "
    if sd is None:
        return f"{goal}the dense model has {mean:.2f} % from one seed, which says nothing of the spread."
    word = "reached" if mean >= GOAL["top1"] and sd <= GOAL["sd"] else "not reached"
    return f"{goal}{word}, the dense model has {mean:.2f} ± {sd:.2f} % over {len(values)} seeds."
