"""STViT's Figures 3 and 4 on a real model: DINOv2-S with 16 semantic tokens, distilled from it, on photographs.

Each measure is taken crop by crop; intervals and verdicts are over photographs, of which the student saw none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from analysis.attention_maps import figures, measure
from analysis.attention_maps.capture import Captured, capture
from analysis.attention_maps.real import SHOWN
from analysis.bootstrap import by_photograph, claim, draws
from analysis.crops import cut, middles
from analysis.images import normalised
from analysis.shared.models import REAL, Subject, open_pretrained
from analysis.shared.saliency import read_saliency, salient_patches
from stvit.data.photographs import shipped
from stvit.pretrained import distilled

if TYPE_CHECKING:
    import pandas as pd

    from analysis.crops import Crops
    from analysis.results import Report

STUDENT, ALONE, SIZE = "stvit_dinov2_small_16", "stvit_dinov2_small_16_global", 126
CROPS, BATCH, SALIENT = 200, 50, 0.2  # the share of an image's patches that are called salient
FIXED = 0.4  # above chance: "nearly all the images"
TEXTS = {
    "own_window": "share of a map in its own window, first STGM layer",
    "own_window_even": "the same of an even map",
    "apart": "patches that a map's middle is nearer to its own window than to others",
    "salient": "share of a map on salient patches, first STGM layer",
    "salient_later": "the same in the second",
    "overlap": "overlap of two tokens' maps, first STGM layer",
    "looks_inward": "is it the usual token that looks at semantic tokens most, second STGM layer (4a)",
    "looked_at": "is it the usual token that is looked at most, layers behind the STGM (4c)",
    "same": "is one token both",
}


class Found(NamedTuple):
    """Measures (crops,) each, and the tokens that are usual in Figures 4a and 4c, from 1."""

    values: dict[str, np.ndarray]
    inward: int
    looked_at: int
    chance: dict[str, float]


def measured(subject: Subject, crops: Crops, saliency: Tensor) -> Found:
    """saliency: (crops, N), True where a patch is salient"""
    parts, inward, looked_at = [], [], []
    for start in range(0, len(crops.images), BATCH):
        maps = capture(subject.model, normalised(crops.images[start : start + BATCH], subject.model))
        parts.append(of_maps(maps, saliency[start : start + BATCH]))
        inward.append(maps.to_semantic[0].mean(1).sum(-1))  # (B, M): what a row gives to semantic tokens
        looked_at.append(
            torch.stack([layer.mean((1, 2)) for layer in maps.after]).mean(0)
        )  # (B, M): by column
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    scores = {"looks_inward": torch.cat(inward), "looked_at": torch.cat(looked_at)}
    usual = {name: measure.agreement(found) for name, found in scores.items()}
    for name, found in scores.items():
        values[name] = (found.argmax(1) + 1 == usual[name]["token"]).float().numpy()
    winners = [found.argmax(1) for found in scores.values()]
    values["same"] = (winners[0] == winners[1]).float().numpy()
    chance = {name: one["chance"] for name, one in usual.items()}
    return Found(values, usual["looks_inward"]["token"], usual["looked_at"]["token"], chance)


def of_maps(maps: Captured, salient: Tensor) -> dict[str, np.ndarray]:
    """Of each crop; the maps' heads are averaged, and what they give to other than image tokens is left out."""
    one, two = (weights.mean(1) / weights.mean(1).sum(-1, keepdim=True) for weights in maps.to_image[:2])
    near = [measure.locality(rows[None], maps.grid, maps.semantic_grid) for rows in one]
    return {
        "own_window": np.array([place["window_share"] for place in near]),
        "own_window_even": np.array([place["window_even"] for place in near]),
        "apart": np.array([place["distance_other"] - place["distance"] for place in near]),
        "salient": (one @ salient.float()[..., None]).mean((1, 2)).numpy(),
        "salient_later": (two @ salient.float()[..., None]).mean((1, 2)).numpy(),
        "overlap": np.array([measure.row_overlap(rows[None]) for rows in one]),
    }


