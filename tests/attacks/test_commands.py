"""Attacks on the command lines of training and evaluation: one line that says what to do, and an exit status."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import timm
from photographs import write_photographs

import stvit
from stvit.command import one_line, run_command
from stvit.evaluate import main as evaluate
from stvit.train import main as train
from stvit.training.config import from_command_line

ROOT = Path(__file__).resolve().parents[2]
SHAPE = dict(img_size=24, patch_size=6, embed_dim=16, depth=2, num_heads=2)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Everything that the commands are pointed at."""
    root = tmp_path_factory.mktemp("place")
    stvit.save_checkpoint(timm.create_model("micro_deit", **SHAPE), root / "twelve")
    two = timm.create_model("micro_deit", num_classes=2, **SHAPE)
    stvit.save_checkpoint(two, root / "named", class_names=("dog", "cat"))
    stvit.save_checkpoint(two, root / "run" / "model")
    stvit.save_checkpoint(timm.create_model("micro_deit", num_classes=0, **SHAPE), root / "headless")
    write_photographs(root / "photos", train=4, validation=2, size=24)
    for folder in ("empty", "noeval/train/a", "hollow/train/a", "hollow/validation/a"):
        (root / folder).mkdir(parents=True)
    (root / "script.py").write_text("print(1)")
    (root / "dense").mkdir()
    (root / "dense" / "config.json").write_text('{"task": "segment", "arguments": {}}')
    shutil.copy(root / "twelve" / "model.safetensors", root / "dense" / "model.safetensors")
    return root


EVALUATE = {  # command line with {} for the place, and words of the answer
    "missing path": (["{}/missing"], "no checkpoint at {}/missing"),
    "missing below a file": (["{}/script.py/x"], "no checkpoint at"),
    "a script": (["{}/script.py"], "is damaged or not a checkpoint"),
    "an empty folder": (["{}/empty"], "no model.safetensors in the folder {}/empty; it holds nothing"),
    "a folder of models": (["{}"], "no model.safetensors in the folder {}; it holds"),
    "the folder of a run": (["{}/run"], "a run of stvit.train keeps its model in {}/run/model"),
    "a timm name": (["deit_tiny_patch16_224"], "is the name of a model, not a checkpoint"),
    "a dense model": (["{}/dense"], "is not a model configuration: it names no architecture"),
    "no classifier": (["{}/headless"], "has no classifier to evaluate"),
    "negative images": (["{}/twelve", "--images", "-5"], "--images is -5; it must be 0 or more"),
    "no batch": (["{}/twelve", "--batch-size", "0"], "--batch-size is 0; it must be 1 or more"),
    "negative batch": (["{}/twelve", "--batch-size", "-3"], "--batch-size is -3"),
    "negative size": (["{}/twelve", "--image-size", "-1"], "--image-size is -1"),
    "another size": (["{}/twelve", "--images", "8", "--image-size", "50"], "50"),
    "negative workers": (["{}/twelve", "--workers", "-1"], "--workers is -1"),
    "negative seed": (["{}/twelve", "--data-seed", "-1"], "--data-seed is -1"),
    "an unknown device": (["{}/twelve", "--device", "nope"], "--device nope cannot be used here"),
    "a device that is not here": (["{}/twelve", "--device", "cuda:77"], "--device cuda:77 cannot be used here"),
    "missing data": (["{}/twelve", "--data", "{}/nowhere"], "no images in {}/nowhere"),
    "no evaluation images": (["{}/twelve", "--data", "{}/noeval"], "no images in {}/noeval/validation"),
    "hollow data": (["{}/twelve", "--data", "{}/hollow", "--workers", "0"], "."),
    "data of another count": (["{}/twelve", "--data", "{}/photos"], "the model knows 12 classes, {}/photos has 2"),
    "data of other names": (["{}/named", "--data", "{}/photos"], "the classes differ: .*only in the model: cat, dog"),
    "data of clips": (["{}/twelve", "--data", "clips"], "is a model of images, which clips is not"),
    "a cache below a file": (["{}/twelve", "--images", "8", "--cache", "{}/script.py/x"], "."),
}  # fmt: skip


@pytest.mark.parametrize("name", EVALUATE)
def test_evaluate(name, place, capsys):
    line, words = EVALUATE[name]
    assert evaluate([word.format(place) for word in line]) == 2
    said = capsys.readouterr()
    assert not said.out and said.err.startswith("error: ") and said.err.count("\n") == 1
    assert matches(words.format(place), said.err)


