"""Detection on scenes: Cascade Mask R-CNN over micro backbones, one record for each model and seed.

Swin against STViT-R, with dumbbell units and without, with reused semantic tokens: the rows of Tables 5 and
9. All rows share heads, optimizer, images and their order by seed; nothing is pretrained. Rows are compared
by differences within a seed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from analysis.results import RESULTS, ROOT, environment

CELLS = RESULTS / "dense" / "cells"
CHECKPOINTS = RESULTS / "dense" / "checkpoints"
SCRATCH, CACHE = ROOT / ".cache" / "dense", ROOT / ".cache" / "scenes"
SEEDS = (0, 1, 2)
TEST_IMAGES = 1024
SIDE = 64
TRAINING = dict(
    task="detect", data="scenes", image_size=SIDE, train_images=3072, eval_images=64, epochs=1, batch_size=16,
    opt="muon", lr=0.02, weight_decay=0.05, warmup_epochs=0.1, warmup_lr=2e-4, min_lr=0.0, log_every=16,
    threads=1, device="cpu",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A backbone to train; ``printed`` is the paper's AP of boxes and masks (Tables 5 and 9, Swin-S)."""

    name: str
    model: str
    args: dict = field(default_factory=dict)
    printed: tuple[float, float] | None = None


ROWS = (
    Row("Swin", "micro_swin", {}, (51.8, 44.7)),
    Row("STViT-R", "micro_stvit_r_swin", {}, (51.8, 44.7)),
    Row("STViT-R without units", "micro_stvit_r_swin", {"units": [[4, 2, 5, 1]]}, (51.4, 44.4)),
    Row("STViT-R, reused tokens", "micro_stvit_r_swin", {"reuse": True}, (51.6, 44.5)),
)


@dataclass(frozen=True)
class Cell:
    """A row's detector from one seed."""

    row: Row
    seed: int

    def config(self, **changes):
        from stvit.training.config import TrainConfig

        given = dict(TRAINING, model=self.row.model, model_args=self.row.args, seed=self.seed)
        return TrainConfig.of(**{**given, **changes})

    def content(self) -> dict:
        """What decides the outcome: the training, the heads, the scenes, the test."""
        from stvit.data.scenes import SceneConfig, sized
        from stvit.data.store import DRAWING
        from stvit.dense.detection import PRESETS

        return {
            "training": self.config().chosen(),
            "detector": PRESETS["micro"],
            "scenes": {"drawing": DRAWING, **asdict(sized(SceneConfig(), SIDE))},
            "test_images": TEST_IMAGES,
        }

    @property
    def address(self) -> str:
        return hashlib.sha256(json.dumps(self.content(), sort_keys=True).encode()).hexdigest()[:12]


def plan(rows: tuple[Row, ...] = ROWS, seeds: tuple[int, ...] = SEEDS) -> list[Cell]:
    """Seed by seed, so that rows can be compared as soon as a seed is through."""
    return [Cell(row, seed) for seed in seeds for row in rows]


def record_of(cell: Cell, folder: Path = CELLS) -> dict | None:
    path = folder / f"{cell.address}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def run_cell(cell: Cell, folder: Path = CELLS, scratch: Path = SCRATCH) -> dict:
    """Train (or go on training) and test one cell, and write its record."""
    import os
    import time

    import torch

    from analysis.formats import dump
    from stvit.dense import load
    from stvit.train import train
    from stvit.training import journal

    done = record_of(cell, folder)
    if done:
        return done
    torch.set_num_threads(1)
    begun, cpu = time.perf_counter(), time.process_time()
    out = scratch / f"detect-{cell.address}"
    train(cell.config(out=str(out), cache=str(CACHE)))
    trained, trained_cpu = time.perf_counter(), time.process_time()
    model = load(out / "model")
    record = {
        "address": cell.address,
        **cell.content(),
        "row": cell.row.name,
        "seed": cell.seed,
        "curve": [
            [line["step"], round(line["loss"], 4)] for line in journal.read(out / journal.LOG) if "step" in line
        ],
        "test": test(model),
        "backbone_multiply_adds": multiply_adds(cell.row),
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
    """AP of boxes and masks on the test split, by the size of objects, and how many of each size there are."""
    from stvit.data.objects import SceneObjects
    from stvit.data.scenes import SceneConfig, sized
    from stvit.dense.detection.evaluate import evaluate
    from stvit.dense.detection.source import collate, scene_sizes

    scenes = sized(SceneConfig(), SIDE)
    held, sizes = SceneObjects(scenes, "test", images, CACHE), scene_sizes(scenes)
    parts = [range(start, min(start + 32, images)) for start in range(0, images, 32)]
    found = evaluate(model, (collate([held[i] for i in part]) for part in parts), sizes)
    areas = [float(area) for i in range(images) for area in held[i][1]["area"]]
    counts = {name: sum(low <= area < high for area in areas) for name, (low, high) in sizes.items()}
    return {
        **{name: round(v, 4) if isinstance(v, float) else v for name, v in found.items()},
        "objects_by_size": counts,
        "sizes": {name: [round(side, 2) for side in limits] for name, limits in sizes.items()},
    }


def multiply_adds(row: Row) -> int:
    """Of the backbone alone, as Table 5 has it."""
    import timm

    import stvit  # noqa: F401 (registers the models)
    from analysis.complexity.counting import count

    model = timm.create_model(row.model, features_only=True, **row.args).eval().requires_grad_(False)
    return int(count(model, (1, 3, SIDE, SIDE)).total)


def run(cells: list[Cell], minutes: float = 0.0, folder: Path = CELLS, scratch: Path = SCRATCH) -> int:
    """Finish ``cells`` in their order, beginning none after so many minutes (0: all); how many were finished."""
    import time

    until = time.time() + 60 * minutes if minutes else float("inf")
    missing = [cell for cell in cells if not record_of(cell, folder)]
    print(
        f"{len(cells) - len(missing)} of {len(cells)} detectors are finished, {len(missing)} to train",
        flush=True,
    )
    for number, cell in enumerate(missing, 1):
        if time.time() > until:
            return number - 1
        record = run_cell(cell, folder, scratch)
        print(
            f"[{number}/{len(missing)}] {cell.address} {cell.row.name}, seed {cell.seed}: AP "
            f"{record['test']['ap']:.2f}, masks {record['test']['mask_ap']:.2f} "
            f"({record['seconds']['training_cpu']:.0f} s of CPU to train)",
            flush=True,
        )
    return len(missing)


def main(argv: list[str] | None = None) -> int:
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m analysis.dense.detection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help=f"seeds a row ({len(SEEDS)})")
    parser.add_argument("--minutes", type=float, default=0, help="begin no training after so many (0: all)")
    args = parser.parse_args(argv)
    run(plan(seeds=tuple(range(args.seeds))), args.minutes)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
