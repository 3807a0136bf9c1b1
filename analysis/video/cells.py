"""One cell (``analysis.shared.cells``): a micro video model trained from one seed on moving scenes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from analysis.results import HOME, RESULTS
from analysis.shared import cells as trained
from analysis.shared.cells import TrainedCell
from analysis.shared.shelf import Shelf, load_classifier

CELLS, CHECKPOINTS = RESULTS / "video" / "cells", RESULTS / "video" / "checkpoints"
SCRATCH, CACHE = HOME / ".cache" / "video", HOME / ".cache" / "clips"
SEEDS, SHIPPED_SEED = (0, 1, 2), 0
EPOCHS = (1, 3)  # passes over the training clips: is a difference one of how fast a model learns?
TEST_CLIPS, CHECK_CLIPS = 4096, 512
TRAINING = dict(
    recipe="micro_video", data="clips", image_size=32, clip_length=8, train_images=4096, eval_images=512,
    log_every=32, threads=1, device="cpu",
)  # fmt: skip
MODELS = {
    "micro_video_swin": "Video Swin",
    "micro_stvit_video_swin": "STViT on Video Swin",
    "micro_stvit_video_swin_clip": "STViT on Video Swin, tokens of the whole clip",
}
DENSE, SEMANTIC, CLIP = MODELS
SHIPPED = (SEMANTIC,)  # the dense one names every motion right, and no figure looks into it


@dataclass(frozen=True)
class VideoCell(TrainedCell):
    """A model from one seed, trained for some passes; seeds pair models: the same clips in the same order."""

    model: str
    seed: int
    epochs: int = 1

    def config(self, **changes):
        from stvit.training.config import TrainConfig

        own = {"model": self.model, "seed": self.seed, "epochs": self.epochs}
        return TrainConfig.of(**{**TRAINING, **own, **changes})

    def content(self) -> dict:
        """What decides the outcome: the training, the clips, the test."""
        from stvit.data.clips import MOVING
        from stvit.data.store import DRAWING

        return {
            "training": self.config().chosen(),
            "scenes": {"drawing": DRAWING, **asdict(MOVING)},
            "test_clips": TEST_CLIPS,
        }


def plan(seeds=SEEDS, models=tuple(MODELS)) -> list[VideoCell]:
    return [VideoCell(model, seed, epochs) for epochs in EPOCHS for seed in seeds for model in models]


def record_of(cell: VideoCell, folder: Path = CELLS) -> dict | None:
    return trained.read(cell, folder)


def run_cell(
    cell: VideoCell, folder: Path = CELLS, scratch: Path = SCRATCH, shelf: Path = CHECKPOINTS
) -> dict:
    """Train one cell or continue its training, test it, write its record, and ship the first seed's model."""

    def measure(model) -> dict:
        own = {"model": cell.model, "epochs": cell.epochs}
        return {**own, "test": test(model), "multiply_adds": multiply_adds(cell.model)}

    out = scratch / cell.address
    record = trained.run(cell, folder, out, CACHE, load_classifier, measure)
    if cell.model in SHIPPED and (cell.seed, cell.epochs) == (SHIPPED_SEED, EPOCHS[-1]):
        replace(SHELF, folder=shelf).ship(cell.model, record, out / "model")
    return record


def run(cells: list[VideoCell], folder: Path = CELLS, scratch: Path = SCRATCH, **how) -> int:
    """Train what has no record yet; ``how``: jobs, backend and minutes of ``analysis.shared.cells.run_missing``."""
    return trained.run_missing(cells, run_cell, described, folder, scratch, **how)


def described(cell: VideoCell, record: dict) -> str:
    found, seconds = record["test"], record["seconds"]
    return (
        f"{cell.model}, seed {cell.seed}, passes {cell.epochs}: {found['top1']:.2f} ± {found['half_width']:.2f} % "
        f"of {found['clips']:,} clips, {seconds['training_cpu']:.0f} s of CPU to train"
    )


def test(model, clips: int = TEST_CLIPS) -> dict:
    """Right answers on the first test clips, and how often each motion is predicted as each."""
    import torch

    from stvit.data.clips import Clips, moving
    from stvit.data.scenes import MOTIONS

    size, frames = TRAINING["image_size"], TRAINING["clip_length"]
    held = Clips(moving(size), frames, "test", clips, str(CACHE))
    predicted = trained.predictions(model, held)
    confusion = torch.zeros(len(MOTIONS), len(MOTIONS), dtype=torch.long)
    confusion.index_put_((held.labels, predicted), torch.ones_like(predicted), accumulate=True)
    return {
        **trained.tally(predicted == held.labels, "clips", CHECK_CLIPS),
        "confusion": confusion.tolist(),
    }


def score(name: str, model) -> dict:
    """Right answers on the first test clips."""
    return {"dtype": "int8", "first": test(model, CHECK_CLIPS)["first"]}


SHELF = Shelf(CHECKPOINTS, score)


def multiply_adds(name: str, shape: tuple[int, ...] | None = None) -> int:
    import timm
    import torch

    import stvit  # noqa: F401  registers its models
    from analysis.shared.counting import count

    with torch.device("meta"):
        model = timm.create_model(name).eval()
    return int(count(model, shape or (1, *model.pretrained_cfg["input_size"])).total)
