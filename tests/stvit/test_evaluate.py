"""Evaluation: exact counts, and the command line."""

import json

import pytest
import timm
import torch
from torch import nn

import stvit
from stvit.evaluate import describe, evaluate, half_width, main


class Told(nn.Module):
    """Gives back logits that are handed in as images."""

    def forward(self, x):
        return x


def batches(logits, targets, size=3):
    return list(zip(logits.split(size), targets.split(size), strict=True))


def test_counts_are_exact():
    targets = torch.tensor([0, 1, 2, 3, 4, 5, 0])
    logits = torch.eye(6)[[0, 1, 2, 3, 0, 0, 5]] * 4
    scores = evaluate(Told(), batches(logits, targets), num_classes=6)
    assert scores.images == 7 and scores.top1 == pytest.approx(400 / 7)
    assert scores.confusion[4][0] == scores.confusion[5][0] == scores.confusion[0][5] == 1
    assert sum(map(sum, scores.confusion)) == 7
    assert scores.loss == pytest.approx(nn.functional.cross_entropy(logits, targets).item(), rel=1e-6)


def test_top5_looks_at_five():
    logits = torch.arange(8.0).repeat(8, 1)  # classes 7, 6, 5, 4, 3 come first
    scores = evaluate(Told(), batches(logits, torch.arange(8)), num_classes=8)
    assert scores.top1 == pytest.approx(12.5) and scores.top5 == pytest.approx(62.5)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    sure = torch.tensor([[20.0, 0.0], [20.0, 0.0]])
    assert evaluate(Told(), batches(sure, torch.tensor([0, 1])), 2).calibration_error == pytest.approx(
        50, abs=0.1
    )
    assert evaluate(Told(), batches(sure, torch.tensor([0, 0])), 2).calibration_error == pytest.approx(
        0, abs=0.1
    )


def test_the_model_comes_back_as_it_was():
    model = Told().train()
    evaluate(model, batches(torch.eye(2), torch.arange(2)), 2)
    assert model.training
    with pytest.raises(ValueError, match="no images"):
        evaluate(model, [], 2)


def test_the_interval_is_the_binomial_one():
    assert half_width(50, 10_000) == pytest.approx(0.98) and half_width(100, 10) == 0


def test_the_confused_are_named():
    targets = torch.tensor([0, 0, 1])
    scores = evaluate(Told(), batches(torch.eye(2)[[1, 1, 1]], targets), 2)
    assert "2  ash taken for birch" in describe(scores, ("ash", "birch"))


def test_the_command_line(tmp_path, capsys):
    model = timm.create_model("micro_stvit", embed_dim=16, depth=4, num_heads=2)
    stvit.save_checkpoint(model, tmp_path)
    assert main([str(tmp_path), "--images", "64", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["images"] == 64 and len(scores["confusion"]) == 12
    assert main([str(tmp_path), "--images", "64"]) == 0
    assert f"top-1              {scores['top1']:.2f}" in capsys.readouterr().out
