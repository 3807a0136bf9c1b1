"""What a frozen model's features know of classes: a linear probe, or the nearest neighbours' vote.

    features, labels = features_of(model, batches)            # once; (N, C) and (N,) in memory
    probe = fit_probe(features, labels, "linear")              # or "knn"
    probe.predict(others)                                      # (n,) class numbers
    score(probe, others, their_labels)                         # ProbeScores
    probe_data(model, TrainConfig(data="fashion_mnist", image_size=28), "knn")    # all of it

Features are what the model's own classifier reads: pooled tokens after the last norm. Nothing of the model learns.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stvit.data.folders import check_same_classes
from stvit.data.opened import kind_of, open_held_out
from stvit.training.scores import half_width

PROBES = ("linear", "knn")
CHUNK = 1024  # images whose neighbours are looked for at a time


class Probe(Protocol):
    def predict(self, features: Tensor) -> Tensor:
        """(n, C) → (n,) class numbers."""


class ProbeScores(NamedTuple):
    """Top-1 in per cent with half the width of its 95 % interval over images, and how many images there were."""

    probe: str
    train_images: int
    images: int
    top1: float
    top1_half: float


@torch.inference_mode()
def features_of(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], device: str | torch.device = "cpu"
) -> tuple[Tensor, Tensor]:
    """(N, C) in 32 bits and (N,), on the CPU: what the classifier would read of each image, and its class."""
    was_training = model.training
    model.eval()
    found = [(feature(model, images.to(device)).float().cpu(), targets.cpu()) for images, targets in batches]
    model.train(was_training)
    if not found:
        raise ValueError("there are no images to take features of")
    features, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    return features, labels.long()


def feature(model: nn.Module, images: Tensor) -> Tensor:
    """(B, C): the head's input, as timm's models give it."""
    if not hasattr(model, "forward_head"):
        raise ValueError(f"{type(model).__name__} has no features apart from its classifier (forward_head)")
    return model.forward_head(model.forward_features(images), pre_logits=True)


def fit_probe(features: Tensor, labels: Tensor, kind: str = "linear", **choices) -> Probe:
    """A probe that has learned which features are whose.

    kind: "linear" (choices: strength, steps) or "knn" (choices: neighbours, device)
    """
    if kind not in PROBES:
        raise ValueError(f"unknown probe {kind!r}; choose one of {', '.join(PROBES)}")
    if len(features) != len(labels) or features.ndim != 2:
        raise ValueError(
            f"features are (images, channels) with a label an image, not {tuple(features.shape)} and "
            f"{len(labels)} labels"
        )
    if not features.isfinite().all():
        raise ValueError("some features are NaN or infinite: the model cannot be probed")
    return (LinearProbe if kind == "linear" else NearestProbe)(features, labels, **choices)


class LinearProbe:
    """scikit-learn's logistic regression on standardised features.

    strength: C, the inverse weight of its L2 penalty
    steps: of L-BFGS at most; a warning says so where they did not suffice
    """

    name = "linear"

    def __init__(self, features: Tensor, labels: Tensor, strength: float = 1.0, steps: int = 1000):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self.seen = len(labels)
        self.classifier = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=steps))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.classifier.fit(features.numpy(), labels.numpy())
        if self.classifier[-1].n_iter_.max() >= steps:
            warnings.warn(
                f"the linear probe had not converged after {steps} steps: its accuracy is a lower bound",
                stacklevel=3,
            )

    def predict(self, features: Tensor) -> Tensor:
        return torch.from_numpy(self.classifier.predict(features.numpy())).long()


class NearestProbe:
    """Each image is what most of its nearest neighbours are, by cosine; of equal votes the lowest class number wins."""

    name = "knn"

    def __init__(
        self, features: Tensor, labels: Tensor, neighbours: int = 20, device: str | torch.device = "cpu"
    ):
        if not 1 <= neighbours <= len(labels):
            raise ValueError(f"{neighbours} neighbours cannot be found among {len(labels)} images")
        self.neighbours, self.device, self.seen = neighbours, device, len(labels)
        self.features, self.labels = F.normalize(features).to(device), labels.to(device)
        self.classes = int(labels.max()) + 1

    def predict(self, features: Tensor) -> Tensor:
        return torch.cat([self.vote(part.to(self.device)) for part in features.split(CHUNK)]).cpu()

    def vote(self, features: Tensor) -> Tensor:
        similarity = F.normalize(features) @ self.features.T  # (n, N)
        nearest = similarity.topk(self.neighbours, dim=1).indices  # (n, k)
        votes = F.one_hot(self.labels[nearest], self.classes).sum(1)  # (n, classes)
        return (votes == votes.amax(1, keepdim=True)).int().argmax(1)


def score(probe: Probe, features: Tensor, labels: Tensor) -> ProbeScores:
    """How many of these images the probe names rightly."""
    top1 = 100 * float((probe.predict(features) == labels).double().mean())
    return ProbeScores(probe.name, probe.seen, len(labels), top1, half_width(top1, len(labels)))


def probe_data(
    model: nn.Module,
    config,
    kind: str = "linear",
    device: str | torch.device = "cpu",
    split: str = "test",
    **choices,
) -> ProbeScores:
    """Fit on the training images of what ``config.data`` names, unaugmented, and score on ``split``."""
    names, train = open_held_out(config, "train")
    others, held_out = open_held_out(config, split)
    check_same_classes(tuple(names), tuple(others), f"{config.data}: training", "evaluation")
    pixels = kind_of(config.data).pixels
    known = features_of(model, rescaled(train, pixels, model), device)
    asked = features_of(model, rescaled(held_out, pixels, model), device)
    if kind == "knn":
        choices.setdefault("device", device)
    return score(fit_probe(*known, kind, **choices), *asked)


def rescaled(
    batches: Iterable[tuple[Tensor, Tensor]], pixels: dict, model: nn.Module
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images that were normalised with ``pixels["mean"]`` and ``["std"]``, normalised as ``model`` expects them."""
    cfg = getattr(model, "pretrained_cfg", {})
    values = [
        pixels["mean"],
        pixels["std"],
        cfg.get("mean") or pixels["mean"],
        cfg.get("std") or pixels["std"],
    ]
    if values[:2] == [tuple(value) for value in values[2:]]:
        yield from batches
        return
    mean, std, own_mean, own_std = (torch.tensor(value)[:, None, None] for value in values)  # (3, 1, 1)
    for images, labels in batches:
        yield (images * std + mean - own_mean) / own_std, labels
