"""Detection on scenes: Cascade Mask R-CNN over micro backbones, one record for each model and seed.

Swin against STViT-R, with dumbbell units and without, with reused semantic tokens: the rows of Tables 5 and
9. All rows share heads, optimizer, images and their order by seed; nothing is pretrained. Rows are compared
by differences within a seed.
"""

from __future__ import annotations

from analysis.commands import command
from analysis.dense.cells import CACHE, SEEDS, SIDE, DenseCell, TaskStudy, study_command
from analysis.dense.cells import plan as plan_study

TRAINING = dict(
    task="detect", data="scenes", image_size=SIDE, train_images=3072, eval_images=64, epochs=1, batch_size=16,
    opt="muon", lr=0.02, weight_decay=0.05, warmup_epochs=0.1, warmup_lr=2e-4, min_lr=0.0, log_every=16,
    threads=1, device="cpu",
)  # fmt: skip
TEST_IMAGES = 1024
BATCH = 32


def heads() -> dict:
    from stvit.dense.detection import PRESETS

    return PRESETS["micro"]


def test(model, images: int = TEST_IMAGES) -> dict:
    """AP of boxes and masks on the test split, by the size of objects, and how many of each size there are."""
    from stvit.data.objects import SceneObjects
    from stvit.data.scenes import SceneConfig, sized
    from stvit.dense.detection.evaluate import evaluate
    from stvit.dense.detection.source import collate, scene_sizes

    scenes = sized(SceneConfig(), SIDE)
    held, sizes = SceneObjects(scenes, "test", images, CACHE), scene_sizes(scenes)
    parts = [range(start, min(start + BATCH, images)) for start in range(0, images, BATCH)]
    found = evaluate(model, (collate([held[i] for i in part]) for part in parts), sizes)
    areas = [float(area) for i in range(images) for area in held[i][1]["area"]]
    counts = {name: sum(low <= area < high for area in areas) for name, (low, high) in sizes.items()}
    return {
        **{name: round(v, 4) if isinstance(v, float) else v for name, v in found.items()},
        "objects_by_size": counts,
        "sizes": {name: [round(side, 2) for side in limits] for name, limits in sizes.items()},
    }


def study() -> TaskStudy:
    return TaskStudy("detect", "ap", TRAINING, heads(), test, TEST_IMAGES)


def plan(seeds: tuple[int, ...] = SEEDS) -> list[DenseCell]:
    return plan_study(study(), seeds)


@command("analysis.dense.detection")
def main(argv: list[str] | None = None) -> int:
    return study_command("analysis.dense.detection", __doc__, plan, argv)


if __name__ == "__main__":
    raise SystemExit(main())
