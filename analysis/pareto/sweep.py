"""All methods over keep rates in one model: finished cells are kept, so that a stopped sweep can continue."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from analysis.offtheshelf import cells, settings, tables
from analysis.offtheshelf.settings import Setting
from analysis.pareto.tuned import Tuner, TuningBudget, channels_first, split
from analysis.results import HOME
from analysis.shared.loop import finish
from analysis.throughput.memory import peak_bytes
from analysis.throughput.turns import Patience, take_turns
from analysis.throughput.variants import check_device, finisher

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

OWN = HOME / ".cache" / "pareto"
RATES = (0.85, 0.7, 0.5, 0.3)


@dataclass(frozen=True)
class SweepRequest:
    """What to sweep.

    model: a name that ``stvit.pretrained`` knows, or the folder of a checkpoint
    data: a folder of images; None for the photographs that packages ship
    size: the side of the crops in pixels; None for what the model was made for
    batch, device, threads: where speed and memory are measured
    minutes: begin no other setting after so many, though one at least; 0: measure all
    tune: train each setting for so much before it is measured; None: as it is
    """

    model: str
    data: Path | None = None
    size: int | None = None
    crops: int = 200
    rates: tuple[float, ...] = RATES
    methods: tuple[str, ...] = ()
    batch: int = 8
    device: str = "cpu"
    threads: int = 1
    seed: int = 0
    kept: Path = OWN
    tune: TuningBudget | None = None
    minutes: float = 0


class Sweep(NamedTuple):
    """A row a setting, why methods are missing, and which images were used."""

    rows: pd.DataFrame
    notes: list[str]
    study: dict

    @property
    def where(self) -> str:
        study = self.study
        where = f"{study['model']}, {study['crops']} crops of {len(study['photographs'])} images"
        return f"{where}; {study['tuned']}" if "tuned" in study else where


def run(request: SweepRequest, bar: bool = True) -> Sweep:
    """Measure what no earlier run has kept, and tabulate all of it."""
    import torch

    begun = time.monotonic()
    check_device(str(torch.device(request.device)))
    torch.set_num_threads(request.threads)
    study, tuner = begin(request)
    plan, notes = settings.plan(study.dense, study.cost, request.methods, request.rates)
    plan = sorted(plan, key=lambda one: request.rates.index(one.rate) if one.rate else len(request.rates))
    one = in_time(request.minutes, begun, partial(work, study, request, tuner))
    results = finish(plan, partial(read, study, request), one, bar=bar)
    measured = [result for result in results if result is not None]
    if len(measured) < len(plan):
        notes = [
            *notes,
            f"{len(plan) - len(measured)} of {len(plan)} settings are left: the same command goes on",
        ]
    content = json.loads((study.folder / cells.STUDY_FILE).read_text(encoding="utf-8"))
    frame = tables.table({**content, "cells": [cell for cell, _ in measured]})
    speeds = {(cell["row"], cell["rate"]): speed for cell, speed in measured}
    keys = [
        (row.row, None if row.keep_rate != row.keep_rate else row.keep_rate) for row in frame.itertuples()
    ]
    for name in ("times_as_fast", "images_per_second", "memory_share"):
        frame[name] = [speeds[key][name] for key in keys]
    return Sweep(frame, notes, content)


def in_time(minutes: float, begun: float, work: Callable) -> Callable:
    """``work`` that gives None once so many minutes are over, after one result at least; 0: it always works."""
    done = 0

    def one(setting: Setting):
        nonlocal done
        if minutes and done and time.monotonic() - begun > 60 * minutes:
            return None
        done += 1
        return work(setting)

    return one


def begin(request: SweepRequest) -> tuple[cells.CropStudy, Tuner | None]:
    """The dense model and its outputs on the crops; and what trains the settings, if they are to be trained."""
    import stvit
    from analysis.crops import cut
    from stvit.data.photographs import LEAST, in_folder, shipped

    subject = opened(request)
    size = request.size or subject.size[0]
    photographs = in_folder(request.data, min(LEAST, size)) if request.data else shipped()
    learned, photographs = split(photographs) if request.tune else ([], photographs)
    head = stvit.saliency_head() if request.model == "dinov2_small" else None
    crops = cut(photographs, request.crops, size, request.seed)
    study = cells.begin(subject, head, crops, request.kept, request.seed, size, products)
    if not request.tune:
        return study, None
    study = of_trained(study, request.tune, learned)
    test = channels_first(crops.images)
    tuner = Tuner(
        study.dense, learned, test, request.tune, request.device, request.seed, study.folder / "training"
    )
    return study, tuner


def products(model: nn.Module, size: int) -> int:
    """Multiply-adds of an image in matrix products and convolutions: a third of the time of counting all of them."""
    import torch

    from analysis.shared.counting import torch_count

    return torch_count(model, torch.zeros(1, 3, size, size))


def of_trained(study: cells.CropStudy, budget: TuningBudget, learned: list) -> cells.CropStudy:
    """The same study in a folder of its own, whose description names the training."""
    folder = study.folder / f"distilled-{budget.crops}-{budget.passes}-{len(learned)}"
    folder.mkdir(exist_ok=True)
    content = json.loads((study.folder / cells.STUDY_FILE).read_text(encoding="utf-8"))
    told = f"each setting trained for {budget} of {len(learned)} other images (stvit.distill)"
    cells.write({**content, "tuned": told}, folder / cells.STUDY_FILE)
    return study._replace(folder=folder)


def opened(request: SweepRequest):
    """The model, built for the size of the crops."""
    from analysis.shared.models import REAL, REAL_SIZE, open_model, open_pretrained
    from stvit.pretrained import SHIPPED

    if Path(request.model).exists():
        subject = open_model(request.model)
        return subject.resized((request.size, request.size)) if request.size else subject
    size = request.size or (REAL_SIZE if request.model in (REAL, *SHIPPED) else own_size(request.model))
    return open_pretrained(request.model, size)


def own_size(name: str) -> int:
    """The image size that timm made a model for."""
    import timm

    cfg = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return cfg.input_size[1] if cfg else 224


def read(study: cells.CropStudy, request: SweepRequest, setting: Setting) -> tuple[dict, dict] | None:
    """What earlier runs have kept of a setting: its quality, and its speed on this device."""
    cell, path = cells.read(study, setting), speed_path(study, request, setting)
    if cell is None or not path.exists():
        return None
    speed = json.loads(path.read_text(encoding="utf-8"))
    return (cell, speed) if speed["code"] == cell["code"] and speed["choices"] == cell["choices"] else None


def work(
    study: cells.CropStudy, request: SweepRequest, tuner: Tuner | None, setting: Setting
) -> tuple[dict, dict]:
    """Measure a setting, trained before if there is a ``tuner``, and keep what was found."""
    cell = cells.read(study, setting)
    if tuner is None or cell:
        model = settings.build(study.dense, setting)
    else:
        model = tuner.build(setting)
    cell = cell or cells.measured(study, setting, trained=model if tuner else None)
    model, dense = model.to(request.device), study.dense.to(request.device)
    found = timed(model, dense, batch_of(study.images, request.batch).to(request.device), request.device)
    study.dense.to("cpu")
    found |= {"code": cell["code"], "choices": cell["choices"]}
    cells.write(found, speed_path(study, request, setting))
    return cell, found


def speed_path(study: cells.CropStudy, request: SweepRequest, setting: Setting) -> Path:
    folder = study.folder / f"speed-{request.device}-{request.threads}-{request.batch}".replace(":", "_")
    folder.mkdir(exist_ok=True)
    return folder / f"{setting.key}.json"


def batch_of(images: Tensor, batch: int) -> Tensor:
    """``batch`` images, in turn if there are fewer."""
    import torch

    return images[torch.arange(batch) % len(images)]


def timed(model: nn.Module, dense: nn.Module, images: Tensor, device: str) -> dict[str, float]:
    """Speed and peak memory beside the dense model's, both taking turns."""
    import torch

    with torch.inference_mode():
        turns = take_turns([lambda: dense(images), lambda: model(images)], Patience(5, 1), finisher(device))
        peaks = [peak_bytes(lambda one=one: one(images), device) for one in (dense, model)]
    slow, fast = turns.seconds
    return {
        "times_as_fast": round(statistics.median(a / b for a, b in zip(slow, fast, strict=True)), 4),
        "images_per_second": round(len(images) / statistics.median(fast), 4),
        "memory_share": round(peaks[1] / peaks[0], 4),
    }