def salient(images: np.ndarray) -> Tensor:
    """(B, N): the fifth of an image's patches that the dense model's saliency head finds most salient."""
    import stvit

    dense = open_pretrained(REAL, SIZE)
    grid, prefix = dense.model.patch_embed.grid_size, dense.model.num_prefix_tokens
    parts = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    with torch.inference_mode():
        tokens = [dense.model.forward_features(normalised(part, dense.model))[:, prefix:] for part in parts]
    return salient_patches(read_saliency(stvit.saliency_head(), torch.cat(tokens), grid), grid, SALIENT)


def claims(found: Found, owner: np.ndarray, alone: Found | None = None) -> pd.DataFrame:
    """The captions; their margins are named here, before anything is measured.

    alone: of the student whose centers begin as learned vectors only, global initialization
    """
    import pandas as pd

    mean = {name: by_photograph(values, owner) for name, values in found.values.items()}
    rows = [
        ("3", "a semantic token looks at its own window, more than an even map does",
         "share in the own window − an even map's", mean["own_window"] - mean["own_window_even"], 0.02),
        ("3", "maps lie apart as their windows do",
         "distance of a map's middle to other windows − to its own, patches", mean["apart"], 0.1),
        ("4b", "the second layer is more accurate",
         "share on salient patches, second layer − first", mean["salient_later"] - mean["salient"], 0.005),
        ("4a", f"one token (here {found.inward}) looks at semantic tokens, in nearly all images",
         "images in which it is that one − chance", mean["looks_inward"] - found.chance["looks_inward"], FIXED),
        ("4c", f"most look at one token (here {found.looked_at}), in nearly all images",
         "images in which it is that one − chance", mean["looked_at"] - found.chance["looked_at"], FIXED),
        ("4a, 4c", "it is the same token in both", "images in which it is − half of them", mean["same"] - 0.5, 0.0),
    ]  # fmt: skip
    if alone is not None:
        other = {name: by_photograph(values, owner) for name, values in alone.values.items()}
        rows += [
            ("4d", "global initialization alone: more similar maps",
             "overlap of two tokens' maps, global alone − both", other["overlap"] - mean["overlap"], 0.02),
            ("4d", "global initialization alone: not tied to places",
             "share in the own window, both − global alone", mean["own_window"] - other["own_window"], 0.02),
        ]  # fmt: skip
    drawn = draws(len(mean["same"]))
    made = [
        claim(difference, margin, len(rows), drawn, figure=figure, claim=text, measure=what)
        for figure, text, what, difference, margin in rows
    ]
    return pd.DataFrame(made)


def means(found: dict[str, Found], owner: np.ndarray) -> pd.DataFrame:
    """A row a measure, a column a student: means over photographs."""
    import pandas as pd

    rows = [
        {
            "measure": text,
            **{name: by_photograph(one.values[key], owner).mean() for name, one in found.items()},
        }
        for key, text in TEXTS.items()
    ]
    return pd.DataFrame(rows)


def at_hand(count: int = CROPS) -> tuple[dict[str, Subject], Crops, dict[str, Found]]:
    """The students that are there, crops of photographs, and what was measured on them."""
    students = {name: open_pretrained(name, SIZE) for name in (STUDENT, ALONE) if name in distilled()}
    crops = cut(shipped(), count, SIZE)
    marked = salient(crops.images)
    return students, crops, {name: measured(one, crops, marked) for name, one in students.items()}