TRAIN = {
    "unknown model": (["--model", "stvit_deit_tiny"], "did you mean stvit_deit_tiny_patch16_224"),
    "missing data": (["--data", "{}/nowhere"], "no images in {}/nowhere/train"),
    "hollow data": (["--data", "{}/hollow", "--batch-size", "1"], "."),
    "fewer images than a batch": (["--data", "{}/photos", "--batch-size", "64"], "8 training images"),
    "out below a file": (["--out", "{}/script.py/x"], "cannot write to {}/script.py/x: Not a directory"),
    "out is a file": (["--out", "{}/script.py"], "cannot write to {}/script.py"),
    "unknown task": (["--task", "paint"], "unknown task 'paint'"),
    "unknown optimizer": (["--opt", "sdg"], "sdg"),
    "an argument of no model": (["--model-args", "foo=1"], "foo"),
}
PARSED = {  # what the parser already refuses, with status 2
    "unknown base": (["--base", "deit_tiny_patch16_22"], "did you mean deit_tiny_patch16_224"),
    "a base that is no checkpoint": (["--base", "{}/empty"], "no model.safetensors in the folder {}/empty"),
    "base and model": (["--base", "{}/named", "--model", "micro_deit"], "--base names both the model and"),
    "method without base": (["--method", "bat"], "--method says how to sparsify a base"),
    "unknown method": (
        ["--base", "{}/named", "--method", "nothing"],
        "unknown method 'nothing'; choose one of stvit, bat",
    ),
    "unknown recipe": (["--recipe", "none"], "unknown recipe 'none'; choose one of deit"),
    "no epochs": (["--epochs", "0"], "--epochs is 0; it must be 1 or more"),
    "arguments without values": (["--model-args", "depth"], "model arguments are name=value"),
}
BASES = {
    "layers that are no numbers": (
        ["--method", "evit", "--at", "two"],
        "--at takes layers such as 5 or 4,7,10",
    ),
    "layers that are not there": (["--method", "evit", "--at", "99"], "99"),
    "keep rate of a method without": (["--method", "tome", "--keep-rate", "0.5"], "tome has no keep rate"),
    "keep rate above one": (["--method", "random", "--keep-rate", "1.5"], "1.5"),
}
USUAL = [
    "--model-args", "img_size=24", "patch_size=6", "embed_dim=16", "depth=2", "num_heads=2", "--image-size", "24",
    "--train-images", "16", "--eval-images", "8", "--epochs", "1", "--batch-size", "8", "--workers", "0",
    "--device", "cpu", "--threads", "1",
]  # fmt: skip


@pytest.mark.parametrize("name", TRAIN)
def test_train(name, place, tmp_path, capsys):
    line, words = TRAIN[name]
    given = ["--model", "micro_deit", *USUAL, "--out", str(tmp_path / "out")]
    assert train([*given, *(word.format(place) for word in line)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-1].startswith("error: ") and matches(words.format(place), said[-1])
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", PARSED)
def test_train_before_it_starts(name, place, tmp_path, capsys):
    line, words = PARSED[name]
    with pytest.raises(SystemExit) as ended:
        train([word.format(place) for word in (*line, "--out", str(tmp_path / "out"))])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1 and matches(words.format(place), said)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", BASES)
def test_train_from_a_base(name, place, tmp_path, capsys):
    line, words = BASES[name]
    given = [
        "--base",
        str(place / "named"),
        "--data",
        str(place / "photos"),
        "--batch-size",
        "4",
        "--workers",
        "0",
    ]
    given += ["--device", "cpu", "--threads", "1", "--out", str(tmp_path / "out")]
    assert train([*given, *line]) == 1
    assert matches(words, capsys.readouterr().out.splitlines()[-1])


def matches(words: str, said: str) -> bool:
    import re

    return re.search(words.replace("[", r"\["), said) is not None


@pytest.mark.parametrize("option", ["--base", "--model", "--init"])
def test_a_folder_is_a_base_however_it_is_given(option, place):
    config = from_command_line([option, str(place / "named"), "--data", "photos"])
    assert (config.base, config.init, config.image_size) == (str(place / "named"), "", 24)
    assert config.recipe == "transfer"


def test_a_reader_that_has_seen_enough(place):
    """``… | head -0``: no traceback."""
    command = f"{sys.executable} -m stvit.evaluate {place / 'twelve'} --images 8 | head -c 0"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], cwd=ROOT, capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


def test_messages_of_any_error_are_one_line(capsys):
    def fail():
        raise RuntimeError(
            "Caught X.\nOriginal Traceback (most recent call last):\n  File\nValueError: the cause"
        )

    assert run_command(fail, status=3) == 3
    assert capsys.readouterr().err == "error: the cause\n"
    assert one_line(ValueError("first\nsecond")) == "first" and one_line(RuntimeError()) == "RuntimeError"
    assert one_line(KeyError("name")) == "KeyError: 'name'"
    with pytest.raises(RuntimeError):
        run_command(fail, status=3, debug=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_may_not_be_written(tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert train(["--model", "micro_deit", *USUAL, "--out", str(tmp_path / "out")]) == 1
    assert "Permission denied" in capsys.readouterr().out
