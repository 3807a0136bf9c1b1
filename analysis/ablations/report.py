"""``results/ablations``: every table from the records, verdicts, and the shipped checkpoints again."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pandas as pd

from analysis import style
from analysis.ablations import shipped, tables
from analysis.ablations.advice import advice
from analysis.ablations.cells import CELLS
from analysis.ablations.claims import verdicts
from analysis.ablations.design import NOT_IN_GRID, SEEDS, TABLES, TEST_IMAGES, TRAINING
from analysis.results import RESULTS, Report, digest
from analysis.shared import records, strips, twins
from analysis.shared.tables import PROGRESS, captioned

COLUMNS_EXPLAINED = (
    "top1 and sd: mean and spread over seeds (%); difference: paired by seed to the first row, with half the width "
    "of its 95 % interval; pooled: the same with the spread of all complete rows of the table taken as one; small: "
    "top-1 where the marked object's radius is under 5.5 of 48 pixels (or as large a part of a larger image); "
    "mflops: counted multiply-adds, 10⁶."
)


def derived(folder: Path = CELLS) -> dict[str, tuple[pd.DataFrame, str]]:
    """Each derived table and its caption, from the records in ``folder`` alone; twin rows are refused."""
    twins.refuse((table.name, tables.accuracies_of(table, folder=folder)) for table in TABLES)
    found = captioned(TABLES, partial(tables.tabulate, folder=folder), COLUMNS_EXPLAINED)
    found["conclusions"] = (
        verdicts(folder=folder),
        "The papers' conclusions on this grid; a verdict needs three seeds. Evidence: paired difference ± half the "
        "95 % interval over seeds, of the pair alone (verdict) | with the spread pooled over the table's complete "
        "rows (pooled), which assumes that rows spread alike. corrected: the verdict where all comparisons of the grid "
        "are judged together (Holm).",
    )
    found["assignments"] = (
        tables.assignment_table(folder=folder),
        "How semantic tokens follow objects, on 1,024 test scenes (%): purity of the clusters of image tokens over "
        "all of them; recall, the share of objects' tokens in clusters that their object dominates; the same for "
        "small objects. Equal windows are what knowing places alone gives.",
    )
    found["progress"] = tables.progress(folder=folder), PROGRESS
    return found


def csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, lineterminator="\n")


def check(out: Path | None = None, cells: Path = CELLS) -> int:
    """0 if the tables on disk are those that the records named by the report give, byte for byte.

    Cells that were finished since are no error: the next report takes them in.
    """
    out = out or RESULTS / "ablations"
    named = json.loads((out / "record.json").read_text(encoding="utf-8"))["inputs"]
    wrong = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, hashed in named.items():
            source = cells / Path(name).name
            if not source.exists() or digest(source) != hashed:
                wrong.append(f"{source} is not the record that the tables were made from")
                continue
            shutil.copy(source, scratch)
        found, known = derived(Path(scratch)), len(records.read_all(scratch))
    for name, (frame, _) in found.items():
        path = out / f"{name}.csv"
        if not path.exists() or path.read_bytes() != csv(frame).encode():
            wrong.append(f"{path} is not what the records give")
    print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
    since = len(records.read_all(cells)) - known
    print(f"{len(found)} tables from {known} cells: {'differences above' if wrong else 'as on disk'}")
    if since > 0:
        print(f"{since} cells were finished since; python -m analysis.ablations --report takes them in")
    return 1 if wrong else 0


def write(out: Path | None = None) -> int:
    begun = time.perf_counter()
    again = shipped.reproduce()
    finished = len(records.read_all(CELLS))
    with Report(
        "ablations", "The ablations, trained on scenes", "python -m analysis.ablations --report",
        config={"training": TRAINING, "seeds": list(SEEDS), "test_images": TEST_IMAGES},
        inputs=records.kept(CELLS, out), out=out,
    ) as report:  # fmt: skip
        report.prose(introduction(finished))
        caption = (
            "Scenes as the models see them, and what is known about each pixel: the ground and the instances."
        )
        alt = "Two rows of scenes with one outlined object each, and the instance masks below them"
        report.figure("scenes", plot_scenes(), caption, alt)
        found = derived()
        frame, caption = found.pop("conclusions")
        report.heading("What the papers conclude, and what holds here")
        report.table("conclusions", frame, caption)
        report.prose(noise(found))
        report.heading("Advice, as far as this evidence goes")
        report.prose(advice())
        caption = "Accuracy and cost by the number of semantic tokens; a dot is a seed."
        alt = "Top-1 against multiply-adds of the dense model and STViT with 4, 9, 16 and 36 tokens"
        report.figure("tokens", plot_tokens(), caption, alt)
        report.heading("Tables")
        panels = {table.title: tables.accuracies_of(table) for table in TABLES}
        if figure := strips.plot_seeds(panels, "top-1 (%)"):
            alt = "For each table, dots for the seeds of each row, with the mean and its interval"
            report.figure("seeds", figure, strips.CAPTION, alt)
        for name, (frame, caption) in found.items():
            report.table(name, frame, caption)
        report.heading("Shipped checkpoints, counted again")
        report.table(
            "checkpoints",
            again,
            "Right answers on the first 4,096 test scenes, recorded and counted again now.",
        )
        report.prose(" ".join(("Not in the grid:", *NOT_IN_GRID)))
    unequal = again[~again.within_rounding].checkpoint.tolist() if len(again) else []
    for name in unequal:
        print(f"{name}: another accuracy than recorded", file=sys.stderr)
    seconds = time.perf_counter() - begun
    print(f"{finished} cells tabulated, {len(again)} checkpoints counted again in {seconds:.0f} s")
    return 1 if unequal else 0


def introduction(cells: int) -> str:
    return (
        "The papers' tables are of ImageNet, which is not trained here. These are the same ablations on a set that "
        "the project draws: name the marked one among three to six textured, turned, overlapping objects (12 "
        f"classes). {cells} cells are finished. Each is a model of six layers of width 64 on 64 tokens (a micro Swin "
        f"in Table 9), trained on a CPU for one pass over {TRAINING['train_images']:,} scenes ({TRAINING['opt']}, "
        f"learning rate {TRAINING['lr']} for all rows, batch {TRAINING['batch_size']}) and tested on "
        f"{TEST_IMAGES:,} others; rows of a table share seeds, order, head and optimizer with the row that they are "
        "compared to. The learning rate was not tuned row by row. Muon and a convolutional stem depart from the "
        "papers: they are there because a pass this short teaches a plain patch embedding under AdamW too little.\n\n"
        "**What this cannot show**: ImageNet accuracies, gaps of a tenth of a point, what pretraining, distillation "
        "or 300 epochs do. The budget is short: a model that learns faster stands higher, and with mean pooling a "
        "model with fewer tokens learns faster, because the mean is over fewer. That is a fact about this budget, "
        "not about what a number of tokens can express."
    )


def noise(found: dict[str, tuple[pd.DataFrame, str]]) -> str:
    """How much seeds of one row differ, and what three seeds can therefore show."""
    rows = pd.concat([found[table.name][0] for table in TABLES]).dropna(subset=["half_width"])
    if rows.empty:
        return "No row has enough seeds for an interval yet."
    return (
        f"**How much is noise.** Over the {len(rows)} rows with an interval, seeds of a row spread by "
        f"{rows.sd.median():.1f} points (median of the standard deviations) and the paired difference is known to "
        f"± {rows.half_width.median():.1f} points (median). The papers' differences are mostly below one point: at "
        "this budget only large effects can be told, and a longer training would narrow the spread more than further "
        "seeds would."
    )


def plot_tokens():
    """Top-1 against counted multiply-adds for Table 1's rows."""
    table = TABLES[0]
    with style.house_style():
        fig, ax = style.figure(style.COLUMN, 2.5)
        for row in table.rows:
            records = tables.results_of(row)
            if not records:
                continue
            values = list(tables.accuracies(records).values())
            cost = next(iter(records.values()))["multiply_adds"] / 1e6
            colour = style.METHOD["dense" if row.model == "micro_deit" else "stvit"]
            ax.plot([cost] * len(values), values, "o", color=colour, alpha=0.5, ms=3)
            ax.plot(cost, sum(values) / len(values), "_", color=colour, ms=12, mew=1.6)
            ax.annotate(
                row.name,
                (cost, sum(values) / len(values)),
                xytext=(6, -3),
                textcoords="offset points",
                fontsize=7,
            )
        ax.set(xlabel="multiply-adds (10⁶)", ylabel="top-1 (%)")
        ax.margins(x=0.2)
    return fig


def plot_scenes(count: int = 10):
    """The first test scenes above their instance masks."""
    import matplotlib.pyplot as plt
    import torch
    from matplotlib.colors import ListedColormap

    from stvit.data.scenes import CLASSES, SceneConfig, draw_scenes

    scenes = draw_scenes(SceneConfig(), torch.arange(count), "test")
    colours = ListedColormap(["white", *style.CYCLE[:6]])
    with style.house_style():
        fig, axes = plt.subplots(2, count, figsize=(style.PAGE, 1.75), layout="constrained")
        for i, (above, below) in enumerate(axes.T):
            above.imshow(scenes.images[i].permute(1, 2, 0).numpy())
            below.imshow(scenes.instances[i].numpy(), cmap=colours, vmin=0, vmax=6, interpolation="nearest")
            above.set_title(CLASSES[scenes.labels[i]], fontsize=6)
            for ax in (above, below):
                ax.set(xticks=[], yticks=[])
                ax.grid(False)
    return fig
