"""Probes: what can be separated is separated, neighbours are scikit-learn's, and the command line."""

import json

import numpy as np
import pytest
import timm
import torch
from sklearn.neighbors import KNeighborsClassifier
from small_sets import write_mnist
from torch import nn

import stvit
from stvit.evaluate import main
from stvit.training.probe import feature, features_of, fit_probe, rescaled, score

CHANCE = torch.Generator().manual_seed(0)
LABELS = torch.arange(240) % 4
FEATURES = torch.randn(240, 8, generator=CHANCE)


def separable():
    """Four classes, each on its own side."""
    return FEATURES * 0.1 + torch.eye(8)[LABELS] * 5


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_what_is_separable_is_separated(kind):
    features = separable()
    found = score(fit_probe(features[:200], LABELS[:200], kind), features[200:], LABELS[200:])
    assert found.top1 == 100 and found.top1_half == 0
    assert (found.probe, found.train_images, found.images) == (kind, 200, 40)


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_noise_tells_nothing(kind):
    """Labels that features do not know: a quarter is chance."""
    found = score(fit_probe(FEATURES[:160], LABELS[:160], kind), FEATURES[160:], LABELS[160:])
    assert found.top1 < 50


@pytest.mark.parametrize("neighbours", [1, 4, 20])
def test_neighbours_are_those_of_scikit_learn(neighbours):
    """With equal votes, too."""
    known, asked = FEATURES[:150], FEATURES[150:]
    theirs = KNeighborsClassifier(neighbours, metric="cosine").fit(known.numpy(), LABELS[:150].numpy())
    mine = fit_probe(known, LABELS[:150], "knn", neighbours=neighbours).predict(asked)
    assert (mine.numpy() == theirs.predict(asked.numpy())).all()


def test_a_linear_probe_does_not_mind_the_scale_of_channels():
    scale = torch.logspace(-3, 3, 8)
    features = (FEATURES + torch.eye(8)[LABELS]) * scale
    plain = fit_probe(features / scale, LABELS).predict(features / scale)
    assert (fit_probe(features, LABELS).predict(features) == plain).float().mean() > 0.99


def test_a_probe_that_has_not_converged_says_so():
    with pytest.warns(UserWarning, match="not converged after 1 steps"):
        fit_probe(FEATURES, LABELS, steps=1)


@pytest.mark.parametrize(
    ("features", "labels", "choices", "message"),
    [
        (FEATURES, LABELS, dict(kind="mlp"), "unknown probe 'mlp'; choose one of linear, knn"),
        (FEATURES, LABELS[:5], {}, "not \\(240, 8\\) and 5 labels"),
        (FEATURES / 0, LABELS, {}, "NaN or infinite"),
        (
            FEATURES,
            LABELS,
            dict(kind="knn", neighbours=241),
            "241 neighbours cannot be found among 240 images",
        ),
    ],
)
def test_what_cannot_be_fitted_is_refused(features, labels, choices, message):
    with pytest.raises(ValueError, match=message):
        fit_probe(features, labels, **choices)


def small(name: str = "micro_stvit", **args) -> nn.Module:
    return timm.create_model(name, img_size=28, patch_size=4, embed_dim=16, depth=4, num_heads=2, **args)


@pytest.mark.parametrize(
    ("name", "args"), [("micro_stvit", {}), ("micro_deit", {}), ("micro_bat", dict(keep_rate=0.5))]
)
def test_features_are_what_the_classifier_reads(name, args):
    model, images = small(name, **args).eval(), torch.randn(3, 3, 28, 28, generator=CHANCE)
    with torch.no_grad():
        assert torch.allclose(model.head(feature(model, images)), model(images), atol=1e-6)


def test_features_are_taken_in_evaluation_mode_and_the_model_comes_back():
    model = small(drop_path_rate=0.5).train()
    images = torch.randn(4, 3, 28, 28, generator=CHANCE)
    first, labels = features_of(model, [(images, torch.arange(4))])
    again, _ = features_of(model, [(images[:2], torch.arange(2)), (images[2:], torch.arange(2, 4))])
    assert model.training and torch.allclose(first, again, atol=1e-6) and labels.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="no images"):
        features_of(model, [])
    with pytest.raises(ValueError, match="Linear has no features apart"):
        feature(nn.Linear(2, 2), images)


def test_images_are_normalised_as_the_model_expects():
    pixels, model = (
        dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        small(),
    )  # that expects 0.5, 0.5
    mean, std = (torch.tensor(pixels[name])[:, None, None] for name in ("mean", "std"))
    raw = torch.rand(2, 3, 4, 4, generator=CHANCE)
    ((found, _),) = rescaled([((raw - mean) / std, LABELS[:2])], pixels, model)
    assert torch.allclose(found, (raw - 0.5) / 0.5, atol=1e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    write_mnist(root / "FashionMNIST" / "raw")
    return root


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_the_command_line(folder, tmp_path, capsys, kind):
    stvit.save_checkpoint(small(num_classes=3), tmp_path)  # its classes are others than those of the data
    given = [
        str(tmp_path),
        "--probe",
        kind,
        "--data",
        f"fashion_mnist:{folder}",
        "--device",
        "cpu",
        "--image-size",
        "28",
    ]
    assert main([*given, "--json", "--neighbours", "5"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["probe"], found["train_images"], found["images"]) == (kind, 40, 20)
    assert main([*given, "--train-images", "30", "--images", "10", "--neighbours", "5"]) == 0
    said = capsys.readouterr().out
    assert f"{kind}, on 30 training images" in said and "images             10\n" in said


def test_training_images_are_probed_as_they_are(folder):
    """Each once, in order, neither moved nor mirrored."""
    from stvit.data.on_device import fit, normalise
    from stvit.data.opened import open_held_out
    from stvit.data.small_sets import read_small_set
    from stvit.training.config import TrainConfig

    config = TrainConfig(data=f"fashion_mnist:{folder}", image_size=28, batch_size=16, device="cpu")
    images, labels = (torch.cat(parts) for parts in zip(*open_held_out(config, "train")[1], strict=True))
    stored, theirs, _ = read_small_set("fashion_mnist", str(folder), True, 28)
    assert labels.equal(theirs) and torch.equal(images, normalise(fit(stored.expand(-1, 3, -1, -1), 28)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "deit_tiny"], "--model NAME goes with --probe"),
        (["--probe", "knn"], "name one model to probe"),
        (["somewhere", "--model", "deit_tiny", "--probe", "knn"], "name one model to probe"),
        (["somewhere", "--probe", "knn", "--neighbours", "0"], "--neighbours is 0; it must be 1 or more"),
    ],
)
def test_what_makes_no_sense_is_one_line(capsys, words, message):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1


def test_folders_are_probed_too(tmp_path, capsys):
    from PIL import Image

    chance = np.random.default_rng(0)
    for split in ("train", "validation"):
        for name, level in (("dark", 20), ("light", 220)):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for number in range(6):
                pixels = (level + chance.integers(-9, 9, (28, 28, 3))).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / split / name / f"{number}.png")
    stvit.save_checkpoint(small("micro_deit"), tmp_path / "model")
    words = [
        str(tmp_path / "model"),
        "--probe",
        "linear",
        "--data",
        str(tmp_path / "images"),
        "--device",
        "cpu",
    ]
    assert main([*words, "--image-size", "28", "--workers", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["top1"] == 100 and found["train_images"] == found["images"] == 12
