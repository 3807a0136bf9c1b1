"""What recipes say beyond timm's options: drop path by size, repeated augmentation, the backbone's own rate."""

import pytest
import timm
import torch
from photographs import write_photographs
from torch import nn

from stvit.data.opened import Share
from stvit.training.build import build_optimizer, build_schedule
from stvit.training.classify import Classify
from stvit.training.config import TrainConfig
from stvit.training.recipes import RECIPES
from stvit.training.repeats import SeededRepeats


@pytest.mark.parametrize(
    ("model", "rate"),
    [
        ("swin_tiny_patch4_window7_224", 0.2),
        ("stvit_swin_small_patch4_window7_224", 0.3),
        ("stvit_r_swin_base_patch4_window7_224", 0.5),
        ("swin_large_patch4_window7_224", 0.2),
    ],
)
def test_stochastic_depth_grows_with_swins_size(model, rate):
    assert TrainConfig.of(recipe="swin", model=model).drop_path == rate
    assert TrainConfig.of(recipe="swin", model=model, drop_path=0.05).drop_path == 0.05


def test_deit_is_trained_with_three_copies_of_each_image():
    assert TrainConfig.of(data="photos").repeats == 3 and TrainConfig.of(data="scenes").repeats == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_repeated_images_lie_in_one_batch_of_all_processes(processes):
    """An epoch has as many images as the data set; each that is drawn is drawn three times."""
    parts = [SeededRepeats(range(12), 3, 0, Share(rank, processes)) for rank in range(processes)]
    for part in parts:
        part.set_epoch(1)
    drawn = [list(part) for part in parts]
    together = [image for step in zip(*drawn, strict=True) for image in step]
    assert len(together) == 12
    assert all(len(set(together[start : start + 3])) == 1 for start in range(0, 12, 3))
    assert len(set(together)) == 4


def test_orders_follow_from_seed_and_epoch():
    def order(seed, epoch):
        sampler = SeededRepeats(range(50), 2, seed, Share())
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 1) == order(0, 1) and len({tuple(order(s, e)) for s in (0, 1) for e in (0, 1)}) == 4


def test_repeats_reach_the_batches(tmp_path):
    data = write_photographs(tmp_path, train=6, validation=2, size=24)
    config = TrainConfig.of(
        data=str(data), image_size=24, batch_size=6, workers=0, repeats=3, auto_augment="", reprob=0.0,
        mixup=0.0, cutmix=0.0, model="micro_deit",
    )  # fmt: skip
    source = Classify().open_source(config, Share())
    assert source.steps == 2
    for images, labels in source.train(0):
        assert images.shape == (6, 3, 24, 24)
        assert labels[:3].unique().numel() == labels[3:].unique().numel() == 1
        assert not images[0].equal(images[1])  # augmented each by itself


def rates(config: TrainConfig, model: nn.Module) -> dict[str, set[float]]:
    optimizer = build_optimizer(config, model)
    build_schedule(config, optimizer, 10).step_update(5)
    names = {id(p): name for name, p in model.named_parameters()}
    found: dict[str, set[float]] = {"head": set(), "backbone": set()}
    for group in optimizer.param_groups:
        for p in group["params"]:
            found["head" if names.pop(id(p)).startswith("head.") else "backbone"].add(group["lr"])
    assert not names  # each parameter is in one group
    return found


@pytest.mark.parametrize("opt", ["adamw", "muon", "sgd"])
@pytest.mark.parametrize("layer_decay", [0.0, 0.8])
def test_the_backbone_has_a_rate_of_its_own(opt, layer_decay):
    model = timm.create_model("micro_video_swin")
    shared = dict(
        opt=opt,
        lr=1.0,
        warmup_epochs=0,
        epochs=4,
        min_lr=0.0,
        model="micro_video_swin",
        layer_decay=layer_decay,
    )
    one, tenth = (rates(TrainConfig.of(**shared, backbone_rate=rate), model) for rate in (1.0, 0.1))
    assert tenth["head"] == one["head"]
    assert sorted(tenth["backbone"]) == pytest.approx([rate / 10 for rate in sorted(one["backbone"])])


def test_video_swins_recipe_has_it():
    assert RECIPES["video_swin"]["backbone_rate"] == 0.1 and RECIPES["video_swin"]["lr"] == 3e-4


def test_a_step_moves_the_backbone_by_its_share():
    model = nn.ModuleDict({"body": nn.Linear(3, 3), "head": nn.Linear(3, 3)})
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    config = TrainConfig.of(
        opt="sgd", lr=1.0, weight_decay=0.0, warmup_epochs=0, min_lr=0.0, epochs=1, backbone_rate=0.1
    )
    optimizer = build_optimizer(config, model)
    build_schedule(config, optimizer, 10).step_update(0)
    optimizer.step()
    moved = {name: (before[name] - p).mean().item() for name, p in model.named_parameters()}
    assert (
        moved["head.weight"] == pytest.approx(10 * moved["body.weight"], rel=1e-4)
        and moved["body.weight"] > 0
    )
