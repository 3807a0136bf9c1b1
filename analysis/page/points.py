"""What each section found, in a sentence or two: the numbers are read from the section's tables.

A point says what was claimed and what came out, so that it stays true when the tables change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

Read = Callable[[str], "pd.DataFrame"]  # a table of the results by its place, such as "planes/claims"


@dataclass(frozen=True)
class Point:
    section: str
    block: str  # the table or figure that shows it
    say: Callable[[Read], str]  # Markdown
    leads: bool = False  # it is among the first lines of the page


def answers(results: Path, section: str | None = None) -> list[tuple[str, str]]:
    """Text and anchor of a section's points, or of those that lead the page; without its tables a point is left out."""
    import pandas as pd

    def read(place: str) -> pd.DataFrame:
        return pd.read_csv(results / f"{place}.csv")

    found = []
    for point in POINTS:
        if point.leads if section is None else point.section == section:
            try:
                found.append((point.say(read), f"{point.section}-{point.block}"))
            except FileNotFoundError:
                continue
    return found


ANSWERS = {"holds": "yes", "does not hold": "no", "cannot tell": "cannot be told", "reversed": "the reverse"}


def by_rate(table: pd.DataFrame, claim: str) -> str:
    """``Yes at keep rates 0.7 and 0.85, cannot be told at 0.3 and 0.5``."""
    rows = table[table.claim == claim].sort_values("keep_rate", ascending=False)
    parts = [
        f"{ANSWERS.get(verdict, verdict)} at {listed(sorted(of.keep_rate))}"
        for verdict, of in rows.groupby("verdict", sort=False)
    ]
    first, *others = [parts[0].replace(" at ", " at keep rate ", 1), *parts[1:]]
    return ", ".join([first[0].upper() + first[1:], *others])


def counted(verdicts: pd.Series) -> str:
    """``6 holds, 1 does not hold``, the most frequent first."""
    return ", ".join(f"{count} “{verdict}”" for verdict, count in verdicts.value_counts().items())


def listed(values) -> str:
    *most, last = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return f"{', '.join(most)} and {last}" if most else last


def value_of(table: pd.DataFrame, claim: str, rate: float) -> tuple[float, float]:
    """The two means that a claim compares at a keep rate."""
    row = table[(table.claim == claim) & (table.keep_rate == rate)].iloc[0]
    return row.value, row.beside


def costs(read: Read) -> str:
    cells, errata = read("complexity/cells"), read("complexity/errata")
    modelled = cells[cells.verdict != "not modelled"]
    right = modelled.verdict.str.startswith("reproduced").sum()
    return (
        f"**Do the printed FLOPs come out?** {right} of the {len(modelled)} printed figures that have a "
        f"closed form do, at the printed digit; formulas and tables have {len(errata)} errata."
    )


def gathered(read: Read) -> str:
    layers = read("overview/layers").set_index("part")
    dense, sparse = layers["DeiT-S"].sum() / 1e9, layers["STViT-DeiT-S"].sum() / 1e9
    return (
        f"**What do 16 semantic tokens in place of 196 patches save?** DeiT-S takes {sparse:.2f} instead of "
        f"{dense:.2f} G multiply-adds with them."
    )


def speed(read: Read) -> str:
    peers = read("throughput/peers").set_index("model")
    stvit, evit = (peers.loc[f"{name}_deit_small_patch16_224"] for name in ("stvit", "evit"))
    return (
        f"**Is the saving of FLOPs a saving of time?** On two cores of a CPU, at batch 32, STViT makes DeiT-S "
        f"{stvit.ratio:.2f} times as fast (FLOPs alone promise {stvit.limit:.2f}) and EViT {evit.ratio:.2f} times "
        f"(FLOPs: {evit.limit:.2f})."
    )


def merging(read: Read) -> str:
    claims, claim = read("offtheshelf/claims"), "ToMe is above BAT, at equal multiply-adds"
    tome, bat = value_of(claims, claim, 0.5)
    return (
        f"**In DINOv2-S without training, is ToMe nearer to the dense model than BAT, at equal multiply-adds?** "
        f"{by_rate(claims, claim)} (at 0.5 a centred cosine of {tome:.2f} beside {bat:.2f})."
    )


def above_evit(read: Read) -> str:
    return f"**Is BAT above EViT there** (BAT, Table 1)? {by_rate(read('offtheshelf/claims'), 'BAT is above EViT')}."


def above_chance(read: Read) -> str:
    claims = read("offtheshelf/claims")
    claim = "class attention tells which tokens matter: top-k is above random"
    kept, chance = value_of(claims, claim, 0.5)
    return (
        f"**Does class attention tell which tokens matter?** {by_rate(claims, claim)} "
        f"(photographs; at 0.5 a centred cosine of {kept:.2f} beside {chance:.2f} for tokens kept at random)."
    )


