"""BAT's Figure 1 on any model: what a keep rate of 1 must give, and what each choice keeps."""

import pytest
import timm
import torch

import stvit
from analysis import importance

MICRO = dict(img_size=32, patch_size=8, embed_dim=24, depth=12, num_heads=2, num_classes=5)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return timm.create_model("deit_tiny_patch16_224", **MICRO).eval()


def test_nothing_dropped_is_full_fidelity(model):
    images = torch.randn(16, 3, 32, 32)
    labels = torch.arange(16) % 5
    frame = importance.compute(model, images, labels, rates=(1.0,))
    assert frame.chosen_by.tolist() == ["importance", "diversity", "both"]
    assert (frame.fidelity == 100).all() and (frame.top1 == frame.top1_dense).all()
    assert importance.compute(model, images, None, rates=(1.0,)).top1.isna().all()


@pytest.mark.parametrize(("name", "clusters"), [("diversity", 8), ("both", 1)])
def test_diversity_merges_all_but_one_and_both_merges_some(model, name, clusters):
    reduced = stvit.sparsify(model, keep_rate=0.5, **importance.CHOSEN_BY[name])
    first = next(iter(reduced.reductions.values()))
    counts = first.counts(16)
    assert counts.clusters == clusters and counts.attentive - counts.pairs + counts.clusters == 9


def test_the_command_draws_a_shipped_model(tmp_path, capsys):
    assert importance.main(["--images", "32", "--rates", "0.5", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "importance.png").exists() and "top1_dense" in capsys.readouterr().out
