"""What is left beside a training: a card whose command gives the run again, curves in TensorBoard, and no guess."""

import re
import shlex

import pytest

from stvit import extras
from stvit.train import main, train
from stvit.training import card, journal
from stvit.training.config import TrainConfig, from_command_line

SHAPE = dict(img_size=24, patch_size=6, embed_dim=16, depth=4, num_heads=2, mlp_ratio=3)
SMALL = dict(
    model="stvit_deit_tiny_patch16_224", model_args=dict(SHAPE, num_semantic_tokens=4, stgm_at=2), image_size=24,
    train_images=64, eval_images=32, epochs=2, batch_size=16, log_every=1, threads=1, device="cpu", lr=1e-3,
    opt="adamw",
)  # fmt: skip

CONFIGS = {
    "scenes": SMALL,
    "micro, its recipe's own values": dict(data="scenes", model="micro_stvit"),
    "values that a recipe overrides": dict(
        model="micro_stvit", epochs=300, weight_decay=0.05, train_images=0
    ),
    "a base": dict(base="deit_tiny_patch16_224", method="bat", keep_rate=0.7, data="some photographs"),
    "a small set": dict(data="fashion_mnist", padding=0.125),
    "distilled": dict(task="distill", base="dinov2_small", method="stvit", tokens=16, full=True),
}


@pytest.mark.parametrize("given", CONFIGS.values(), ids=CONFIGS)
def test_the_command_of_a_card_gives_the_same_configuration(given):
    config = TrainConfig.of(**given)
    program, *words = shlex.split(card.command(config))[2:]
    again = from_command_line(words)
    assert program == "stvit.train" and again.identity() == config.identity() and again.out == config.out


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    pytest.importorskip("tensorboard")
    out = tmp_path_factory.mktemp("run")
    config = TrainConfig.of(**SMALL, out=str(out), track="tensorboard")
    return out, train(config)


def test_the_card_tells_scores_budget_and_versions(run):
    out, scores = run
    text = (out / "model" / "README.md").read_text()
    assert f"top-1 {scores['top1']:.2f} ± {scores['top1_half']:.2f} (95 % interval) %" in text
    assert (
        "2 of 2 passes over the data, 16 images a step" in text and "64 training images of 24 pixels" in text
    )
    assert re.search(r"STViT, [\d,]+ parameters", text) and re.search(r"stvit [\d.]+, torch [\d.]+", text)
    assert 'stvit.load_checkpoint("this folder")' in text and "--epochs 2" in text


def test_tensorboard_has_the_journals_curves(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out, scores = run
    events = EventAccumulator(str(out / "stvit"))
    events.Reload()
    lines = [line for line in journal.read(out / journal.LOG) if "loss" in line]
    assert [event.step for event in events.Scalars("loss")] == [line["step"] for line in lines]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(
        [line["loss"] for line in lines]
    )
    assert events.Scalars("top1")[-1].value == pytest.approx(scores["top1"])


def test_resume_auto_begins_and_must_asks_for_a_run(tmp_path, capsys, run):
    words = shlex.split(card.command(TrainConfig.of(**SMALL, out=str(tmp_path / "new"))))[3:]
    assert main([*words, "--resume", "must"]) == 1
    assert "last.pt is not there" in capsys.readouterr().out
    there = [*words[:-1], str(run[0])]
    assert main([*there, "--resume", "must"]) == main([*there, "--resume", "auto"]) == 0
    assert main([*there, "--resume", "maybe"]) == 1
    assert "--resume is 'maybe'; choose one of auto, must" in capsys.readouterr().out


def test_a_tracker_that_is_not_known_or_not_installed_is_one_line(tmp_path, capsys, monkeypatch):
    words = shlex.split(card.command(TrainConfig.of(**SMALL, out=str(tmp_path / "new"))))[3:]
    assert main([*words, "--track", "tensorbord"]) == 1
    assert "--track is 'tensorbord'; choose from tensorboard, wandb" in capsys.readouterr().out

    def missing(name: str):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(extras, "import_module", missing)
    assert main([*words, "--track", "tensorboard"]) == 1
    assert "pip install 'stvit[track]'" in capsys.readouterr().out