def vertical_lines(read: Read) -> str:
    claims = read("attention_maps/real_claims").set_index("claim")
    first = claims.loc["more so than in the first layer"]
    shares = 100 * read("attention_maps/real_layers").top_columns
    return (
        f"**Are vertical lines of attention a thing of the deep layers** (STViT, Figure 1)? Beside "
        f"the first layer: {ANSWERS.get(first.verdict, first.verdict)}. The top 5 % of columns hold "
        f"{shares.iloc[0]:.0f} % of the attention in layer 1 and {shares.iloc[-1]:.0f} % in layer {len(shares)}."
    )


def semantic_tokens(read: Read) -> str:
    claims = read("attention_maps/student_claims")
    own, one = (
        claims[claims.claim.str.startswith(words)].iloc[0] for words in ("a semantic token", "most look at")
    )
    value = read("attention_maps/student_means").set_index("measure").iloc[:, 0]
    shares = value[value.index.str.contains("own window|even map")]
    return (
        f"**Does each semantic token gather what is near its window** (STViT, Figure 3)? In a real model, distilled: "
        f"{ANSWERS.get(own.verdict, own.verdict)}, {100 * shares.iloc[0]:.0f} % of a map lies there, of an even map "
        f"{100 * shares.iloc[1]:.0f} %. **Do most look at one of them, in nearly all images** (Figure 4c)? "
        f"{'No more than by chance' if one.verdict == 'no difference' else ANSWERS[one.verdict].capitalize()}."
    )


def diverse(read: Read) -> str:
    said = by_rate(read("token_maps/real_claims"), "BAT's tokens are more diverse than EViT's (Eq. 4)")
    return f"**Are BAT's tokens more diverse than EViT's** (BAT, Figure 4)? {said}."


def kept_salient(read: Read) -> str:
    claims = read("token_maps/real_claims")
    claim = next(name for name in claims.claim if name.startswith("BAT keeps the discriminative patches"))
    return f"**Does BAT keep the patches that stand out** (BAT, Figures 2 and 5)? {by_rate(claims, claim)}."


def together(read: Read) -> str:
    table = read("conclusions/conclusions")
    return (
        f"**What do the papers' ablations conclude that can be seen here?** Of {len(table)} conclusions, over all "
        f"sources: {counted(table.together)}."
    )


def distilled(read: Read) -> str:
    table = read("distilled/conclusions").set_index("conclusion")
    verdict = table.verdict["STViT loses less than the other methods at like FLOPs"]
    return (
        f"**In students distilled from DINOv2-S, does STViT lose less than others at like FLOPs** (STViT, Table 4)? "
        f"{ANSWERS.get(verdict, verdict).capitalize()}. Of {len(table)} conclusions: {counted(table.verdict)}."
    )


def probed(read: Read) -> str:
    top1 = read("distilled/probes").set_index("model").top1
    few, evit, bat = (
        top1[name] for name in ("stvit_dinov2_small_16", "evit_dinov2_small_47", "bat_dinov2_small_47")
    )
    return (
        "**What do the students' features know of classes that they never learned?** A linear probe on Fashion-MNIST "
        f"names {few:.1f} % rightly from STViT's 16 tokens, {top1['dense']:.1f} % from the dense model, and at STViT's "
        f"multiply-adds {evit:.1f} % from EViT, {bat:.1f} % from BAT."
    )


def real_labels(read: Read) -> str:
    tokens, table = read("real_labels/stvit_table1").set_index("row"), read("real_labels/conclusions")
    dense, fewest = tokens.iloc[0], tokens.iloc[1]
    return (
        f"**On real labels, what do the fewest semantic tokens cost** (STViT, Table 1: nothing)? Trained from scratch "
        f"on Fashion-MNIST, {fewest.name} of 49 have {fewest.top1:.1f} % and the dense model {dense.top1:.1f} % "
        f"(difference {fewest.difference:+.2f} ± {fewest.half_width:.2f}, {fewest.seeds:.0f} seeds). Of "
        f"{len(table)} conclusions: {counted(table.verdict)}."
    )


def recovery(read: Read) -> str:
    slopes, errata = read("cluster_sim/slopes"), read("cluster_sim/errata")
    grid = read("cluster_sim/grid").set_index("regime").loc["Gaussian"]
    return (
        f"**How fast does one attention step find cluster centers** (STViT, Theorem 1)? The error falls with slope "
        f"{slopes.iloc[0, 1]:.2f} where the paper's bound has 1. A corrected formula is within "
        f"{100 * grid['worst |ratio − 1|']:.1f} % of simulation in {grid.settings} settings of small variance; the "
        f"proof has {len(errata)} errata."
    )


