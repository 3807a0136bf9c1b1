"""Training: the same weights whether a run was broken or not, in one process or two; errors that say what to do."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from branches import TRAIN, branch
from safetensors.torch import load_file
from torch import nn

from stvit.checkpoints import CheckpointError, load_checkpoint
from stvit.train import NotFinite, Trainer, main, train
from stvit.training import journal
from stvit.training.build import build_model
from stvit.training.config import TrainConfig, from_command_line
from stvit.training.recipes import RECIPES
from stvit.training.state import STATE

ROOT = Path(__file__).resolve().parents[2]
SHAPE = dict(img_size=24, patch_size=6, embed_dim=16, depth=4, num_heads=2, mlp_ratio=3)
TINY = dict(SHAPE, num_semantic_tokens=4, stgm_at=2)
SMALL = dict(
    model="stvit_deit_tiny_patch16_224", model_args=TINY, image_size=24, train_images=64, eval_images=32,
    epochs=2, batch_size=16, log_every=1, threads=1, device="cpu", lr=1e-3, opt="adamw",
)  # fmt: skip


def small(out: Path, **changes) -> TrainConfig:
    return TrainConfig.of(**{**SMALL, "out": str(out), **changes})


def words(config: TrainConfig) -> list[str]:
    """``config`` as a command line, so that subprocesses train what the test does."""
    result = []
    for name in (*SMALL, "out"):
        value = getattr(config, name)
        result += [f"--{name.replace('_', '-')}", json.dumps(value) if name == "model_args" else str(value)]
    return result


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in journal.read(out / journal.LOG) if "loss" in line]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_weights_of_the_unbroken_one(tmp_path):
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    config = small(broken, epochs=4, train_images=512)
    process = branch(TRAIN, *words(config))
    deadline = time.monotonic() + 120
    while not (broken / STATE).exists():
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL  # it had not ended

    again = branch(TRAIN, *words(config), said=tmp_path / "said")
    again.join()
    assert again.exitcode == 0 and "resumes after epoch" in (tmp_path / "said").read_text()
    train(small(whole, epochs=4, train_images=512))
    assert same(weights(broken), weights(whole))
    assert losses(broken) == losses(whole)
    assert not list(broken.glob(".saving-*"))


def test_time_before_a_stop_counts(tmp_path):
    stopped = Trainer(small(tmp_path, epochs=2))
    stopped.seconds, stopped.cpu_seconds = 1000.0, 2000.0
    stopped.save = lambda: (Trainer.save(stopped), (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    scores = train(small(tmp_path, epochs=2))
    assert 1000 < scores["seconds"] < 2000 < scores["cpu_seconds"]


@pytest.mark.parametrize("changes", [dict(), dict(ema_decay=0.9, mixup=0.8, smoothing=0.1), dict(opt="muon")])
def test_stopping_between_epochs_changes_nothing(tmp_path, changes):
    train(small(tmp_path / "whole", **changes))
    stopped = Trainer(small(tmp_path / "broken", **changes))
    stopped.save = lambda: (Trainer.save(stopped), (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    train(small(tmp_path / "broken", **changes))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "broken"))
    assert losses(tmp_path / "whole") == losses(tmp_path / "broken")


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    train(small(one))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "stvit.train", *words(small(two))]
    subprocess.run(
        command,
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert len(losses(one)) == 8
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    accuracy = [
        [line["top1"] for line in journal.read(out / journal.LOG) if "top1" in line] for out in (one, two)
    ]
    assert accuracy[0] == accuracy[1]


def test_a_run_that_has_ended_says_the_same_again(tmp_path):
    first = train(small(tmp_path, epochs=1))
    log = (tmp_path / journal.LOG).read_text()
    again = train(small(tmp_path, epochs=1))
    assert first == again and (tmp_path / journal.LOG).read_text() == log
    assert json.loads((tmp_path / "model" / "record.json").read_text())["top1"] == first["top1"]


def test_photographs_resume_exactly_too(tmp_path):
    data = str(folder_of_photographs(tmp_path / "photos"))
    changes = dict(
        data=data, batch_size=8, workers=1, train_images=0, eval_images=0, auto_augment="rand-m5-n1"
    )
    train(small(tmp_path / "whole", **changes))
    stopped = Trainer(small(tmp_path / "broken", **changes))
    stopped.save = lambda: (Trainer.save(stopped), (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    train(small(tmp_path / "broken", **changes))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "broken"))


def test_seeds_differ_and_repeat(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(small(tmp_path / name, epochs=1, seed=seed))
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert same(a, b) and not same(a, c)


def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_batch(tmp_path):
    with pytest.raises(NotFinite, match=r"the loss is (nan|inf) in epoch 1 at step \d.*not_finite.pt"):
        train(small(tmp_path, opt="sgd", lr=1e30, warmup_epochs=0, epochs=3))
    saved = torch.load(tmp_path / "not_finite.pt", weights_only=True)
    assert saved["images"].shape == (16, 3, 24, 24) and saved["targets"].shape == (16,)
    assert saved["step"] == len(losses(tmp_path)) and saved["model"].keys()


def test_the_command_line_reports_errors_without_a_traceback(tmp_path, capsys):
    assert main([*words(small(tmp_path)), "--model", "no_such_model"]) == 1
    assert "no model 'no_such_model' is registered" in capsys.readouterr().out


def folder_of_photographs(root: Path) -> Path:
    from PIL import Image

    chance = torch.Generator().manual_seed(0)
    for split, count in (("train", 8), ("validation", 3)):
        for shade, name in ((40, "ash"), (120, "birch"), (200, "cedar")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                noise = torch.randint(-30, 30, (40, 40, 3), generator=chance)
                pixels = (noise + shade).clamp(0, 255).to(torch.uint8).numpy()
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def test_an_imagenet_style_folder_trains_by_the_same_command(tmp_path, capsys):
    data, out = folder_of_photographs(tmp_path / "photos"), tmp_path / "run"
    command = [
        *words(small(out)), "--data", str(data), "--batch-size", "8", "--workers", "0",
        "--train-images", "0", "--eval-images", "0", "--auto-augment", "rand-m5-n1", "--reprob", "0.2",
    ]  # fmt: skip
    assert main(command) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["images"] == 9
    model = load_checkpoint(out / "model")
    assert model.num_classes == 3 and len(losses(out)) == 6
    record = json.loads((out / "model" / "record.json").read_text())
    assert record["config"]["data"] == str(data) and (out / journal.CURVES).exists()


def test_a_part_of_a_folder_can_be_asked_for(tmp_path):
    from stvit.data.folders import open_folder

    data = str(folder_of_photographs(tmp_path))
    part = open_folder(small(tmp_path, train_images=10), data, training=True)
    part.transform = lambda image: image.size
    assert len(part) == 10 and part[0][0] == (40, 40) and part.reader.class_to_idx["birch"] == 1
    assert len(open_folder(small(tmp_path, train_images=0), data, training=True)) == 24


def test_a_folder_that_is_none_says_what_is_wanted(tmp_path, capsys):
    assert main([*words(small(tmp_path / "out")), "--data", str(tmp_path)]) == 1
    assert "holds train/CLASS/*.jpg" in capsys.readouterr().out


def test_another_configuration_does_not_go_on_with_a_run(tmp_path, capsys):
    train(small(tmp_path, epochs=1))
    with pytest.raises(
        ValueError, match=r"with other options \(epochs was 1, is 2; lr was 0.001, is 0.5\).*--restart"
    ):
        Trainer(small(tmp_path, epochs=2, lr=0.5))
    assert len(losses(tmp_path)) == 4
    train(small(tmp_path, epochs=2, lr=0.5, restart=True))
    assert len(losses(tmp_path)) == 8


def test_a_teacher_is_followed(tmp_path):
    dense = dict(img_size=24, patch_size=6, embed_dim=16, depth=2, num_heads=2)
    teacher = small(tmp_path / "teacher", model="micro_deit", model_args=dense, epochs=1)
    train(teacher)
    changes = dict(distill_from=str(tmp_path / "teacher" / "model"), distill_weight=1.0, epochs=1)
    student = Trainer(small(tmp_path / "student", **changes))
    images, targets = next(iter(student.source.train(0)))
    logits = student.criterion.teacher(images).log_softmax(-1)
    loss = student.criterion(lambda x: logits, images, targets)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert student.criterion(student.plain, images, targets) > 0
    assert not any(p.requires_grad for p in student.criterion.teacher.parameters())


def test_keep_rates_follow_their_schedule_and_decisions_their_ratio(tmp_path):
    trainer = Trainer(
        small(tmp_path / "evit", model="micro_evit", model_args=SHAPE, keep_rate=0.5, keep_rate_epochs=2)
    )
    rates = []
    for trainer.epoch in range(4):
        trainer.begin_epoch()
        rates.append(next(iter(trainer.plain.reductions.values())).keep_rate)
    assert rates == pytest.approx([1.0, 0.75, 0.5, 0.5])
    decider = small(tmp_path / "dynamic", model="micro_dynamicvit", model_args=SHAPE, epochs=1)
    with_ratio, without = (
        Trainer(decider),
        Trainer(small(tmp_path / "other", model="micro_dynamicvit", model_args=SHAPE, ratio_weight=0.0)),
    )
    images, targets = next(iter(with_ratio.source.train(0)))
    values = []
    for trainer in (with_ratio, without):
        torch.manual_seed(0)
        values.append(trainer.criterion(trainer.plain.train(), images, targets).item())
    assert values[0] > values[1]


def test_weights_to_start_from(tmp_path):
    train(small(tmp_path / "first", epochs=1))
    config = small(tmp_path / "second", init=str(tmp_path / "first" / "model"))
    started = build_model(config, 12)
    assert same(dict(started.state_dict()), weights(tmp_path / "first"))
    with pytest.warns(UserWarning, match="missing head"):
        other = build_model(config, 5)  # another number of classes: a fresh head
    assert isinstance(other.head, nn.Linear) and other.head.out_features == 5
    assert torch.equal(other.norm.weight, started.norm.weight)


def test_a_deit_starts_a_stvit_and_what_does_not_fit_is_refused(tmp_path):
    import timm

    deit = timm.create_model("deit_tiny_patch16_224", num_classes=12, **SHAPE)
    torch.save(deit.state_dict(), tmp_path / "deit.pth")
    with pytest.warns(UserWarning, match="missing blocks.2.centers.weight"):
        model = build_model(small(tmp_path, init=str(tmp_path / "deit.pth")), 12)
    assert torch.equal(model.pos_embed, deit.pos_embed[:, 1:])
    assert torch.equal(model.blocks[3].mlp.fc1.weight, deit.blocks[3].mlp.fc1.weight)
    wide = dict(TINY, embed_dim=32)
    with pytest.raises(CheckpointError, match="shapes differ"):
        build_model(small(tmp_path, init=str(tmp_path / "deit.pth"), model_args=wide), 12)


def test_a_model_without_a_keep_rate_has_none_to_schedule(tmp_path):
    with pytest.raises(ValueError, match="has no keep rate"):
        Trainer(small(tmp_path, keep_rate=0.7))


def test_recipes_stand_under_what_is_given():
    config = from_command_line(
        ["--recipe", "deit", "--lr", "5e-4", "--model-args", "depth=3", "pooling=mean"]
    )
    assert (config.lr, config.epochs, config.mixup) == (5e-4, 300, RECIPES["deit"]["mixup"])
    assert config.model_args == {"depth": 3, "pooling": "mean"}
    micro = TrainConfig.of(model_args={"depth": 3})
    assert micro.model_args == {**RECIPES["micro"]["model_args"], "depth": 3}
    assert TrainConfig.of().recipe == "micro" and TrainConfig.of(data="photos").recipe == "deit"
    assert TrainConfig.of(data="photos", model="stvit_swin_tiny_patch4_window7_224").recipe == "swin"
    with pytest.raises(ValueError, match="unknown recipe 'none'; choose one of deit"):
        TrainConfig.of(recipe="none")


def test_every_option_has_help_and_every_recipe_known_options():
    fields = {f.name: f for f in TrainConfig.__dataclass_fields__.values()}
    assert all(f.metadata["help"] for f in fields.values())
    assert all(set(recipe) <= set(fields) for recipe in RECIPES.values())


def test_the_journal_survives_an_unfinished_line(tmp_path):
    log = tmp_path / journal.LOG
    log.write_text('{"epoch": 0, "loss": 1.0}\n{"epoch": 1, "loss": 0.5}\n{"epoch": 1, "lo')
    journal.Journal(tmp_path, epoch=1)
    assert log.read_text() == '{"epoch": 0, "loss": 1.0}\n'
