"""Cells: one setting on one set of crops. A finished cell is kept and never measured again unless its code changed.

A study is a model on a set of crops; its folder holds ``study.json``, which says so, and a file a cell.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from analysis.crops import Crops
from analysis.images import normalised
from analysis.offtheshelf import measure, settings
from analysis.offtheshelf.settings import Setting
from analysis.results import HOME, RESULTS, digest, environment

SHIPPED_CELLS, OWN = RESULTS / "offtheshelf" / "cells", HOME / ".cache" / "offtheshelf"
STUDY_FILE, COSTS_FILE = "study.json", "costs.json"
ASKED = 10  # crops that say whether a method leaves as many tokens of every image


class CropStudy(NamedTuple):
    """A dense model, its outputs on the crops, and the folder of the cells."""

    folder: Path
    dense: object
    head: object
    images: object  # (n, 3, H, W), normalised
    owner: np.ndarray
    reference: measure.Outputs
    cost: Callable[[object], int]


def begin(
    subject, head, crops: Crops, folder: Path, seed: int, size: int, counter: Callable | None = None
) -> CropStudy:
    """Run the dense model on all crops, and describe the study in its folder.

    counter: of (model, size), the multiply-adds of an image; default ``multiply_adds``
    """
    images = normalised(crops.images, subject.model)
    content = {
        "model": subject.name,
        "weights": subject.found,
        "size": size,
        "crops": len(crops.images),
        "seed": seed,
        "photographs": crops.record(),
        **({"counter": counter.__name__} if counter else {}),
    }
    address = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
    place = Path(folder) / address
    reference = measure.outputs(subject.model, images, head)
    place.mkdir(parents=True, exist_ok=True)
    cost = priced(place / COSTS_FILE, size, counter)
    if not (place / STUDY_FILE).exists():
        tokens = measure.tokens_left(subject.model, images[:1])
        dense = {"multiply_adds": cost(subject.model), "tokens": tokens}
        write(
            {**content, "dense": dense, "saliency": head is not None, **environment("cpu")},
            place / STUDY_FILE,
        )
    return CropStudy(place, subject.model, head, images, crops.owner, reference, cost)


def path_of(study: CropStudy, setting: Setting) -> Path:
    return study.folder / f"{setting.key}.json"


def read(study: CropStudy, setting: Setting) -> dict | None:
    """What an earlier run has kept of a setting, unless its choices or its method's code have changed."""
    path = path_of(study, setting)
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    same = kept and kept["choices"] == plain(setting.choices) and kept["code"] == code_of(setting.method)
    return kept if same else None


def run(study: CropStudy, setting: Setting) -> dict:
    """Read what an earlier run has kept of a setting, or measure it."""
    return read(study, setting) or measured(study, setting)


def measured(study: CropStudy, setting: Setting, trained: object = None) -> dict:
    """Measure a setting, or a model of it that was ``trained``, and keep what was found."""
    import torch

    model = settings.build(study.dense, setting) if trained is None else trained
    if setting.rate == 1.0 and is_dense(model, study):  # there is nothing to measure
        seen = study.reference._replace(
            diversity=float("nan") * study.reference.diversity
        )  # after the last layer
    else:
        seen = measure.outputs(model, study.images, study.head)
    found = measure.compare(seen, study.reference, study.dense.patch_embed.grid_size)
    found |= measure.answers(study.dense, seen.features, study.reference.features)
    photographs = study.owner.max() + 1
    cell = {
        "row": setting.row,
        "method": setting.method,
        "rate": setting.rate,
        "choices": plain(setting.choices),
        "code": code_of(setting.method),
        "untrained_parts": trained is None and settings.is_untrained(model, study.dense),
        "multiply_adds": own_cost(study, model),
        "tokens": measure.tokens_left(model, study.images[:1]),
        "photographs": {  # the mean over the crops of each photograph, which is what bootstrap draws from
            name: [mean_of(values[study.owner == i]) for i in range(photographs)]
            for name, values in found.items()
        },
        "time": {k: rounded(v) for k, v in measure.times(model, study.dense, study.images).items()},
        "batch": measure.BATCH,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
    }
    write(cell, path_of(study, setting))
    return cell


def own_cost(study: CropStudy, model) -> int:
    """Multiply-adds of an image; where an image's own tokens decide how many are left, the mean over a few crops."""
    from analysis.shared.counting import torch_count

    few = study.images[:ASKED].split(1)
    if len({measure.tokens_left(model, image) for image in few}) == 1:
        return study.cost(model)
    share = sum(torch_count(model, image) for image in few) / sum(
        torch_count(study.dense, image) for image in few
    )
    return round(share * study.cost(study.dense))


def mean_of(values) -> float | None:
    """Over the crops that have a value (in some, no token was merged); None where none has."""
    values = values[~values.isnan()]
    return round(float(values.mean()), 5) if len(values) else None


def is_dense(model, study: CropStudy) -> bool:
    """Does ``model`` compute what the dense one does? Checked on one batch."""
    import torch

    count = min(measure.BATCH, len(study.images))
    features = measure.outputs(model, study.images[:count]).features
    return torch.allclose(features, study.reference.features[:count], atol=1e-3, rtol=1e-3)


def priced(path: Path, size: int, counter: Callable | None = None) -> Callable[[object], int]:
    """``counter`` (``multiply_adds``) that remembers, in ``path``, the models that it has counted."""
    counter = counter or multiply_adds
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def cost(model) -> int:
        method = getattr(model, "method", settings.STVIT if hasattr(model, "stgm") else "dense")
        code = "" if method == "dense" else code_of(method)
        args = {name: value for name, value in model._model_args.items() if name != "method"} if code else {}
        key = f"{method} {code} {json.dumps(plain(args), sort_keys=True)}"
        if key not in known:
            known[key] = counter(model, size)
            write(known, path)
        return known[key]

    return cost


def multiply_adds(model, size: int) -> int:
    """For one image. Where the tracer does not follow a method's own code, torch's counter of matrix products."""
    import torch

    from analysis.shared.counting import count, torch_count

    try:
        return count(model, (1, 3, size, size)).total
    except Exception:  # tracing runs a method's own code, which may do anything
        return torch_count(model, torch.zeros(1, 3, size, size))


def studies(folder: Path) -> list[dict]:
    """Every study in ``folder`` with its cells: study.json's content, and ``cells``."""
    found = []
    for path in sorted(Path(folder).glob(f"*/{STUDY_FILE}")):
        files = [
            file for file in sorted(path.parent.glob("*.json")) if file.name not in (STUDY_FILE, COSTS_FILE)
        ]
        cells = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        content = json.loads(path.read_text(encoding="utf-8"))
        found.append({**content, "address": path.parent.name, "cells": cells})
    return found


def code_of(method: str) -> str:
    """A checksum of the file that defines a method."""
    from stvit.models.vit import STViT
    from stvit.reduce import METHODS

    return digest(Path(inspect.getsourcefile(STViT if method == settings.STVIT else METHODS[method])))


def write(content: dict, path: Path) -> None:
    """On one line: these are many small files."""
    scratch = path.with_name(f".{path.name}-{os.getpid()}")
    scratch.write_text(
        json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    os.replace(scratch, path)


def plain(choices: dict) -> dict:
    """As JSON gives it back."""
    return json.loads(json.dumps(choices))


def rounded(value):
    return [rounded(one) for one in value] if isinstance(value, list) else round(value, 4)
