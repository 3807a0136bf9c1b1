"""``results/token_maps``: BAT's Figures 2 and 5, their like for every method, and the fate of tokens in numbers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.crops import middles
from analysis.images import normalised, scenes
from analysis.results import Report
from analysis.shared.models import Subject, open_model, real_or_none, weights_of
from analysis.token_maps import fates, figures, follow, real
from analysis.token_maps.subjects import DENSE, FIGURE_2, methods, off_the_shelf
from stvit.data.photographs import missing, shipped

SHOWN = (0, 5, 9, 12)  # scenes that are drawn
DEPTH = 6  # of the small models


def write(out: Path | None = None, images: int = 256) -> pd.DataFrame:
    """Measure and draw everything; returns the table of fates."""
    dense, subjects = open_model(DENSE), methods()
    compared = {name: off_the_shelf(name, dense) for name in FIGURE_2}
    table = pd.concat([fates(name, subject, images) for name, subject in subjects.items()], ignore_index=True)
    second = pd.concat(
        [fates(name, subject, images) for name, subject in compared.items()], ignore_index=True
    )
    untrained = sorted({f"{row.method} ({row.weights})" for row in table[~table.trained].itertuples()})
    config = dict(images=images, shown=list(SHOWN), untrained=untrained)
    command, inputs = "python -m analysis.token_maps --report", weights_of(*subjects.values(), dense)
    with Report("token_maps", "Token maps: what becomes of each patch", command, config, 0, inputs, out) as r:
        config["real"] = _real(r)
        r.heading("Small models on scenes")
        r.prose(introduction(untrained, images))
        r.table("claims", claims(table, second), "What BAT's captions say, in numbers.", digits=3)
        r.prose(f"{caption_2(second)} {caption_5(table)}")
        if "missing" in config["real"]:  # what the real model shows better
            _figures(r, compared, subjects, dense)
        r.table("fates", table, "Shares of patches by method and layer; means over all scenes.", digits=3)
        r.table("figure2_fates", second, "The same for the three of Figure 2.", digits=3)
    return table


def _figures(r: Report, compared: dict[str, Subject], subjects: dict[str, Subject], dense: Subject) -> None:
    r.figure("figure2", figure_2(compared, dense), "BAT's Figure 2: importance, diversity, both.", alt=ALT)
    r.figure("figure5", figure_5(subjects["BAT"]), "BAT's Figure 5: layer by layer.", alt=ALT)
    r.figure(
        "methods",
        every_method(subjects),
        "One scene, the state behind each layer. Kept patches look as they are, merged ones take their group's "
        "colour, dropped ones fade; two patches that merged are joined by a line. Semantic tokens take the patches "
        "that they look at more than any other does.",
        alt="A grid of token maps, methods in rows and layers in columns",
    )


def _real(r: Report) -> dict:
    """The real model first; without its weights a line says what is missing."""
    subject, reason = real_or_none()
    found = [one for one in shipped() if one.name in real.SHOWN] or shipped()[:3]
    if subject is None or not found:
        lacking = reason or f"photographs are missing: {', '.join(missing())}"
        r.prose(f"**The figures of a real model are not here: {lacking}.**")
        return {"missing": lacking}
    real.write(r, subject, middles(found, subject.size[0]))
    return {"weights": subject.found, "photographs": [one.name for one in found]}


ALT = "Scenes with patches left as they are, coloured by the group they merged into, or faded where dropped"


def introduction(untrained: list[str], images: int) -> str:
    text = (
        "Every reduction of this project reports one assignment: which patch went into which token. Composed over "
        "layers and drawn back on the image it shows what is left to compute with, method by method, and against the "
        f"scenes' object masks it can be measured (here over {images} test scenes): what is kept where it matters, and "
        "whether merged patches belong together."
    )
    if untrained:
        text += f" **With untrained parts, and no evidence for anything: {', '.join(untrained)}.**"
    return text


def claims(table: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """BAT's captions and text, each beside its number; the last reduction of each method."""
    first, last = (table.groupby("method", sort=False).nth(n).set_index("method") for n in (0, -1))
    two = second.groupby("method", sort=False).last()
    early = first.loc["BAT"]
    bat, evit = last.loc["BAT"], last.loc["EViT"]
    rows = [
        ("5", "attends to what matters, not to background", "BAT", "patches kept: marked object, elsewhere",
         bat.kept_marked, bat.kept_elsewhere, bat.trained),
        ("5", "clusters hold patches of like semantics", "BAT", "purity of merged tokens, groups at random",
         bat.purity, bat.purity_chance, bat.trained),
        ("5", "pairs are homogeneous", "BAT", "pairs of one object after the first reduction, at random",
         early.pairs_alike, early.pairs_alike_chance, bat.trained),
        ("2", "importance masks the background", "top-k", "patches dropped: elsewhere, marked object",
         two.dropped_elsewhere["top-k"], two.dropped_marked["top-k"], two.trained["top-k"]),
        ("2", "diversity alone keeps no representative patches", "clusters only",
         "patches of the marked object kept: BAT, clusters only",
         two.kept_marked["BAT"], two.kept_marked["clusters only"], two.trained["BAT"]),
        ("text", "several clusters hold meaning better than one fused token", "BAT, EViT",
         "purity of merged tokens: BAT, EViT", bat.purity, evit.purity, bat.trained and evit.trained),
    ]  # fmt: skip
    names = ["figure", "claim", "method", "measure", "value", "beside", "trained"]
    frame = pd.DataFrame(rows, columns=names)
    holds = (frame.value - frame.beside).map(
        lambda d: "yes" if d > 0.01 else "reversed" if d < -0.01 else "no"
    )
    return frame.assign(holds_here=holds.where(frame.trained.astype(bool), "untrained")).drop(
        columns="trained"
    )


