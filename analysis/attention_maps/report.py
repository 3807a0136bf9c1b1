"""``results/attention_maps``: Figures 1, 3 and 4 from the checkpoints at hand, and the captions in numbers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.attention_maps import figures, layers, look, measure, real, semantic, student, swin
from analysis.attention_maps.capture import capture, class_attention, image_relevance
from analysis.attention_maps.claims import BOTH, DENSE, FAMILY, GLOBAL, SPARSE, SWIN_MODEL, claims
from analysis.crops import middles
from analysis.images import normalised, scenes
from analysis.results import Report
from analysis.shared.models import Subject, available, open_model, weights_of

SHOWN = (0, 5, 9)  # scenes that are drawn


def write(out: Path | None = None, images: int = 256, crops: int = real.CROPS):
    """Measure and draw everything; returns the claims of the real model, None without it, and of the small ones."""
    family = [name for name in FAMILY if name in (SPARSE, BOTH, GLOBAL) or name in available()]
    subjects = {name: open_model(name) for name in (DENSE, *family)}
    by_layer = layers(subjects[DENSE], images)
    stgm = pd.concat([semantic(subjects[name], images) for name in family], ignore_index=True)
    swin_subject, window_maps, pictured = _swin(images)
    table = claims(by_layer, stgm, window_maps)
    config = dict(
        images=images, shown=list(SHOWN), untrained=[s.name for s in subjects.values() if not s.trained]
    )
    command = "python -m analysis.attention_maps --report"
    inputs = weights_of(*subjects.values())
    title = "Attention maps: who looks at whom"
    with Report("attention_maps", title, command, config, 0, inputs, out) as r:
        config["real"], judged = _real(r, crops)
        lacking = "missing" in config["real"]
        r.heading("Small models on scenes: semantic tokens of models trained from scratch")
        r.prose(introduction(config["untrained"], images))
        r.prose(findings(by_layer, stgm))
        r.table(
            "claims",
            table,
            "The captions in numbers. A claim holds here if the value passes what stands beside it by the margin.",
            digits=3,
        )
        if lacking:  # what the real model shows better
            _figure_1(r, subjects[DENSE], by_layer)
            _figures_3_and_4(r, subjects[SPARSE], stgm)
            _figure_4d(r, subjects[BOTH], subjects[GLOBAL], stgm)
        _rollouts(r, [subjects[DENSE], *(subjects[name] for name in family if name != GLOBAL)])
        r.heading("Semantic windows of a Swin")
        r.figure(
            "windows",
            swin.draw(
                window_maps, pictured, f"{swin_subject.label}: the semantic tokens of the first window"
            ),
            f"The first STGM layer of stage 3: the tokens pooled from a window (orange) look at its neighbourhood "
            f"(blue). Over {images} scenes {window_maps.outside_share():.0%} of their attention leaves the window; an "
            f"even map's would be {window_maps.outside_even():.0%}.",
            alt="A scene with a window and its larger key window, and attention maps confined to it",
        )
        r.heading("All measures")
        r.table("layers", by_layer, "The dense model, layer by layer.")
        r.table("semantic", stgm, "The STGM and the layers behind it, for each checkpoint.")
    return judged, table


def _real(r: Report, count: int) -> tuple[dict, pd.DataFrame | None]:
    """The real model first; without its weights a line says what is missing. What the record says of it, and claims."""
    subject, crops, lacking = real.at_hand(count)
    if subject is None:
        r.prose(f"**The figures of a real model are not here: {lacking}.**")
        return {"missing": lacking}, None
    shown = [one for one in crops.photographs if one.name in real.SHOWN] or crops.photographs[:3]
    judged = [real.write(r, subject, crops, middles(shown, subject.size[0])), student.write(r, count)]
    judged = pd.concat(judged, ignore_index=True)
    return {"weights": subject.found, "crops": count, "photographs": crops.record()}, judged


def introduction(untrained: list[str], images: int) -> str:
    text = (
        "The papers' pictures of attention, drawn from this project's small models on scenes of 48 × 48 pixels in "
        f"8 × 8 tokens, and what their captions claim measured over {images} test scenes. Each map is scaled to its "
        "own largest value. Six layers stand for the papers' twelve: whether a habit of DeiT-S on ImageNet shows here "
        "is a question these tables answer for these models alone, each from one training (seed 0)."
    )
    if untrained:
        text += f" **Not trained yet, and no evidence for anything: {', '.join(untrained)}.**"
    return text


def findings(by_layer: pd.DataFrame, stgm: pd.DataFrame) -> str:
    """What a reader should take away, from the tables."""
    own = stgm[(stgm.model == SPARSE) & (stgm.kind == "image")].iloc[1]
    two, four = (stgm[(stgm.model == name) & (stgm.kind == "semantic")].iloc[0] for name in (SPARSE, BOTH))
    if not (by_layer.trained.all() and own.trained and four.trained):
        return "There are no findings while the models are untrained."
    return (
        f"**What comes out.** Vertical lines: the top 5% of columns hold {by_layer.top_columns.iloc[0]:.0%} of the "
        f"attention in the first layer, {by_layer.top_columns.iloc[-1]:.0%} in the last. Locality: with 16 semantic "
        f"tokens {own.window_share:.0%} of a map lies in its own window ({own.window_even:.0%} of an even map) and "
        f"{own.on_marked:.0%} on the one object that the task asks for ({own.on_marked_even:.0%}). A fixed global "
        f"token: the most frequent winner wins in {two.agree:.0%} of the images (chance {two.chance:.0%}). The token "
        f"whose window holds most of that object wins in {two.follows_marked:.0%} with 16 tokens (chance "
        f"{two.follows_chance:.0%}), in {four.follows_marked:.0%} with 4 (chance {four.follows_chance:.0%}): "
        "what is looked at depends on the image. The task has one relevant object in each scene, where ImageNet's "
        "pictures have many parts; that may be why."
    )


def _figure_1(r: Report, subject: Subject, by_layer: pd.DataFrame) -> None:
    batch, maps = look(subject, max(SHOWN) + 1)
    photos = [batch.images[i].permute(1, 2, 0).numpy() for i in SHOWN]
    cls = class_attention(maps)[list(SHOWN)]
    last = by_layer.iloc[-1]
    r.heading("Figure 1: the dense model")
    r.figure(
        "figure1_left",
        figures.by_layer(photos, cls, maps.grid, f"{subject.label}: what the class token looks at"),
        "Figure 1, left. Class attention by layer, mean over heads. Layer 1's ranking correlates with the last "
        f"layer's by {by_layer.class_rank_correlation_last.iloc[0]:.2f}, that of the layer before the last by "
        f"{by_layer.class_rank_correlation_last.iloc[-2]:.2f}.",
        alt="Three scenes and, beside each, heat maps of class attention for every layer",
    )
    shown = [layer[SHOWN[0] : SHOWN[0] + 1] for layer in maps.base]
    r.figure(
        "figure1_right",
        figures.whole_maps(
            shown, f"{subject.label}: 65 tokens (class token first), rows look at columns", by_layer
        ),
        f"Figure 1, right. Whole maps of the first scene; bars are means over all. In the last layer the top 5% of "
        f"columns hold {last.top_columns:.0%} of the attention ({last.top_columns_even:.0%} if it were even), in the "
        f"first {by_layer.top_columns.iloc[0]:.0%}.",
        alt="Square attention maps of each layer and a bar chart of the share of attention in the top columns",
    )


def _figures_3_and_4(r: Report, subject: Subject, stgm: pd.DataFrame) -> None:
    batch, maps = look(subject)
    first = len(maps.base) + 1
    outlines = measure.windows(maps.grid, maps.semantic_grid)
    photos = [batch.images[i].permute(1, 2, 0).numpy() for i in SHOWN[:2]]
    own = stgm[stgm.model == subject.name]
    one, two = (own[own.part == f"layer {first + i}, STGM"].iloc[0] for i in (0, 1))
    r.heading("Figures 3 and 4: the semantic tokens")
    for name, i, text in (
        ("figure3", 0, f"Figure 3. First layer of the STGM. {one.window_share:.0%} of a map lies in its own window "
         f"(outlined; {one.window_even:.0%} of an even map), its centroid {one.distance:.2f} tokens from the window's "
         f"centre ({one.distance_other:.2f} from those of other windows)."),
        ("figure4b", 1, f"Figure 4b. Second layer, its image part. {two.window_share:.0%} of a map lies in its own "
         f"window; {two.on_marked:.0%} on the marked object, whose class is asked for ({one.on_marked:.0%} in the "
         f"first layer, {two.on_marked_even:.0%} for an even map)."),
    ):  # fmt: skip
        shown = [maps.to_image[i].mean(1)[n] for n in SHOWN[:2]]
        labels = [f"{subject.label}: layer {first + i}, scene {n}" for n in SHOWN[:2]]
        drawing = figures.semantic_maps(photos, shown, maps.grid, outlines, labels)
        r.figure(name, drawing, text, alt="Scenes and one heat map over each for every semantic token")
    r.figure(
        "figure4a",
        figures.second_layer(
            maps.to_semantic[0][0].mean(0),
            maps.to_image[1][0].mean(0),
            f"{subject.label}: layer {first + 1}, scene 0",
        ),
        f"Figure 4a. Token {two.global_token:.0f} looks at semantic tokens most in {two.agree:.0%} of the images "
        f"(by chance {two.chance:.0%}), with {two.mass:.0%} of its attention; the others spend {two.mass_others:.0%}. "
        f"Even attention would spend {two.even:.0%}.",
        alt="A wide attention map: rows are semantic tokens, columns semantic and image tokens",
    )
    votes = {"as row, layer 4 (4a)": _votes(maps.to_semantic[0].mean(1).sum(-1))}
    for i, layer in enumerate(maps.after):
        votes[f"as column, layer {first + 2 + i}"] = _votes(layer.mean((1, 2)))
    later = own[own.kind == "semantic"]
    said = "; ".join(
        f"{row.part}: token {row.global_token:.0f} in {row.agree:.0%} of the images, by chance {row.chance:.0%}; the "
        f"one whose window has most of the marked object in {row.follows_marked:.0%}, chance {row.follows_chance:.0%}"
        for row in later.itertuples()
    )
    r.figure(
        "figure4c",
        figures.after_stgm(
            maps.after, votes, first + 2, f"{subject.label}: the layers behind the STGM, mean map"
        ),
        f"Figure 4c. The token that the others look at most: {said}.",
        alt="Attention maps among semantic tokens, and bars of how often each token is the most looked at",
    )


def _rollouts(r: Report, subjects: list[Subject]) -> None:
    import torch

    batch, _ = look(subjects[0], max(SHOWN) + 1)
    pictures = batch.images[list(SHOWN)].permute(0, 2, 3, 1).numpy()
    found = [capture(s.model, normalised(pictures, s.model)) for s in subjects]
    maps = torch.stack([image_relevance(one) for one in found], dim=1)  # (B, models, N)
    covered = measure.owners(batch.instances[list(SHOWN)], found[0].grid, batch.classes.shape[1] + 1)
    marked = [measure.on_objects(maps[:, i : i + 1], covered)["on_marked"] for i in range(len(subjects))]
    r.figure(
        "rollout",
        figures.by_layer(pictures, maps, found[0].grid, "attention through all layers",
                         titles=[s.label.replace(", ", "\n").replace("micro_", "") for s in subjects]),
        "Attention rollout (each layer's map halved with its residual) from the output back to the image, in STViT "
        "through the semantic tokens. Share on the marked object in these scenes: "
        + ", ".join(f"{s.name} {share:.0%}" for s, share in zip(subjects, marked, strict=True)) + ".",
        alt="Scenes and the rollout of attention of several models over each",
    )  # fmt: skip


def _votes(mass) -> list[float]:
    import torch

    return (torch.bincount(mass.argmax(1), minlength=mass.shape[1]) / len(mass)).tolist()


def _figure_4d(r: Report, both: Subject, alone: Subject, stgm: pd.DataFrame) -> None:
    batch = scenes(max(SHOWN) + 1, both.size[0])
    pictures = batch.images[list(SHOWN[:2])].permute(0, 2, 3, 1).numpy()
    found = [capture(s.model, normalised(pictures, s.model)) for s in (both, alone)]
    maps = [one.to_image[0].mean(1)[i] for i in range(len(pictures)) for one in found]
    first = len(found[0].base) + 1
    labels = [f"{s.label}: layer {first}" for _ in pictures for s in (both, alone)]
    outlines = measure.windows(found[0].grid, found[0].semantic_grid)
    shown = [picture for picture in pictures for _ in found]
    pair = stgm[stgm.model.isin([both.name, alone.name]) & stgm.part.str.endswith("STGM")]
    table = pair.set_index(["model", "part"])
    start = f"layer {first}, STGM"
    r.figure(
        "figure4d",
        figures.semantic_maps(shown, maps, found[0].grid, outlines, labels),
        "Figure 4d. Spatial and global initialization, and global alone, at 4 semantic tokens.",
        alt="Heat maps of four semantic tokens of two models",
    )
    r.figure(
        "figure4d_overlap",
        figures.overlaps(pair),
        f"In layer {first} two tokens' maps overlap by {table.row_overlap[alone.name, start]:.0%} with global "
        f"initialization alone, by {table.row_overlap[both.name, start]:.0%} with both.",
        alt="Bars: overlap of maps and share of maps in their own window, for two models and two layers",
    )


def _swin(count: int):
    """The Swin, the maps of its first STGM layer for test scenes, and the first of these."""
    subject = open_model(SWIN_MODEL)
    pictures = scenes(count, subject.size[0]).images.permute(0, 2, 3, 1).numpy()  # (B, H, W, 3)
    return subject, swin.capture_windows(subject.model, normalised(pictures, subject.model)), pictures[0]
