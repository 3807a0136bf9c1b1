"""Attacks on training: faults, kills, two processes, and data that changes; one line, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import time
from multiprocessing import Process
from pathlib import Path

import pytest
import torch
from branches import TRAIN, branch
from photographs import write_photographs
from safetensors.torch import load_file

import stvit
from stvit.train import Trainer, main, train
from stvit.training import journal, state
from stvit.training.config import TrainConfig
from stvit.training.lock import FolderLock

ROOT = Path(__file__).resolve().parents[2]
SHAPE = dict(img_size=24, patch_size=6, embed_dim=16, depth=2, num_heads=2, mlp_ratio=3)
SMALL = dict(
    model="micro_deit", model_args=SHAPE, image_size=24, train_images=32, eval_images=16, epochs=2, batch_size=16,
    log_every=1, threads=1, device="cpu", lr=1e-3, opt="adamw", workers=0,
)  # fmt: skip


def small(out: Path, **changes) -> TrainConfig:
    return TrainConfig.of(**{**SMALL, "out": str(out), **changes})


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    one, other = weights(one), weights(other)
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


class Killed(BaseException):
    """What kill -9 leaves: nothing after it runs."""


KILLS = {  # where the process dies, at the how-manyth call of what
    "in the first save": ("torch.save", 1, True),
    "in the second save": ("torch.save", 2, True),
    "in the first export": ("stvit.checkpoints.saving.save_file", 1, True),
    "in the last export": ("stvit.checkpoints.saving.save_file", 2, True),
    "between save and export": ("stvit.train.Trainer.export", 2, False),
}
SCRIPT = """
import importlib, os, signal, sys
from stvit.train import main
place, nth, after, words = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "True", sys.argv[4:]
parts = place.split(".")
for cut in range(len(parts) - 1, 0, -1):
    try:
        owner = importlib.import_module(".".join(parts[:cut]))
        break
    except ModuleNotFoundError:
        pass
for name in parts[cut:-1]:
    owner = getattr(owner, name)
