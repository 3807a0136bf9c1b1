"""Token maps: the fate of each patch from the one record, and figures that show it."""

import json
from dataclasses import replace
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
import timm
import torch

import stvit
from analysis.images import normalised, photo
from analysis.shared.models import Subject, open_model
from analysis.shared.token_maps import colours
from analysis.token_maps import __main__ as command
from analysis.token_maps import fates, figures, follow, measure, report
from analysis.token_maps.subjects import DENSE, OFF_THE_SHELF_CHOICES, off_the_shelf
from stvit.reduce import METHODS
from stvit.reduce.learned import LearnedTokens  # they share out each token

torch.set_num_threads(1)


@pytest.mark.parametrize("name", OFF_THE_SHELF_CHOICES)
def test_every_patch_has_one_fate(name):
    subject = off_the_shelf(name)
    for stage in follow(subject.model, torch.randn(2, 3, 48, 48)):
        sizes = measure.group_sizes(stage.labels, stage.tokens)
        held = torch.stack([torch.bincount(row[row >= 0], minlength=stage.tokens) for row in stage.labels])
        assert (held > 0).all(), "each token holds some patch"
        assert (sizes == 0).equal(stage.labels < 0)
        assert held.sum() == (stage.labels >= 0).sum()


SHARES = [
    name for name, kind in METHODS.items() if issubclass(kind, LearnedTokens)
]  # a patch is in many tokens
RETURNS = [name for name, kind in METHODS.items() if kind.keeps_all]


@pytest.mark.parametrize("method", [name for name in METHODS if name not in SHARES + RETURNS])
def test_labels_are_where_the_tokens_went(method):
    """Layer by layer, patches that share a token go on sharing it."""
    model = stvit.sparsify(open_model(DENSE).model, method=method).eval()
    stages = follow(model, torch.randn(1, 3, 48, 48))
    for before, after in pairwise(stages):
        for group in before.labels[0].unique():
            assert after.labels[0][before.labels[0] == group].unique().numel() == 1
        gone = before.labels[0] < 0
        assert (after.labels[0][gone] < 0).all(), "what is dropped stays so"


@pytest.mark.parametrize("method", RETURNS)
def test_labels_of_layers_that_return_what_they_set_aside(method):
    """Layer by layer, each token that a layer computes with is made of the image's own patches."""
    model = stvit.sparsify(open_model(DENSE).model, method=method).eval()
    stages = follow(model, torch.randn(1, 3, 48, 48))
    assert [stage.layer for stage in stages] == sorted(model.reductions)
    assert {stage.shares.shape[2] for stage in stages} == {64}
    for stage in stages:
        sums = stage.shares.sum(dim=2)
        torch.testing.assert_close(sums, (sums > 0).float())  # 0 is padding
        assert stage.labels.max() < stage.tokens


def test_not_square():
    model = timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True).eval()
    sparse = stvit.sparsify(model, method="tome", at=(3, 6), r=10).eval()
    picture = photo("china", (64, 96))
    stages = follow(sparse, normalised(picture, sparse))
    assert stages[-1].grid == (4, 6) and stages[-1].tokens == 24 - 10 - 7
    fig = command.draw(Subject("tome", sparse, trained=False), picture)
    assert "UNTRAINED" in fig._suptitle.get_text()
    plt.close(fig)


def test_a_model_that_reduces_nothing():
    with pytest.raises((ValueError, RuntimeError), match="reduces no tokens|token assignment"):
        follow(open_model("micro_deit").model, torch.randn(1, 3, 48, 48))


def test_fate_of_known_groups():
    labels = torch.tensor([[0, 1, 1, 2, 2, 2, -1, -1]])
    owner = torch.tensor([[1, 1, 1, 0, 0, 2, 0, 1]])
    found = measure.fate(labels, 3, owner, torch.Generator().manual_seed(0))
    assert (found["kept"], found["merged"], found["dropped"]) == (1 / 8, 5 / 8, 2 / 8)
    assert found["kept_marked"] == 0.25 and found["kept_elsewhere"] == 0
    assert found["dropped_marked"] == 0.25 and found["dropped_elsewhere"] == 0.25
    assert found["purity"] == pytest.approx(4 / 5) and found["pairs"] == 1 and found["pairs_alike"] == 1


def test_random_groups_are_as_pure_as_chance():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(8, (200, 64), generator=generator)
    owner = torch.randint(4, (200, 64), generator=generator)
    found = measure.fate(labels, 8, owner, generator)
    assert found["purity"] == pytest.approx(found["purity_chance"], abs=0.01)


def test_picture_shows_fates():
    """Kept patches keep their pixels, dropped ones fade, merged ones share a tint."""
    picture = np.full((40, 40, 3), 100, np.uint8)
    labels = np.array([0, 1, 1, -1])
    fig, ax = plt.subplots()
    figures.token_map(ax, picture, labels, (2, 2))
    shown = ax.images[0].get_array()
    assert np.allclose(shown[5, 5], 100 / 255)
    assert np.allclose(shown[5, 30], shown[30, 5]) and not np.allclose(shown[5, 30], shown[5, 5])
    assert shown[30, 30].min() > 0.85
    assert any(len(line.get_xdata()) == 2 for line in ax.lines), "the pair is joined"
    plt.close(fig)


@pytest.mark.parametrize("count", [1, 7, 8, 60])
def test_one_colour_a_group(count):
    assert len({tuple(colour) for colour in colours(count).round(3)}) == count


def test_fates_over_scenes():
    frame = fates("top-k", off_the_shelf("top-k"), images=8)
    assert frame.layer.tolist() == [2, 4, 5] and frame.dropped.is_monotonic_increasing
    assert (frame.kept + frame.merged + frame.dropped).round(6).eq(1).all()


def test_report(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "real_or_none", lambda: (None, "its weights are not here"))
    report.write(tmp_path, images=8)
    record = json.loads((tmp_path / "record.json").read_text())
    assert {"figure2", "figure5", "methods", "claims", "fates"} <= {b.get("name") for b in record["blocks"]}


def test_a_photograph_goes_through_the_real_model_with_bat_where_it_is_at_hand(tmp_path, monkeypatch):
    drawn = []
    real = replace(open_model(DENSE), name=command.REAL)
    monkeypatch.setattr("analysis.shared.models.real_or_none", lambda: (real, ""))
    monkeypatch.setattr(command, "draw", lambda subject, picture: drawn.append(subject.name) or plt.figure())
    assert command.main(["--image", "flower", "--out", str(tmp_path)]) == 0
    assert command.main(["--image", "flower", "--out", str(tmp_path), "--method", "tome"]) == 0
    assert command.main(["--image", "scene:3", "--out", str(tmp_path)]) == 0
    assert drawn == [f"{command.REAL} with bat", f"{command.REAL} with tome", command.CHECKPOINT]


def test_command_line(tmp_path, capsys):
    assert command.main(["--image", "flower", "--checkpoint", "micro_bat", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "token_map.svg").exists()
    with pytest.raises(SystemExit):
        command.main(["--image", str(tmp_path)])
    assert "is a folder" in capsys.readouterr().err
