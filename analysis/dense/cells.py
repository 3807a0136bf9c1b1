"""The cells of a dense task's study (``analysis.shared.cells``): rows of backbones, seeds, shared heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from analysis.commands import Parser, at_least
from analysis.results import HOME, RESULTS
from analysis.shared import cells as trained
from analysis.shared import loop
from analysis.shared.cells import TrainedCell

CELLS = RESULTS / "dense" / "cells"
CHECKPOINTS = RESULTS / "dense" / "checkpoints"
SCRATCH, CACHE = HOME / ".cache" / "dense", HOME / ".cache" / "scenes"
SEEDS = (0, 1, 2)
SIDE = 64


@dataclass(frozen=True)
class DenseRow:
    """A backbone to train."""

    name: str
    model: str
    args: dict = field(default_factory=dict)


ROWS = (
    DenseRow("Swin", "micro_swin"),
    DenseRow("STViT-R", "micro_stvit_r_swin"),
    DenseRow("STViT-R without units", "micro_stvit_r_swin", {"units": [[4, 2, 5, 1]]}),
    DenseRow("STViT-R, reused tokens", "micro_stvit_r_swin", {"reuse": True}),
)


@dataclass(frozen=True)
class TaskStudy:
    """What the cells of a task share.

    training: options of ``stvit.train``, the same for all rows
    heads: options of the heads, which are in the record
    test: from a model to its scores on the test split
    """

    task: str
    headline: str
    training: dict
    heads: dict
    test: Callable
    test_images: int
    rows: tuple[DenseRow, ...] = ROWS


@dataclass(frozen=True)
class DenseCell(TrainedCell):
    """A row's model from one seed."""

    study: TaskStudy
    row: DenseRow
    seed: int

    def config(self, **changes):
        from stvit.training.config import TrainConfig

        given = dict(self.study.training, model=self.row.model, model_args=self.row.args, seed=self.seed)
        return TrainConfig.of(**{**given, **changes})

    def content(self) -> dict:
        """What decides the outcome: the training, the heads, the scenes, the test."""
        from stvit.data.scenes import SceneConfig, sized
        from stvit.data.store import DRAWING

        return {
            "training": self.config().chosen(),
            "heads": self.study.heads,
            "scenes": {"drawing": DRAWING, **asdict(sized(SceneConfig(), SIDE))},
            "test_images": self.study.test_images,
        }


def plan(study: TaskStudy, seeds: tuple[int, ...] = SEEDS) -> list[DenseCell]:
    """Seed by seed, so that rows can be compared as soon as a seed is through."""
    return [DenseCell(study, row, seed) for seed in seeds for row in study.rows]


def record_of(cell: DenseCell, folder: Path = CELLS) -> dict | None:
    return trained.read(cell, folder)


def scratch_of(cell: DenseCell, scratch: Path) -> Path:
    return scratch / f"{cell.study.task}-{cell.address}"


def run_cell(cell: DenseCell, folder: Path = CELLS, scratch: Path = SCRATCH) -> dict:
    """Train one cell or continue its training, test it, and write its record."""
    from stvit.dense import load

    def measure(model) -> dict:
        return {
            "row": cell.row.name,
            "test": cell.study.test(model, cell.study.test_images),
            "backbone_multiply_adds": multiply_adds(cell.row),
        }

    return trained.run(cell, folder, scratch_of(cell, scratch), CACHE, load, measure)


def multiply_adds(row: DenseRow) -> int:
    """Of the backbone alone, as Tables 5 and 12 have it."""
    import timm

    import stvit  # noqa: F401 (registers the models)
    from analysis.shared.counting import count

    model = timm.create_model(row.model, features_only=True, **row.args).eval().requires_grad_(False)
    return int(count(model, (1, 3, SIDE, SIDE)).total)


def run(cells: list[DenseCell], folder: Path = CELLS, scratch: Path = SCRATCH, **how) -> int:
    """Train what has no record yet; ``how``: jobs, backend and minutes of ``analysis.shared.cells.run_missing``."""
    return trained.run_missing(cells, run_cell, described, folder, scratch, **how)


def described(cell: DenseCell, record: dict) -> str:
    score, seconds = record["test"][cell.study.headline], record["seconds"]["training_cpu"]
    return (
        f"{cell.study.task} {cell.row.name}, seed {cell.seed}: "
        f"{cell.study.headline} {score:.2f} ({seconds:.0f} s of CPU to train)"
    )


def study_command(
    name: str, about: str, plan: Callable[[tuple[int, ...]], list[DenseCell]], argv: list[str] | None
) -> int:
    """``python -m NAME``: train one study's cells that have no record yet."""
    parser = Parser(prog=f"python -m {name}", description=about)
    parser.add_argument("--seeds", type=at_least(1), default=len(SEEDS), help=f"seeds a row ({len(SEEDS)})")
    loop.add_arguments(parser)
    args = parser.parse_args(argv)
    run(plan(tuple(range(args.seeds))), **loop.arguments_of(args))
    return 0