def pictures(subject: Subject):
    batch = scenes(max(SHOWN) + 1, subject.size[0])
    shown = batch.images[list(SHOWN)].permute(0, 2, 3, 1).numpy()
    return shown, normalised(shown, subject.model)


def states(stages, image: int, columns: int) -> list:
    """What ``figures.rows`` draws: the tokens after each layer 1 … ``columns``."""
    count = stages[0].labels.shape[1]
    by_layer, found, current = {stage.layer: stage for stage in stages}, [], None
    for layer in range(1, columns + 1):
        current = by_layer.get(layer, current)
        labels = range(count) if current is None else current.labels[image]
        tokens = count if current is None else current.tokens
        found.append((labels, stages[0].grid, f"{tokens} tokens"))
    return found


def figure_2(compared: dict[str, Subject], dense: Subject):
    shown, images = pictures(dense)
    last = [follow(subject.model, images)[-1] for subject in compared.values()]
    drawn = [[(s.labels[i], s.grid, f"{s.tokens} tokens") for s in last] for i in range(len(shown))]
    titles = ["image", "importance\n(top-k)", "diversity\n(clusters only)", "BAT"]
    return figures.rows(shown, drawn, titles, f"{dense.label}: reductions off the shelf, not trained again")


def caption_2(second: pd.DataFrame) -> str:
    two = second.groupby("method").last()
    said = ", ".join(
        f"{name} {two.kept_marked[name]:.0%} and {two.kept_elsewhere[name]:.0%}" for name in FIGURE_2
    )
    return (
        "BAT's Figure 2 at one keep rate (0.6 in three layers), put into the dense model without training. Patches of "
        f"the marked object and elsewhere that keep a token to themselves: {said}."
    )


def figure_5(subject: Subject):
    shown, images = pictures(subject)
    stages = follow(subject.model, images)
    drawn = [
        [(stage.labels[i], stage.grid, f"{stage.tokens} tokens") for stage in stages]
        for i in range(len(shown))
    ]
    titles = ["image", *(f"behind layer {stage.layer}" for stage in stages)]
    return figures.rows(shown, drawn, titles, f"{subject.label}: BAT")


def caption_5(table: pd.DataFrame) -> str:
    rows = table[table.method == "BAT"]
    first, last = rows.iloc[0], rows.iloc[-1]
    return (
        f"BAT's Figure 5. In the end {last.kept_marked:.0%} of the marked object's patches and "
        f"{last.kept_elsewhere:.0%} of the others keep a token to themselves; {last.purity:.0%} of merged patches are "
        f"with their own kind (groups of the same sizes at random: {last.purity_chance:.0%}). After the first "
        f"reduction an image has {first.pairs:.1f} tokens of two patches; {first.pairs_alike:.0%} of these are of "
        f"one object or of the ground (at random {first.pairs_alike_chance:.0%})."
    )


def every_method(subjects: dict[str, Subject], image: int = 1):
    drawn, names, soft, photos = [], [], [], []
    for row, (name, subject) in enumerate(subjects.items()):
        shown, images = pictures(subject)
        drawn.append(states(follow(subject.model, images), image, DEPTH))
        photos.append(shown[image])
        where = "trained" if "shelf" not in subject.name else "off the shelf"
        names.append(f"{name}\n({where if subject.trained else 'untrained'})")
        if hasattr(subject.model, "stgm"):
            soft.append(row)
    titles = ["image", *(f"layer {i + 1}" for i in range(DEPTH))]
    return figures.rows(photos, drawn, titles, "What is left of the tokens behind each layer", names, soft)
