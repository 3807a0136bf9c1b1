"""Off the shelf on labelled images: the dense model's own probe reads the features of each reduced model.

A linear probe and the vote of the nearest neighbours are fitted once, on the dense model's features of training
images; test images go through each reduced model. Which of them were named rightly is kept image by image, so that
methods are compared on the same images.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.bootstrap import claim, draws, interval
from analysis.offtheshelf import claims, settings
from analysis.offtheshelf.cells import COSTS_FILE, STUDY_FILE, code_of, plain, priced, write
from analysis.offtheshelf.settings import Setting
from analysis.results import HOME, RESULTS, environment
from analysis.shared.field import label

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

SHIPPED_CELLS, OWN = RESULTS / "offtheshelf" / "probes", HOME / ".cache" / "probes"
DENSE = "dense"
BATCH, DRAWS = 50, 5000
MARGIN = 1.0  # points of top-1, named before anything was measured
CLAIMS = tuple(claim for claim in claims.CLAIMS if claim.measure == "cosine")  # those of the class feature


class Asked(NamedTuple):
    """A dense model with its probes, test images and their labels, and where the cells are."""

    folder: Path
    dense: object
    probes: dict
    images: list  # batches of (images, labels), normalised as the model expects
    labels: Tensor
    cost: Callable[[object], int]


def begin(subject, data: str, size: int, train_images: int, images: int, folder: Path) -> Asked:
    """Fit both probes on the dense model's features."""
    import torch

    from stvit.training.probe import PROBES, features_of, fit_probe

    model = subject.model
    content = dict(model=subject.name, weights=subject.found, data=data, size=size, train_images=train_images,
                   images=images)  # fmt: skip
    address = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
    place = Path(folder) / address
    place.mkdir(parents=True, exist_ok=True)
    known, labels = features_of(model, batches(model, data, "train", size, train_images))
    probes = {kind: fit_probe(known, labels, kind) for kind in PROBES}
    asked = list(batches(model, data, "test", size, images))
    cost = priced(place / COSTS_FILE, size)
    if not (place / STUDY_FILE).exists():
        write({**content, "multiply_adds": cost(model), **environment("cpu")}, place / STUDY_FILE)
    return Asked(place, model, probes, asked, torch.cat([part for _, part in asked]), cost)


def batches(model, data: str, split: str, size: int, images: int):
    from stvit.data.opened import kind_of, open_held_out
    from stvit.training.config import TrainConfig
    from stvit.training.probe import rescaled

    config = TrainConfig(
        data=data, image_size=size, batch_size=BATCH, workers=0, train_images=images, eval_images=images
    )
    return rescaled(open_held_out(config, split)[1], kind_of(data).pixels, model)


def read(asked: Asked, setting: Setting | None) -> dict | None:
    path = path_of(asked, setting)
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    if (
        kept
        and setting
        and (kept["choices"], kept["code"])
        != (
            plain(setting.choices),
            code_of(setting.method),
        )
    ):
        return None
    return kept


def measured(asked: Asked, setting: Setting | None) -> dict:
    """What the dense model's probes say of a reduced model's features; of its own without a setting."""
    from stvit.training.probe import features_of

    model = asked.dense if setting is None else settings.build(asked.dense, setting)
    features, labels = features_of(model, asked.images)
    right = {kind: probe.predict(features) == labels for kind, probe in asked.probes.items()}
    cell = {
        "row": DENSE if setting is None else setting.row,
        "method": DENSE if setting is None else setting.method,
        "rate": 1.0 if setting is None else setting.rate,
        "choices": {} if setting is None else plain(setting.choices),
        "code": "" if setting is None else code_of(setting.method),
        "multiply_adds": asked.cost(model),
        "right": {kind: "".join(map(str, values.int().tolist())) for kind, values in right.items()},
    }
    write(cell, path_of(asked, setting))
    return cell


def path_of(asked: Asked, setting: Setting | None) -> Path:
    return asked.folder / f"{DENSE if setting is None else setting.key}.json"


def bits(cell: dict, kind: str) -> np.ndarray:
    """(images,) 100 where the image was named rightly, else 0."""
    return 100.0 * (np.array(list(cell["right"][kind])) == "1")


def table(study: dict) -> pd.DataFrame:
    """``study``: one of ``cells.studies``; a row a setting, top-1 of both probes, and what was lost."""
    import pandas as pd

    cells = study["cells"]
    base = next(cell for cell in cells if cell["row"] == DENSE)
    drawn, rows = draws(len(base["right"]["linear"]), DRAWS), []
    for cell in sorted(cells, key=lambda cell: (-(cell["rate"] or 0), cell["row"])):
        row = dict(row=cell["row"], method=label(cell["row"]), keep_rate=cell["rate"],
                   setting=", ".join(f"{name}={value}" for name, value in cell["choices"].items()),
                   share=cell["multiply_adds"] / base["multiply_adds"])  # fmt: skip
        for kind in cell["right"]:
            values = bits(cell, kind)
            low, high = interval(values, drawn)
            row |= {kind: values.mean(), f"{kind}_low": low, f"{kind}_high": high,
                    f"{kind}_lost": (bits(base, kind) - values).mean()}  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows)


def judge(study: dict, kind: str = "linear") -> pd.DataFrame:
    """A row for each claim and keep rate whose two cells are there, compared image by image."""
    import pandas as pd

    cells = {(cell["row"], cell["rate"]): cell for cell in study["cells"]}
    rates = sorted({rate for _, rate in cells if rate is not None and rate < 1})
    pairs = [(one, rate) for one in CLAIMS for rate in rates
             if (one.better, rate) in cells and (one.worse, rate) in cells]  # fmt: skip
    rows = []
    for one, rate in pairs:
        better, worse = bits(cells[one.better, rate], kind), bits(cells[one.worse, rate], kind)
        row = dict(source=one.source, claim=one.text, keep_rate=rate, measure=f"top-1, {kind} probe",
                   value=better.mean(), beside=worse.mean())  # fmt: skip
        rows.append(claim(better - worse, MARGIN, len(pairs), draws(len(better), DRAWS), **row))
    return pd.DataFrame(rows)
