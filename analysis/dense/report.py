"""``results/dense``: tables and verdicts from the records, what heads cost, pictures from shipped models."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.dense import claims, cost, detection, segmentation, shipped, tables
from analysis.dense.cells import CELLS, SEEDS
from analysis.dense.step import STEP_RECORDS
from analysis.results import Report
from analysis.shared import records, strips, twins

EXPLAINED = (
    "Mean and spread (sd) over seeds in per cent; difference: paired by seed to the first row, with half the width of "
    "its 95 % interval; pooled: the same with the spread of all complete rows taken as one; backbone_mflops: counted "
    "multiply-adds of the backbone at 64 × 64 pixels, 10⁶; printed: the paper's, at another size and on photographs."
)
CAPTIONS = {
    "detection": "AP of boxes and of masks (COCO's, over overlaps of 0.5 to 0.95); small, medium and large are thirds "
    "of the range of the scenes' radii, since all their objects are small by COCO's measure.",
    "segmentation": "mIoU over the ground and twelve classes, from one view; recall: the part of the pixels of small, "
    "medium and large objects whose class is told.",
}


def derived(folder: Path = CELLS) -> dict[str, tuple[pd.DataFrame, str]]:
    """Each derived table and its caption, from the records in ``folder`` alone; twin rows are refused."""
    for section in tables.SECTIONS:
        records = tables.results_of(section, folder=folder)
        scores = {row: tables.values(own, tables.scored(section.headline)) for row, own in records.items()}
        twins.refuse([(section.task, scores)])
    found = {
        "conclusions": (
            claims.verdicts(folder=folder),
            "The paper's conclusions on these cells; a verdict needs three seeds. Evidence: the mean of the paired "
            "differences ± half the width of its 95 % interval over seeds, in points.",
        )
    }
    for section in tables.SECTIONS:
        caption = f"{section.title}. {EXPLAINED} {CAPTIONS[section.task]}"
        found[section.task] = tables.tabulate(section, folder=folder), caption
    found["progress"] = tables.progress(folder=folder), "Finished cells. What is not finished was not run."
    return found


def steps(folder: Path = STEP_RECORDS) -> pd.DataFrame:
    """What ``python -m analysis.dense step`` recorded."""
    return pd.DataFrame(
        {
            "task": r["task"],
            "image": f"{r['size'][0]} × {r['size'][1]}",
            "device": r["device"],
            "parameters": r["parameters"],
            "without_gradient": len(r["without_gradient"]),
            "loss": r["loss"],
            "memory_gib": r["memory_gib"],
        }
        for r in records.read_all(folder).values()
    )


def introduction() -> str:
    return (
        "Dense tasks on scenes of 64 × 64 pixels: Cascade Mask R-CNN and UperNet over a micro Swin and micro STViT-Rs "
        f"of the same width and depth, {len(SEEDS)} seeds a row, trained from scratch on "
        f"{segmentation.TRAINING['train_images']:,} scenes ({segmentation.TRAINING['epochs']} passes; detection "
        f"{detection.TRAINING['train_images']:,} and {detection.TRAINING['epochs']}). The paper trains on COCO and "
        "ADE20K from backbones that know ImageNet; its figures stand beside ours to compare signs and orders, not "
        "sizes. The same command line trains on folders in those layouts: "
        "`python -m stvit.train --task segment --data FOLDER`, `--task detect`."
    )


def heads(frame: pd.DataFrame) -> str:
    small, base = (frame[frame.model == f"UperNet, STViT-R-Swin-{size}"].iloc[0] for size in "SB")
    whole, backbone = (
        f"{small[f'{part}_saved_pct']:.1f} % (S) and {base[f'{part}_saved_pct']:.1f} % (B)"
        for part in ("whole", "backbone")
    )
    return (
        f"Table 12 counts backbones alone. UperNet's head at 512 × 512 costs {small['head']:.0f} G multiply-adds: of "
        f"the whole model STViT-R saves {whole} where it saves {backbone} of the backbone. "
        "Time at 512 × 512 and 800 × 1333 is measured by `python -m analysis.throughput --dense`."
    )


def write(out: Path | None = None) -> int:
    made_from = [*records.kept(CELLS, out), *records.files(STEP_RECORDS)]
    config = {
        "segmentation": segmentation.TRAINING, "detection": detection.TRAINING, "seeds": list(SEEDS),
        "heads": segmentation.HEAD_OPTIONS,
    }  # fmt: skip
    with Report(
        "dense", "Detection and segmentation on scenes", "python -m analysis.dense --report",
        config=config, inputs=[*made_from, cost.FLOPS_CELLS], out=out,
    ) as report:  # fmt: skip
        report.prose(introduction())
        if figure := seeds():
            alt = "Dots for the seeds of each row of both tasks, with the mean and its interval"
            report.figure("seeds", figure, f"AP of boxes and mIoU. {strips.CAPTION}", alt)
        for name, (frame, caption) in derived().items():
            report.table(name, frame, caption)
        report.heading("What the heads cost")
        whole = cost.table()
        report.prose(heads(whole))
        report.table(
            "heads", whole, "Multiply-adds at 512 × 512, 10⁹: printed and counted backbones, with the head."
        )
        steps_table(report)
        pictures(report)
    return 0


def seeds(folder: Path = CELLS):
    """Both headline scores of every row, seed by seed; None while there are none."""
    panels = {}
    for section in tables.SECTIONS:
        score = tables.scored(section.headline)
        found = tables.results_of(section, folder=folder)
        panels[section.title] = {row: tables.values(records, score) for row, records in found.items()}
    return strips.plot_seeds(panels, "AP or mIoU (%)")


def steps_table(report: Report) -> None:
    frame = steps()
    if len(frame):
        report.heading("One step of a whole model")
        report.table(
            "steps",
            frame,
            "Forward, loss and backward on one image, STViT-R-Swin-S with 150 classes (segment) or 80 (detect): "
            "parameters without gradient, and the highest memory of the process, in GiB.",
        )


def pictures(report: Report) -> None:
    """What shipped models see, and their scores again."""
    from analysis.dense import pictures as draw

    found = shipped.available()
    if not found:
        return
    report.heading("Shipped models")
    report.table(
        "shipped",
        shipped.reproduce(),
        "Models in results/dense/checkpoints, weights in 8 bits: the score on all test scenes as trained, "
        "and on the first ones as shipped, recorded and counted again now.",
    )
    names = {"segment_stvit_r": "STViT-R"}
    models = {title: shipped.open_shipped(name) for name, title in names.items() if name in found}
    if models:
        report.figure(
            "masks",
            draw.masks(models),
            "Test scenes, the class of each pixel, and what segmenters tell.",
            "Rows of scenes with coloured objects, their true classes and the classes that models tell",
        )
    if "detect_stvit_r" in found:
        report.figure(
            "detections",
            draw.detections(shipped.open_shipped("detect_stvit_r"), name="STViT-R"),
            f"True boxes, and what a detector on STViT-R finds with a score of {draw.SURE} or more.",
            "Two rows of scenes: true boxes above, detected boxes with masks below",
        )
