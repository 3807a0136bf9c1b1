"""One cell (``analysis.shared.cells``): a micro video model trained from one seed on moving scenes."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from analysis.formats import dump
from analysis.results import HOME, RESULTS, digest
from analysis.shared import cells as trained
from analysis.shared.cells import TrainedCell

CELLS, CHECKPOINTS = RESULTS / "video" / "cells", RESULTS / "video" / "checkpoints"
SCRATCH, CACHE = HOME / ".cache" / "video", HOME / ".cache" / "clips"
SEEDS, SHIPPED_SEED = (0, 1, 2), 0
EPOCHS = (1, 3)  # passes over the training clips: is a difference one of how fast a model learns?
TEST_CLIPS, CHECK_CLIPS = 4096, 512
TRAINING = dict(
    recipe="micro_video", data="clips", image_size=32, clip_length=8, train_images=4096, eval_images=512,
    log_every=32, threads=1, device="cpu",
)  # fmt: skip
MODELS = {"micro_video_swin": "Video Swin", "micro_stvit_video_swin": "STViT on Video Swin"}
DENSE, SEMANTIC = MODELS


@dataclass(frozen=True)
class Cell(TrainedCell):
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


def plan(seeds=SEEDS, models=tuple(MODELS)) -> list[Cell]:
    return [Cell(model, seed, epochs) for epochs in EPOCHS for seed in seeds for model in models]


def record_of(cell: Cell, folder: Path = CELLS) -> dict | None:
    return trained.read(cell, folder)


def run_cell(cell: Cell, folder: Path = CELLS, scratch: Path = SCRATCH, shelf: Path = CHECKPOINTS) -> dict:
    """Train (or go on training) and test one cell, write its record, and ship the first seed's model."""
    from stvit.checkpoints import load_checkpoint

    def measure(model) -> dict:
        own = {"model": cell.model, "epochs": cell.epochs}
        return {**own, "test": test(model), "multiply_adds": multiply_adds(cell.model)}

    done = record_of(cell, folder)
    out = scratch / cell.address
    record = done or trained.run(cell, folder, out, CACHE, load_checkpoint, measure)
    if not done and (cell.seed, cell.epochs) == (SHIPPED_SEED, EPOCHS[-1]):
        ship(cell, record, out / "model", shelf)
    return record


def ship(cell: Cell, record: dict, source: Path, shelf: Path = CHECKPOINTS) -> Path:
    """The trained model as a folder that ``stvit.load_checkpoint`` reads, with the cell's record."""
    target = shelf / cell.model
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target)
    dump(record, target / "record.json")
    halve(target)
    return target


def halve(folder: Path, dtype: str = "float16") -> dict:
    """Keep a shipped model's weights in half precision, and record what they count then."""
    import torch

    from stvit.checkpoints import load_checkpoint, recast_checkpoint

    recast_checkpoint(folder, getattr(torch, dtype))
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    first = test(load_checkpoint(folder).eval(), CHECK_CLIPS)["first"]
    found = {"weights": digest(folder / "model.safetensors"), "shipped": {"dtype": dtype, "first": first}}
    dump({**record, **found}, folder / "record.json")
    return found


def test(model, clips: int = TEST_CLIPS) -> dict:
    """Right answers on the first test clips, and how often each motion is told as each."""
    import torch

    from stvit.data.clips import Clips, moving
    from stvit.data.drawn import drawn_batches
    from stvit.data.scenes import MOTIONS
    from stvit.evaluate import half_width

    size, frames = TRAINING["image_size"], TRAINING["clip_length"]
    held = Clips(moving(size), frames, "test", clips, str(CACHE))
    with torch.inference_mode():
        told = torch.cat([model(x).argmax(1) for x, _ in drawn_batches(held)])
    right = told == held.labels
    confusion = torch.zeros(len(MOTIONS), len(MOTIONS), dtype=torch.long)
    confusion.index_put_((held.labels, told), torch.ones_like(told), accumulate=True)
    top1 = 100 * int(right.sum()) / clips
    return {
        "clips": clips,
        "right": int(right.sum()),
        "top1": round(top1, 4),
        "half_width": round(half_width(top1, clips), 4),
        "first": {"clips": min(CHECK_CLIPS, clips), "right": int(right[:CHECK_CLIPS].sum())},
        "confusion": confusion.tolist(),
    }


def multiply_adds(name: str, shape: tuple[int, ...] | None = None) -> int:
    import timm
    import torch

    import stvit  # noqa: F401  registers its models
    from analysis.shared.counting import count

    with torch.device("meta"):
        model = timm.create_model(name).eval()
    return int(count(model, shape or (1, *model.pretrained_cfg["input_size"])).total)
