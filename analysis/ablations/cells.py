"""One cell of the grid (``analysis.shared.cells``): it is never trained twice, whichever tables it stands in."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from analysis.ablations.design import CHECK_IMAGES, PURITY_IMAGES, SEEDS, TABLES, TEST_IMAGES, TRAINING, Row
from analysis.results import HOME, RESULTS
from analysis.shared import cells as trained
from analysis.shared.cells import TrainedCell

CELLS = RESULTS / "ablations" / "cells"
CHECKPOINTS = RESULTS / "checkpoints"
SCRATCH, CACHE = HOME / ".cache" / "ablations", HOME / ".cache" / "scenes"


@dataclass(frozen=True)
class AblationCell(TrainedCell):
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


def plan(tables=TABLES, seeds=SEEDS) -> list[AblationCell]:
    """Every cell once, table by table and row by row, so that rows that are begun have all their seeds first."""
    cells: dict[str, AblationCell] = {}
    for table in tables:
        for row in table.rows:
            for seed in seeds:
                cell = AblationCell(row, seed)
                cells.setdefault(cell.address, cell)
    return list(cells.values())


def record_of(cell: AblationCell, folder: Path = CELLS) -> dict | None:
    return trained.read(cell, folder)


def run_cell(cell: AblationCell, folder: Path = CELLS, scratch: Path = SCRATCH) -> dict:
    """Train one cell or continue its training, test it, and write its record."""
    from stvit.checkpoints import load_checkpoint

    def measure(model) -> dict:
        return {"test": test(model), "assignment": purity(model), "multiply_adds": multiply_adds(cell)}

    return trained.run(cell, folder, scratch / cell.address, CACHE, load_checkpoint, measure)


def run(cells: list[AblationCell], folder: Path = CELLS, scratch: Path = SCRATCH, **how) -> int:
    """Train what has no record yet; ``how``: jobs, backend and minutes of ``analysis.shared.cells.run_missing``."""
    return trained.run_missing(cells, run_cell, trained.described, folder, scratch, **how)


def test(model, images: int = TEST_IMAGES) -> dict:
    """Counts of right answers on the test split: of all, of its first images, by the marked object's size."""
    from analysis.ablations.purity import scenes_for, small_radius
    from stvit.data.store import Scenes

    scenes = Scenes(scenes_for(model), "test", images, str(CACHE))
    right = trained.predictions(model, scenes) == scenes.labels
    small = scenes.radii < small_radius(scenes.config)
    return {
        **trained.tally(right, "images", CHECK_IMAGES),
        "small": {"images": int(small.sum()), "right": int(right[small].sum())},
    }


def purity(model) -> dict | None:
    """How well the semantic tokens follow objects, where a model has any (see ``purity.py``)."""
    from analysis.ablations import purity as module

    return module.measure(model, PURITY_IMAGES) if module.has_semantic_tokens(model) else None


def multiply_adds(cell: AblationCell) -> int:
    from analysis.shared.counting import count
    from stvit.training.build import build_model

    config = cell.config()
    model = build_model(config, 12).eval().requires_grad_(False)
    return int(count(model, (1, 3, config.image_size, config.image_size)).total)
