"""One cell of the grid: a model trained from one seed, tested, and its record.

A cell is addressed by a hash of all that decides its outcome, and a finished cell has a record at that
address: it is never trained twice, whichever tables it stands in.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from analysis.ablations.design import CHECK_IMAGES, PURITY_IMAGES, SEEDS, TABLES, TEST_IMAGES, TRAINING, Row
from analysis.results import RESULTS, ROOT, environment

CELLS = RESULTS / "ablations" / "cells"
CHECKPOINTS = RESULTS / "checkpoints"
SCRATCH, CACHE = ROOT / ".cache" / "ablations", ROOT / ".cache" / "scenes"


@dataclass(frozen=True)
class Cell:
    """A row's model from one seed."""

    row: Row
    seed: int

    def config(self, **changes):
        from stvit.training.config import TrainConfig

        given = dict(model=self.row.model, model_args=self.row.args, seed=self.seed)
        return TrainConfig.of(**{**TRAINING, **self.row.training, **given, **changes})

    def content(self) -> dict:
        """What decides the outcome: the training, the scenes, the test."""
        from stvit.data.scenes import SceneConfig, sized
        from stvit.data.store import DRAWING

        config = self.config()
        return {
            "training": config.chosen(),
            "scenes": {"drawing": DRAWING, **asdict(sized(SceneConfig(), config.image_size))},
            "test_images": TEST_IMAGES,
        }

    @property
    def address(self) -> str:
        return hashlib.sha256(json.dumps(self.content(), sort_keys=True).encode()).hexdigest()[:12]


def plan(tables=TABLES, seeds=SEEDS) -> list[Cell]:
    """Every cell once, table by table and row by row, so that rows that are begun have all their seeds first."""
    cells: dict[str, Cell] = {}
    for table in tables:
        for row in table.rows:
            for seed in seeds:
                cell = Cell(row, seed)
                cells.setdefault(cell.address, cell)
    return list(cells.values())


def record_of(cell: Cell, folder: Path = CELLS) -> dict | None:
    path = folder / f"{cell.address}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def run_cell(cell: Cell, folder: Path = CELLS, scratch: Path = SCRATCH) -> dict:
    """Train (or go on training) and test one cell, and write its record."""
    import os
    import time

    import torch

    from analysis.formats import dump
    from stvit.checkpoints import load_checkpoint
    from stvit.train import train
    from stvit.training import journal

    done = record_of(cell, folder)
    if done:
        return done
    torch.set_num_threads(1)
    begun, cpu = time.perf_counter(), time.process_time()
    out = scratch / cell.address
    train(cell.config(out=str(out), cache=str(CACHE)))
    trained, trained_cpu = time.perf_counter(), time.process_time()
    model = load_checkpoint(out / "model").eval()
    record = {
        "address": cell.address,
        **cell.content(),
        "seed": cell.seed,
        "curve": [[line["step"], round(line["loss"], 4)] for line in journal.read(out / journal.LOG) if "step" in line],
        "test": test(model),
        "assignment": purity(model),
        "multiply_adds": multiply_adds(cell),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": {
            "training": round(trained - begun, 1), "training_cpu": round(trained_cpu - cpu, 1),
            "all": round(time.perf_counter() - begun, 1), "threads": 1,
        },
        **environment("cpu"),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    scratch_file = folder / f".{cell.address}-{os.getpid()}"
    dump(record, scratch_file)
    os.replace(scratch_file, folder / f"{cell.address}.json")
    return record


def test(model, images: int = TEST_IMAGES) -> dict:
    """Counts of right answers on the test split: of all, of its first images, by the marked object's size."""
    import torch

    from analysis.ablations.purity import scenes_for, small_radius
    from stvit.data.scenes import Scenes
    from stvit.data.sources import scene_batches
    from stvit.evaluate import half_width

    scenes = Scenes(scenes_for(model), "test", images, str(CACHE))
    with torch.inference_mode():
        told = torch.cat([model(x).argmax(1) for x, _ in scene_batches(scenes)])
    right, small = told == scenes.labels, scenes.radii < small_radius(scenes.config)
    top1 = 100 * int(right.sum()) / images
    return {
        "images": images,
        "right": int(right.sum()),
        "top1": round(top1, 4),
        "half_width": round(half_width(top1, images), 4),
        "small": {"images": int(small.sum()), "right": int(right[small].sum())},
        "first": {"images": CHECK_IMAGES, "right": int(right[:CHECK_IMAGES].sum())},
    }


def purity(model) -> dict | None:
    """How well the semantic tokens follow objects, where a model has any (see ``purity.py``)."""
    from analysis.ablations import purity as module

    return module.measure(model, PURITY_IMAGES) if module.has_semantic_tokens(model) else None


def multiply_adds(cell: Cell) -> int:
    from analysis.complexity.counting import count
    from stvit.training.build import build_model

    config = cell.config()
    model = build_model(config, 12).eval().requires_grad_(False)
    return int(count(model, (1, 3, config.image_size, config.image_size)).total)
