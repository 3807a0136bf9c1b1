"""Cells: a student trained from one seed and tested on crops of photographs that no model was trained on.

A cell's address is a hash of all that decides its outcome; a cell that has a record is not trained again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import by_photograph
from analysis.distilled.design import GALLERY, GRID, LAYERS, MODEL, SIZE, Budget, Student
from analysis.results import HOME, RESULTS, environment
from analysis.shared import records

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stvit.training.taught import Taught

HERE = RESULTS / "distilled"
CELLS, PILOT, CACHE = HERE / "cells", HERE / "pilot", HOME / ".cache" / "distilled"
DEVICES = {"cpu": "cpu", "cuda": "auto"}  # in the words of TrainConfig


@dataclass(frozen=True)
class Cell:
    """A row of the grid and a seed, of the new parameters and of the order; ``training`` differs in learning curves."""

    row: Student
    seed: int
    training: dict = field(default_factory=dict)
    scale: Budget = GRID

    @property
    def options(self) -> dict:
        """Of ``stvit.distill``."""
        learned = dict(map_weight=1.0) if self.row.maps else {}
        return {**self.scale.training, **learned, **self.training}

    def content(self) -> dict:
        return {
            "model": MODEL, "size": SIZE, "crops": [self.scale.crops, self.scale.test], "seed": self.seed,
            "training": self.options,
            "method": self.row.method, "choices": json.loads(json.dumps(self.row.choices)),
        }  # fmt: skip

    @property
    def address(self) -> str:
        return hashlib.sha256(json.dumps(self.content(), sort_keys=True).encode()).hexdigest()[:12]


@dataclass
class World:
    """The teacher, and its outputs on training and held-out crops, by layer."""

    teacher: nn.Module
    train: dict[int, Taught]
    test: dict[int, Taught]
    owner: Tensor
    photographs: dict[str, list[str]]
    device: str = "cpu"

    @cached_property
    def saliency(self) -> Tensor:
        """(n, H, W): what the trained head reads from the teacher's maps of the held-out crops."""
        import stvit
        from analysis.shared.saliency import read_saliency

        test = next(iter(self.test.values()))
        return read_saliency(stvit.saliency_head(), test.maps, test.grid)


def open_world(
    cache: Path = CACHE, folder: str | Path = "", scale: Budget = GRID, device: str = "cpu"
) -> World:
    """Made once and kept in ``cache``: crops, and the teacher's tokens after the layers that students begin at."""
    import stvit
    from analysis.distilled import images
    from stvit.training.taught import ask

    crops = images.crops(cache, scale.crops, scale.test, SIZE, folder)
    teacher = stvit.pretrained(MODEL, quiet=True, img_size=SIZE).to(device)
    learned = ask(
        teacher,
        crops["train"][: scale.taught],
        LAYERS,
        cache,
        precision=scale.training["precision"],
        maps=True,
    )
    test = ask(teacher, crops["test"], LAYERS, cache, maps=True)
    return World(teacher.cpu(), learned, test, crops["owner"], crops["photographs"], device)


def read(cell: Cell, folder: Path = CELLS) -> dict | None:
    return records.read(folder, cell.address)


def run(cell: Cell, world: World, folder: Path = CELLS) -> dict:
    """Train and test a cell and write its record, unless there is one."""
    done = read(cell, folder)
    if done:
        return done
    record = {
        "address": cell.address,
        "row": cell.row.name,
        **cell.content(),
        **trained(cell, world),
        **environment(world.device),
    }
    records.write(folder, record)
    return record


def build(row: Student, teacher: nn.Module, seed: int) -> nn.Module:
    """The untrained student: new parameters from the seed, all others the teacher's."""
    import torch

    import stvit

    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return stvit.sparsify(teacher, method=row.method, **row.choices)


def student_of(cell: Cell, world: World, out: Path | None = None) -> nn.Module:
    """The cell's student, trained; untrained where it has no passes."""
    from stvit import distill
    from stvit.training.late_layers import layers_kept

    student, training = build(cell.row, world.teacher, cell.seed), cell.options
    if training["epochs"]:
        done = layers_kept(student)
        taught = world.train[done].first(training["train_images"])
        student, _ = distill(
            student, world.teacher, taught, world.test[done].first(GALLERY // 8), seed=cell.seed,
            device=DEVICES[world.device], threads=1, out=out, **training,
        )  # fmt: skip
    return student


def trained(cell: Cell, world: World) -> dict:
    import torch

    from analysis.shared import twins
    from stvit.training.late_layers import layers_kept

    torch.set_num_threads(1)
    student = build(cell.row, world.teacher, cell.seed)
    done = layers_kept(student)
    told = {
        "fingerprint": twins.fingerprint(student),
        "multiply_adds": multiply_adds(student),
        "parameters": sum(p.numel() for p in student.parameters()),
        "frozen_layers": done,
    }
    begun, cpu = time.perf_counter(), time.process_time()
    student = student_of(cell, world).to(world.device)
    seconds = {"training": time.perf_counter() - begun, "training_cpu": time.process_time() - cpu}
    found = measured(student, world, done, cell.options["precision"], cell.row.maps)
    seconds["all_cpu"] = time.process_time() - cpu
    return {
        **told, **found, "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def measured(student: nn.Module, world: World, done: int, precision: str = "no", maps: bool = False) -> dict:
    """Centred cosine of each held-out crop's class feature to the teacher's, and how often it is the nearest one.

    maps: and how like the student's maps are to the teacher's
    """
    import torch

    from analysis.distilled.maps import fidelity
    from stvit.training.bfloat16 import mixed_precision
    from stvit.training.distill import cosine, said
    from stvit.training.late_layers import LateLayers

    test, center = world.test[done], world.train[done].features.mean(dim=0)
    late = LateLayers(student, done, test.grid, maps=maps).eval()
    batches = (test.batch(numbers) for numbers in torch.arange(len(test)).split(100))
    with mixed_precision(world.device, precision):
        outputs = torch.cat(
            [f.float().cpu() for f, _ in said(late, batches)]
        )  # (n, C), with maps (n, 1 + N, C)
    features = outputs[:, 0] if maps else outputs
    values = cosine(features, test.features, center)
    return {
        **(fidelity(outputs[:, 1:], world.train[done], test, world.saliency, world.owner) if maps else {}),
        "cosine": round(float(values.mean()), 6),
        "retrieved": round(retrieved(features - center, test.features - center), 4),
        "by_photograph": by_photograph(values.numpy(), np.asarray(world.owner)).round(6).tolist(),
    }


def retrieved(found: Tensor, dense: Tensor, gallery: int = GALLERY) -> float:
    """How often the dense feature that is nearest, among those of ``gallery`` crops, is the crop's own."""
    import torch
    import torch.nn.functional as F

    right = []
    for one, two in zip(found.split(gallery), dense.split(gallery), strict=True):
        near = F.normalize(one, dim=1) @ F.normalize(two, dim=1).T  # (gallery, gallery)
        right.append((near.argmax(dim=1) == torch.arange(len(near))).float())
    return float(torch.cat(right).mean())


def multiply_adds(student: nn.Module) -> int:
    """For one image, the frozen layers included."""
    import torch

    from analysis.shared.counting import count, torch_count

    student = student.eval().requires_grad_(False)
    try:
        return count(student, (1, 3, SIZE, SIZE)).total
    except Exception:  # the tracer runs a method's own code, which may do anything
        return torch_count(student, torch.zeros(1, 3, SIZE, SIZE))
