"""Segmentation on scenes: UperNet over micro backbones, one record for each model and seed.

Swin against STViT-R, with dumbbell units and without, with reused semantic tokens: the rows of Tables 12
and 9. All rows share heads, optimizer, images and their order by seed; nothing is pretrained. Rows are
compared by differences within a seed.
"""

from __future__ import annotations

from analysis.commands import command
from analysis.dense.cells import CACHE, SIDE, TaskStudy, plan, study_command

TRAINING = dict(
    task="segment", data="scenes", image_size=SIDE, train_images=3072, eval_images=64, epochs=2, batch_size=16,
    opt="muon", lr=0.02, weight_decay=0.05, drop_path=0.0, warmup_epochs=0.2, warmup_lr=2e-4, min_lr=0.0,
    log_every=16, eval_every=2, threads=1, device="cpu",
)  # fmt: skip
HEAD_OPTIONS = dict(channels=32, auxiliary_channels=16, pools=(1, 2, 4))
BATCH = 64


def test(model, images: int) -> dict:
    """Scores from one view of each test scene, and how much of the objects of each size is classified correctly.

    ``model`` is in evaluation mode.
    """
    import torch

    from stvit.data.drawn import normalise
    from stvit.data.maps import SceneMaps
    from stvit.data.scenes import SceneConfig, sized
    from stvit.dense.segmentation.inference import predict
    from stvit.dense.segmentation.scores import create_metrics, scores

    if model.training:
        raise ValueError("a model in training mode is not what is tested: call model.eval() first")
    config = sized(SceneConfig(), SIDE)
    held = SceneMaps(config, "test", images, CACHE)
    metrics, told = create_metrics(len(held.class_names)), []
    for pictures, maps in zip(held.images.split(BATCH), held.maps.split(BATCH), strict=True):
        told.append(predict(model, normalise(pictures)).argmax(1))  # (B, H, W)
        metrics.update(told[-1], maps.long())
    right = torch.cat(told) == held.maps
    return {"images": images, **scores(metrics), "sizes": by_size(right, held.instances, config)}


def by_size(right, instances, config) -> dict:
    """For objects by what is seen of them, thirds of the range of radii: how many, their pixels, those right."""
    import torch

    step = (config.max_radius - config.min_radius) / 3
    limits = [0.0, *(torch.pi * (config.min_radius + i * step) ** 2 for i in (1, 2)), float("inf")]
    keys = torch.arange(len(instances))[:, None, None] * (config.max_objects + 1) + instances  # (N, H, W)
    count = len(instances) * (config.max_objects + 1)
    area = torch.bincount(keys.flatten(), minlength=count)
    good = torch.bincount(keys.flatten(), weights=right.flatten().double(), minlength=count)
    objects = (torch.arange(count) % (config.max_objects + 1) > 0) & (area > 0)  # not the ground
    found = {}
    for name, low, high in zip(("small", "medium", "large"), limits, limits[1:], strict=False):
        these = objects & (area >= low) & (area < high)
        found[name] = {
            "objects": int(these.sum()), "pixels": int(area[these].sum()), "right": int(good[these].sum()),
        }  # fmt: skip
    return found


STUDY = TaskStudy("segment", "miou", TRAINING, HEAD_OPTIONS, test, test_images=2048)


@command("analysis.dense.segmentation")
def main(argv: list[str] | None = None) -> int:
    return study_command("analysis.dense.segmentation", __doc__, lambda seeds: plan(STUDY, seeds), argv)


if __name__ == "__main__":
    raise SystemExit(main())