call, calls = getattr(owner, parts[-1]), []
def die(*args, **kwargs):
    calls.append(1)
    if len(calls) == nth:
        if after:
            call(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    return call(*args, **kwargs)
setattr(owner, parts[-1], die)
main(words)
"""


def words(config: TrainConfig) -> list[str]:
    result = []
    for name in (*SMALL, "out"):
        value = getattr(config, name)
        result += [f"--{name.replace('_', '-')}", json.dumps(value) if name == "model_args" else str(value)]
    return result


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("unbroken")
    train(small(out))
    return out


@pytest.mark.slow
@pytest.mark.parametrize("kill", KILLS)
def test_kill_9_and_the_same_command_again(kill, unbroken, tmp_path):
    said = unbroken.parent / "said"
    ended = branch(SCRIPT, *KILLS[kill], *words(small(tmp_path)), said=said)
    ended.join()
    assert ended.exitcode == -signal.SIGKILL, said.read_text()
    train(small(tmp_path))
    assert same(tmp_path, unbroken)
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        path.name for path in unbroken.rglob("*")
    )
    lines = [line for line in journal.read(tmp_path / journal.LOG) if "loss" in line]
    assert lines == [line for line in journal.read(unbroken / journal.LOG) if "loss" in line]


def test_a_model_is_there_after_each_epoch(tmp_path):
    stopped = Trainer(small(tmp_path))
    stopped.export = lambda scores: (Trainer.export(stopped, scores), (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        stopped.run()
    record = json.loads((tmp_path / "model" / "record.json").read_text())
    assert record["epochs"] == 1 and stvit.load_checkpoint(tmp_path / "model").num_classes == 12


HOLDER = "import sys, time; from pathlib import Path; from stvit.training.lock import FolderLock\n"
HOLDER += "lock = FolderLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"


def test_two_processes_in_one_folder(tmp_path, capsys):
    place, held = tmp_path / "place", tmp_path / "held"
    place.mkdir()
    other = branch(HOLDER, place, said=held)
    try:
        while not (held.exists() and held.read_text() == "held\n"):
            assert other.is_alive()
            time.sleep(0.02)
        assert main(words(small(place))) == 1
        said = capsys.readouterr().out
        assert f"error: another training is running in {place} (process {other.pid})" in said
        assert [file.name for file in place.iterdir()] == [".lock"]
    finally:
        other.kill()
        other.join()
    lock = FolderLock(place)  # free as soon as its process is dead
    lock.release()
    assert not list(place.iterdir())


def test_an_error_frees_the_folder(tmp_path, capsys):
    assert main([*words(small(tmp_path)), "--data", str(tmp_path / "nothing")]) == 1
    assert not list(tmp_path.iterdir()) and "error: no images in" in capsys.readouterr().out


@pytest.mark.parametrize("spoil", [b"", b"PK\x03\x04 half of it", b"no state"])
def test_a_damaged_state(spoil, tmp_path, capsys):
    (tmp_path / state.STATE).write_bytes(spoil)
    assert main(words(small(tmp_path))) == 1
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and "last.pt is damaged" in said[0] and "--restart begins the run anew" in said[0]


JOURNALS = {"text": "no json\n", "list": "[1]\n", "bytes": "\udcff\n", "number": "3\n", "null": "null\n"}


@pytest.mark.parametrize("name", JOURNALS)
def test_a_damaged_journal(name, tmp_path):
    path = tmp_path / journal.LOG
    path.write_bytes(b'{"epoch": 0, "loss": 1.0}\n' + JOURNALS[name].encode("utf-8", "surrogateescape"))
    assert journal.read(path) == [{"epoch": 0, "loss": 1.0}]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs"), train=8, validation=4, size=24)


def retold(photographs: Path, to: Path, **moves: str) -> Path:
    """A copy of the photographs by links, with folders of classes under other names ("" leaves one out)."""
    for split in ("train", "validation"):
        for folder in (photographs / split).iterdir():
            name = moves.get(f"{split}_{folder.name}", folder.name)
            if name:
                (to / split).mkdir(parents=True, exist_ok=True)
                (to / split / name).symlink_to(folder)
    return to


MISMATCHED = {
    "one more in training": (
        dict(validation_china=""),
        "train has 2 .*validation 1 .*only in .*train: china",
    ),
    "one more in validation": (
        dict(train_china=""),
        "train has 1 .*validation 2 .*only in .*validation: china",
    ),
    "another name": (dict(validation_china="zebra"), "only in .*train: china; only in .*validation: zebra"),
}


@pytest.mark.parametrize("name", MISMATCHED)
def test_splits_of_other_classes(name, photographs, tmp_path, capsys):
    moves, words_ = MISMATCHED[name]
    data = retold(photographs, tmp_path / "data", **moves)
    with pytest.raises(ValueError, match=words_):
        Trainer(small(tmp_path / "out", data=str(data), train_images=0, eval_images=0, batch_size=4))


def test_classes_that_change_during_a_run(photographs, tmp_path):
    changes = dict(train_images=0, eval_images=0, batch_size=8)
    data = retold(photographs, tmp_path / "data")
    config = small(tmp_path / "out", data=str(data), **changes)
    trainer = Trainer(config)
    trainer.save()
    trainer.close()
    for split in ("train", "validation"):
        (data / split / "china").rename(data / split / "zebra")
    with pytest.raises(
        ValueError, match="began with the classes china, flower, the data has now flower, zebra"
    ):
        Trainer(config)


BAD_NUMBERS = {
    "epochs": 0, "batch_size": 0, "image_size": -1, "lr": -1.0, "workers": -1, "threads": -1, "train_images": -5,
    "eval_images": -5, "log_every": 0, "eval_every": 0, "clip_grad": float("nan"), "weight_decay": float("inf"),
    "drop_path": -0.1, "seed": -1, "repeats": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_NUMBERS)
def test_numbers_that_no_training_has(name, tmp_path):
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is .*; it must be .* or more"):
        small(tmp_path, **{name: BAD_NUMBERS[name]})


REFUSED = {
    "device": (dict(device="cuda:9"), "--device is auto"),
    "precision": (dict(precision="int4"), "unknown precision 'int4'; choose one of no, bf16, fp16"),
    "model": (dict(model="stvit_deit_tiny"), "did you mean stvit_deit_tiny_patch16_224"),
    "near model": (dict(model="micro_stvti"), "did you mean micro_stvit"),
    "method without a base": (dict(method="bat"), "--method says how to sparsify a base"),
    "tokens without a base": (dict(tokens=9), "--tokens says how to sparsify a base"),
    "initial weights that are none": (dict(init="nowhere.pth"), "no checkpoint at nowhere.pth"),
    "a teacher of no name": (dict(distill_from="timm:resnet_of_tomorrow"), "no model 'resnet_of_tomorrow'"),
    "token labels of a plain model": (
        dict(annotator="SELF"),
        "token labels need a model with a head for tokens",
    ),
    "an annotator of other classes": (
        dict(annotator="OTHER"),
        "the annotator knows 5 classes, the data has 12",
    ),
    "more images in a batch than there are": (dict(batch_size=64), "one batch of 64"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Two checkpoints, one of them with other classes."""
    import timm

    folder = tmp_path_factory.mktemp("models")
    stvit.save_checkpoint(timm.create_model("micro_deit", **SHAPE), folder / "SELF")
    stvit.save_checkpoint(timm.create_model("micro_deit", num_classes=5, **SHAPE), folder / "OTHER")
    return folder


@pytest.mark.parametrize("name", REFUSED)
def test_options_that_cannot_be(name, models, tmp_path):
    changes, words_ = REFUSED[name]
    changes = {k: str(models / v) if v in ("SELF", "OTHER") else v for k, v in changes.items()}
    with pytest.raises(ValueError, match=words_):
        train(small(tmp_path, **changes))


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(ValueError, match="no model 'nothing'"):
        main([*words(small(tmp_path)), "--model", "nothing", "--debug"])


def test_errors_of_worker_processes_are_one_line(photographs, tmp_path, capsys, monkeypatch):
    """The message of the original error, which torch hides under a traceback."""
    data = retold(photographs, tmp_path / "data")
    out = tmp_path / "out"
    changed = {
        **SMALL,
        "data": str(data),
        "train_images": 0,
        "eval_images": 0,
        "batch_size": 4,
        "out": str(out),
    }
    trainer = Trainer(TrainConfig.of(**{**changed, "workers": 1}))
    monkeypatch.setattr(trainer.source.loader.dataset, "transform", raise_value_error)
    monkeypatch.setattr("stvit.train.Trainer", lambda config, task=None: trainer)
    assert main([*words(small(out)), "--data", str(data)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-1].startswith("error: ") and "bits must be between" in said[-1]


def raise_value_error(image):
    raise ValueError("bits must be between or equal to 1 and 8")


@pytest.mark.slow
def test_from_pretrained_to_use_killed_twice(tmp_path, capsys):
    """200 JPEGs, the default recipe, a tiny base: killed twice, it ends as if it had not been, at its own size."""
    from stvit.evaluate import main as evaluate

    data = write_photographs(tmp_path / "data", train=80, validation=20, size=64)
    assert len(list(data.rglob("*.jpg"))) == 200
    shape = dict(img_size=48, patch_size=8, embed_dim=24, depth=4, num_heads=2, num_classes=5)
    import timm

    stvit.save_checkpoint(timm.create_model("deit_tiny_patch16_224", **shape), tmp_path / "base")
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    given = [
        "--base",
        str(tmp_path / "base"),
        "--method",
        "bat",
        "--keep-rate",
        "0.7",
        "--at",
        "2,3",
        "--data",
        str(data),
    ]
    given += ["--epochs", "3", "--workers", "0", "--threads", "1", "--device", "cpu"]
    for epoch in (1, 2):
        run = branch(TRAIN, *given, "--out", broken)
        await_epoch(run, broken, epoch)
        run.kill()
        run.join()
        assert run.exitcode == -signal.SIGKILL
    assert main([*given, "--out", str(broken)]) == 0 and main([*given, "--out", str(whole)]) == 0
    assert same(broken, whole) and not list(broken.rglob(".saving-*"))
    model = stvit.load_checkpoint(broken / "model")
    assert type(model).__name__ == "ReducedViT" and model.pretrained_cfg["label_names"] == ("china", "flower")
    assert model.pretrained_cfg["input_size"] == (3, 48, 48)
    capsys.readouterr()
    assert evaluate([str(broken / "model"), "--data", str(data), "--workers", "0", "--json"]) == 0
    scores, record = (
        json.loads(capsys.readouterr().out),
        json.loads((broken / "model" / "record.json").read_text()),
    )
    assert scores["images"] == 40 and scores["loss"] == pytest.approx(record["held_out_loss"], rel=1e-5)


def await_epoch(run: Process, out: Path, epoch: int) -> None:
    """Until the model after this epoch is there."""
    record, deadline = out / "model" / "record.json", time.monotonic() + 400
    while not record.exists() or json.loads(record.read_text())["epochs"] < epoch:
        assert run.is_alive() and time.monotonic() < deadline
        time.sleep(0.05)


def test_the_image_size_is_saved_with_the_model(photographs, tmp_path):
    """A model for any size, trained at 24, is evaluated at 24 and not at its factory's 224."""
    shape = dict(patch_size=8, embed_dim=16, depth=4, num_heads=2, num_semantic_tokens=4, stgm_at=2)
    changes = dict(model="stvit_deit_tiny_patch16_224", train_images=0, eval_images=0, batch_size=8, epochs=1)
    train(small(tmp_path, data=str(photographs), model_args=shape, **changes))
    model = stvit.load_checkpoint(tmp_path / "model")
    assert model.pretrained_cfg["input_size"] == (3, 24, 24)
    assert model.pretrained_cfg["mean"] == pytest.approx((0.485, 0.456, 0.406))
    assert model.pretrained_cfg["label_names"] == ("china", "flower")


def test_the_folder_of_a_killed_run_is_no_litter(tmp_path):
    """Names of what a process that is dead was writing; the next start removes them."""
    (tmp_path / ".saving-12-last.pt").write_text("half")
    (tmp_path / f".saving-{os.uname().nodename}-999999999-log.jsonl").write_text("half")
    trainer = Trainer(small(tmp_path))
    trainer.close()
    assert not list(tmp_path.glob(".*"))