def write(r: Report, count: int = CROPS) -> pd.DataFrame:
    """The section of the report; the real weights are at hand."""
    students, crops, found = at_hand(count)
    judged = claims(found[STUDENT], crops.owner, found.get(ALONE))
    photographs = [one for one in crops.photographs if one.name in SHOWN] or crops.photographs[:3]
    pictures = middles(photographs, SIZE)
    maps = {name: capture(one.model, normalised(pictures, one.model)) for name, one in students.items()}
    own, first = maps[STUDENT], len(maps[STUDENT].base) + 1
    outlines = measure.windows(own.grid, own.semantic_grid)
    r.heading("Figures 3 and 4 on a real model: semantic tokens that were distilled")
    r.prose(
        f"**{STUDENT}**, DINOv2-S whose layers from {first} on learned to give its class feature with 16 semantic "
        f"tokens, at {SIZE} × {SIZE} pixels: {own.tokens} image tokens. Numbers are over {len(crops.images)} crops of "
        f"{len(crops.photographs)} photographs that neither student saw. Salient are the {SALIENT:.0%} of an image's "
        "patches where a head on the dense model says so. The training was short, and its aim another than the papers'."
    )
    r.table(
        "student_claims",
        judged,
        "The captions of Figures 3 and 4; all verdicts hold together at 95 %.",
        digits=3,
    )
    table = means(found, crops.owner)
    r.table("student_means", table, "What the captions are judged by, means over photographs.", digits=3)
    value = table.set_index("measure")[STUDENT]
    for name, layer, shown, text in (
        ("real_figure3", 0, 2, f"Figure 3. First layer of the STGM. {value[TEXTS['own_window']]:.0%} of a map lies in "
         f"its own window (outlined; {value[TEXTS['own_window_even']]:.0%} of an even map)."),
        ("real_figure4b", 1, 1, f"Figure 4b. Second layer, its image part. {value[TEXTS['salient_later']]:.0%} of a "
         f"map is on salient patches, in the first layer {value[TEXTS['salient']]:.0%}, of an even map {SALIENT:.0%}."),
    ):  # fmt: skip
        drawn = figures.semantic_maps(
            pictures[:shown], [own.to_image[layer].mean(1)[n] for n in range(shown)], own.grid, outlines,
            [f"{STUDENT}: layer {first + layer}, {one.name}" for one in photographs[:shown]],
        )  # fmt: skip
        r.figure(name, drawn, text, alt="Photographs, and beside each a heat map for every semantic token")
    r.figure(
        "real_figure4a",
        figures.second_layer(
            own.to_semantic[0][0].mean(0), own.to_image[1][0].mean(0), f"{STUDENT}: layer {first + 1}"
        ),
        f"Figure 4a, {photographs[0].name}. Token {found[STUDENT].inward} looks at semantic tokens most in "
        f"{value[TEXTS['looks_inward']]:.0%} of the images (by chance {found[STUDENT].chance['looks_inward']:.0%}).",
        alt="A wide attention map: rows are semantic tokens, columns semantic and image tokens",
    )
    r.figure(
        "real_figure4c",
        figures.squares(
            [layer[:1] for layer in own.after], first + len(own.to_image), f"{STUDENT}: rows look at columns"
        ),
        f"Figure 4c, {photographs[0].name}. Token {found[STUDENT].looked_at} is looked at most in "
        f"{value[TEXTS['looked_at']]:.0%} of the images (by chance {found[STUDENT].chance['looked_at']:.0%}).",
        alt="Square attention maps among semantic tokens, one for each layer behind the STGM",
    )
    if ALONE in students:
        overlap = table.set_index("measure").loc[TEXTS["overlap"]]
        r.figure(
            "real_figure4d",
            figures.semantic_maps(
                pictures[:1], [maps[ALONE].to_image[0].mean(1)[0]], own.grid, None,
                [f"{ALONE}: layer {first}, {photographs[0].name}"],
            ),
            f"Figure 4d. Centers that begin as learned vectors alone: two tokens' maps overlap by "
            f"{overlap[ALONE]:.0%}, with pooled centers by {overlap[STUDENT]:.0%}.",
            alt="A photograph, and a heat map for every semantic token of another model",
        )  # fmt: skip
    return judged
