"""Tasks: one loop for all, classification as it was, targets of any nesting, errors that name the remedy."""

import json
import sys

import pytest
import torch
from torch import nn

from stvit.train import NotFinite, Trainer, headline, train
from stvit.training import journal, state, tasks
from stvit.training.config import TrainConfig, usual_recipe

SHAPE = dict(img_size=24, patch_size=6, embed_dim=16, depth=2, num_heads=2, mlp_ratio=3)
SMALL = dict(
    model="micro_deit", model_args=SHAPE, image_size=24, train_images=32, eval_images=16, epochs=1,
    batch_size=16, log_every=1, threads=1, device="cpu", lr=1e-3, opt="adamw",
)  # fmt: skip


class Boxes:
    """Batches as detectors have them: images of several sizes, a dict for each."""

    steps, class_names = 2, ("a", "b")

    def train(self, epoch):
        for _ in range(self.steps):
            images = [torch.ones(3, 4, 6), torch.ones(3, 5, 4)]
            yield images, [{"boxes": torch.ones(n, 4), "sizes": (4, n)} for n in (1, 2)]

    evaluate = train


class Toy:
    """The smallest task: a scale that ought to become nought."""

    headline = "ap"
    nan = False

    def open_source(self, config, share):
        return Boxes()

    def build_model(self, config, source):
        return nn.Linear(1, 1, bias=False)

    def criterion(self, config, source, model, device):
        def loss(forward, images, targets):
            count = sum(
                image.mean() * target["boxes"].sum() for image, target in zip(images, targets, strict=True)
            )
            return forward(count[None]).square().sum() * (torch.nan if self.nan else 1)

        return loss

    def evaluate(self, model, source, device):
        return {"images": 4, "ap": 25.0, "ap_half": 1.5, "by_size": {"small": 10.0}}

    def export(self, model, folder, record):
        folder.mkdir(exist_ok=True)
        (folder / "record.json").write_text(json.dumps(record))


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(tasks.TASKS, "toy", f"{__name__}:Toy")
    monkeypatch.setattr(tasks, "import_module", sys.modules.__getitem__)


def test_a_task_with_nested_targets_goes_through_the_same_loop(toy, tmp_path, capsys):
    scores = train(TrainConfig.of(**{**SMALL, "task": "toy", "out": str(tmp_path), "epochs": 2}))
    lines = journal.read(tmp_path / journal.LOG)
    assert [line["ap"] for line in lines if "ap" in line] == [25.0, 25.0]
    assert len([line for line in lines if "loss" in line]) == 4
    assert scores["by_size"] == {"small": 10.0} and "held_out_loss" not in scores
    record = json.loads((tmp_path / "model" / "record.json").read_text())
    assert record["config"]["task"] == "toy" and record["ap"] == 25.0
    assert train(TrainConfig.of(**{**SMALL, "task": "toy", "out": str(tmp_path), "epochs": 2})) == scores


def test_nested_batches_are_kept_when_the_loss_is_not_finite(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(Toy, "nan", True)
    with pytest.raises(NotFinite):
        train(TrainConfig.of(**{**SMALL, "task": "toy", "out": str(tmp_path)}))
    saved = torch.load(tmp_path / "not_finite.pt", weights_only=True)
    assert [image.shape for image in saved["images"]] == [(3, 4, 6), (3, 5, 4)]
    assert saved["targets"][1]["boxes"].shape == (2, 4) and saved["targets"][1]["sizes"] == (4, 2)


def test_headlines_are_written_as_people_write_them():
    assert headline("top1", {"top1": 81.25, "top1_half": 0.5}) == "top-1 81.25 ± 0.50 %"
    assert headline("miou", {"miou": 48.3}) == "mIoU 48.30 %"


def test_classification_says_what_it_said(tmp_path):
    train(TrainConfig.of(**SMALL, out=str(tmp_path)))
    steps, last = (journal.read(tmp_path / journal.LOG)[i] for i in (0, -1))
    assert list(steps) == ["epoch", "step", "loss", "lr"]
    assert list(last) == [
        "images", "top1", "top1_half", "top5", "calibration_error", "epoch", "held_out_loss", "seconds", "cpu_seconds"
    ]  # fmt: skip


def test_the_task_leaves_the_addresses_of_finished_trainings_as_they_were():
    assert "task" not in TrainConfig.of(**SMALL).chosen()
    assert TrainConfig.of(**SMALL, task="segment").chosen()["task"] == "segment"


def test_a_state_from_before_an_option_existed_goes_on(tmp_path):
    trainer = Trainer(TrainConfig.of(**SMALL, out=str(tmp_path)))
    trainer.save()
    saved = torch.load(tmp_path / state.STATE, weights_only=True)
    del saved["config"]["task"]
    state.write(saved, tmp_path / state.STATE)
    assert state.read(tmp_path, trainer.config)["epoch"] == 0
    with pytest.raises(ValueError, match="task was 'classify', is 'toy'"):
        state.read(tmp_path, TrainConfig.of(**SMALL, task="toy", out=str(tmp_path)))


def test_recipes_follow_the_task():
    assert usual_recipe({"task": "segment"}) == "micro_segment"
    assert usual_recipe({"task": "segment", "data": "ade"}) == "upernet"
    assert usual_recipe({"task": "detect", "data": "coco"}) == "cascade_mask_rcnn"


def test_an_unknown_task_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="unknown task 'paint'; choose one of classify, segment, detect"):
        Trainer(TrainConfig.of(**SMALL, task="paint", out=str(tmp_path)))


@pytest.mark.parametrize("option", [dict(mixup=0.8), dict(keep_rate=0.7), dict(distill_from="timm:resnet18")])
def test_options_that_a_dense_task_has_no_use_for_are_refused(tmp_path, option):
    name = next(iter(option)).replace("_", "-")
    with pytest.raises(ValueError, match=f"--{name} is for classification, --task segment has no use for it"):
        Trainer(TrainConfig.of(task="segment", out=str(tmp_path), **option))


def test_poly_and_multistep_schedules_reach_what_they_should():
    from stvit.training.build import build_schedule

    def rates(**changes):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        config = TrainConfig.of(
            **{**SMALL, "lr": 1.0, "min_lr": 0.0, "warmup_epochs": 0, "epochs": 4, **changes}
        )
        schedule = build_schedule(config, optimizer, 10)
        found = []
        for step in range(40):
            schedule.step_update(step)
            found.append(optimizer.param_groups[0]["lr"])
        return found

    poly = rates(sched="poly", decay_rate=1.0)
    assert poly == pytest.approx([1 - step / 40 for step in range(40)])
    steps = rates(sched="multistep", milestones="2,3", decay_rate=0.1)
    assert (steps[5], steps[25], steps[35]) == pytest.approx((1.0, 0.1, 0.01))
