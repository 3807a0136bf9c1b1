"""Segmenters train, stop, go on, are saved and found again by the one command line."""

import builtins
import json
import sys

import pytest
import timm
import torch
from safetensors.torch import load_file

import stvit
from stvit.checkpoints import CheckpointError
from stvit.data.ade20k import main as write_scenes
from stvit.dense import saved
from stvit.dense.segmentation.evaluate import main as evaluate_main
from stvit.train import Trainer, main, train
from stvit.training import journal
from stvit.training.config import TrainConfig
from stvit.training.recipes import RECIPES

SMALL = dict(
    task="segment", model="micro_swin", image_size=32, train_images=8, eval_images=4, epochs=2, batch_size=4,
    workers=0, log_every=1, threads=1, device="cpu", model_args=dict(depths=[1, 1, 2, 1]),
)  # fmt: skip


def small(out, **changes) -> TrainConfig:
    return TrainConfig.of(**{**SMALL, "out": str(out), **changes})


def words(config: TrainConfig) -> list[str]:
    result = []
    for name in (*SMALL, "out"):
        value = getattr(config, name)
        result += [f"--{name.replace('_', '-')}", json.dumps(value) if name == "model_args" else str(value)]
    return result


def test_the_command_line_trains_a_segmenter_on_scenes(tmp_path, capsys):
    assert main(words(small(tmp_path))) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["images"] == 4 and 0 <= last["miou"] <= 100 and len(last["iou"]) == 13
    model = stvit.dense.load(tmp_path / "model").eval()
    assert model.built_from[1]["backbone_args"] == {"drop_path_rate": 0.0, "depths": [1, 1, 2, 1]}
    assert model(torch.randn(1, 3, 40, 24)).logits.shape == (1, 13, 40, 24)
    record = json.loads((tmp_path / "model" / "record.json").read_text())
    assert record["config"]["task"] == "segment" and record["miou"] == last["miou"]
    assert main(words(small(tmp_path))) == 0  # a run that has ended says the same again
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == last


def test_a_stopped_segmenter_goes_on_to_the_weights_of_the_unbroken_one(tmp_path):
    changes = dict(drop_path=0.2, ema_decay=0.9)
    train(small(tmp_path / "whole", **changes))
    stopped = Trainer(small(tmp_path / "broken", **changes))
    stopped.save = lambda: (Trainer.save(stopped), (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    train(small(tmp_path / "broken", **changes))
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "broken"))
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_a_folder_in_ade20ks_layout_trains_and_is_evaluated(tmp_path, capsys):
    folder = tmp_path / "scenes"
    assert write_scenes([str(folder), "--size", "32", "--train", "8", "--validation", "4"]) == 0
    assert main([*words(small(tmp_path / "run")), "--data", str(folder), "--color-jitter", "0.5"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    model = str(tmp_path / "run" / "model")
    assert evaluate_main([model, "--data", str(folder), "--image-size", "32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["miou"] == pytest.approx(told["miou"])
    views = ["--multi-scale", "--flip"]
    assert evaluate_main([model, "--data", "scenes", "--image-size", "32", "--images", "3", *views]) == 0
    shown = capsys.readouterr().out
    assert "red cross" in shown and "mIoU" in shown and "12 views" in shown


def test_one_image_a_step_trains(tmp_path):
    train(small(tmp_path, batch_size=1, train_images=2, epochs=1))
    assert len([line for line in journal.read(tmp_path / journal.LOG) if "loss" in line]) == 2


def test_weights_of_a_classifier_or_of_a_segmenter_start_a_segmenter(tmp_path):
    classifier = timm.create_model("micro_swin", depths=(1, 1, 2, 1))
    stvit.save_checkpoint(classifier, tmp_path / "classifier")
    started = Trainer(small(tmp_path / "a", init=str(tmp_path / "classifier"))).plain
    body = started.backbone._backbone.model
    assert torch.equal(body.layers[2].blocks[1].mlp.fc1.weight, classifier.layers[2].blocks[1].mlp.fc1.weight)
    saved.save(started, tmp_path / "segmenter")
    again = Trainer(small(tmp_path / "b", init=str(tmp_path / "segmenter"), seed=7)).plain
    assert torch.equal(again.decode_head.classifier.weight, started.decode_head.classifier.weight)


def test_the_papers_recipe_is_data():
    recipe = TrainConfig.of(task="segment", data="ade")
    assert recipe.recipe == "upernet" and recipe.sched == "poly" and recipe.decay_rate == 1.0
    assert recipe.epochs * (20_210 // recipe.batch_size) == pytest.approx(240_000, rel=1e-3)
    assert recipe.warmup_epochs * (20_210 // recipe.batch_size) == pytest.approx(1_500, rel=5e-3)
    assert (recipe.lr, recipe.weight_decay, recipe.image_size) == (6e-5, 0.01, 512)
    assert TrainConfig.of(task="segment").recipe == "micro_segment" and "micro_segment" in RECIPES


def test_without_transformers_the_line_that_installs_it_is_given(tmp_path, monkeypatch, capsys):
    real = builtins.__import__

    def broken(name, *args, **kwargs):
        if name.partition(".")[0] == "transformers":
            raise ModuleNotFoundError("No module named 'transformers'", name="transformers")
        return real(name, *args, **kwargs)

    for name in [n for n in sys.modules if n.startswith(("transformers", "stvit.dense.segmentation"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", broken)
    monkeypatch.setattr("stvit.extras.import_module", broken)
    assert main(words(small(tmp_path))) == 1
    assert (
        "needs transformers, which is not installed: pip install 'stvit[huggingface]'"
        in capsys.readouterr().out
    )


def test_an_unknown_model_is_refused_by_name(tmp_path, capsys):
    assert main([*words(small(tmp_path)), "--model", "micro_nothing"]) == 1
    assert "no model 'micro_nothing' is registered with timm; did you mean micro_" in capsys.readouterr().out


def test_a_checkpoint_that_is_no_segmenter_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="no config.json in .*which would say what to build"):
        stvit.dense.load(tmp_path)
    stvit.save_checkpoint(timm.create_model("micro_swin", depths=(1, 1, 2, 1)), tmp_path)
    with pytest.raises(
        CheckpointError, match="is no configuration of a dense model.*stvit.load_checkpoint reads classifiers"
    ):
        stvit.dense.load(tmp_path)