def scenes(read: Read) -> str:
    table = read("ablations/conclusions")
    return (
        f"**What do small models trained on drawn scenes tell?** Once all comparisons are paid for, of {len(table)} "
        f"conclusions: {counted(table.corrected)}."
    )


def dense_tasks(read: Read) -> str:
    heads, table = read("dense/heads"), read("dense/conclusions")
    saved = heads[heads.whole_saved_pct > 0]
    return (
        f"**How much of a whole dense model does STViT-R save?** With UperNet's head "
        f"{listed(f'{value:.0f} %' for value in saved.backbone_saved_pct)} of the backbone and "
        f"{listed(f'{value:.0f} %' for value in saved.whole_saved_pct)} of the model. Of {len(table)} conclusions on "
        f"small scenes: {counted(table.verdict)}."
    )


def printed_planes(read: Read) -> str:
    printed = read("planes/printed")
    return (
        f"**Do the printed points agree with each other?** {printed.contradiction.notna().sum()} of {len(printed)} "
        f"contradict another printed number."
    )


def overhead(read: Read) -> str:
    rows = read("overhead/overhead").set_index("method")["overhead %"]
    said = listed(f"{name} {value:.1f} %" for name, value in rows.items())
    return f"**What choosing tokens costs**, of the time of the layers it is put into: {said}."


def tricks(read: Read) -> str:
    table = read("tricks/tricks")
    left_out = table[table.change.str.startswith(("without", "with projected"))]
    return (
        f"**Which short cuts of inference pay?** Leaving one out was measured {len(left_out)} times: the model is "
        f"slower beyond the quartiles {(left_out.q1 > 100).sum()} times, and faster {(left_out.q3 < 100).sum()} times."
    )


def video(read: Read) -> str:
    printed, trained = read("video/table6"), read("video/trained")
    last = trained[trained.passes == trained.passes.max()].set_index("model")
    said = listed(f"{name} {row.top1:.0f} % (± {row.sd:.0f})" for name, row in last.iterrows())
    return (
        f"**Video:** {printed.at_the_printed_digit.sum()} of {len(printed)} FLOPs of STViT's Table 6 come out. On "
        f"small moving scenes, after most training, top-1: {said}."
    )


def variable_counts(read: Read) -> str:
    table = read("variable_counts/ways")
    padded = [100 * table[f"{way}, s"] / table["padded, s"] for way in ("packed", "nested")]
    packed, nested = (f"{shares.min():.0f} to {shares.max():.0f} %" for shares in padded)
    return (
        f"**When images keep different numbers of tokens, what is better than padding?** Of the padded batch's time, "
        f"packing takes {packed} and nested tensors take {nested}, over {len(table)} settings."
    )


def int8(read: Read) -> str:
    table = read("int8/int8")
    dense = table[(table.model == "dense") & (table.precision == "int8")].iloc[0]
    both = table[table.of_product.notna()]
    said = listed(
        f"{row.model} {row.ratio:.2f} ({row.of_product:.0%} of the product)" for row in both.itertuples()
    )
    return (
        f"**Do savings of fewer tokens and of 8 bits multiply?** 8 bits alone make the real model {dense.ratio:.2f} "
        f"times as fast; with fewer tokens: {said}."
    )


POINTS = (
    Point("overview", "layers", gathered, leads=True),
    Point("complexity", "cells", costs, leads=True),
    Point("throughput", "speed_up-figure", speed, leads=True),
    Point("offtheshelf", "claims", merging, leads=True),
    Point("offtheshelf", "claims", above_evit, leads=True),
    Point("offtheshelf", "claims", above_chance),
    Point("attention_maps", "real_claims", vertical_lines, leads=True),
    Point("attention_maps", "student_claims", semantic_tokens),
    Point("token_maps", "real_claims", diverse, leads=True),
    Point("distilled", "conclusions", distilled, leads=True),
    Point("distilled", "probes", probed),
    Point("real_labels", "stvit_table1", real_labels, leads=True),
    Point("cluster_sim", "grid", recovery, leads=True),
    Point("conclusions", "conclusions", together),
    Point("diversity", "real_scores", diverse),
    Point("token_maps", "real_claims", kept_salient),
    Point("ablations", "conclusions", scenes),
    Point("dense", "heads", dense_tasks),
    Point("planes", "printed", printed_planes),
    Point("overhead", "overhead", overhead),
    Point("int8", "int8", int8),
    Point("tricks", "tricks", tricks),
    Point("video", "trained", video),
    Point("variable_counts", "ways", variable_counts),
)
