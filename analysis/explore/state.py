"""What the explorer shows: the dense model's maps, and what a method at a keep rate leaves of the tokens.

dense = look("dinov2_small", "astronaut")
reduced(dense, "bat", 0.7).tokens     # after each layer
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import stvit
from analysis.attention_maps.capture import capture
from analysis.images import normalised, photo
from analysis.shared import field
from analysis.shared.counting import torch_count
from analysis.shared.models import REAL, Subject, open_model, open_pretrained
from analysis.token_maps.trace import DROPPED, looked_at
from stvit.models.reduced_vit import method_choices
from stvit.reduce import METHODS

SHOWN = ("topk", "evit", "bat", "tome", "random")
STUDENT = (
    "stvit_dinov2_small_16"  # semantic tokens have to be trained; this was distilled from the default model
)
STUDENT_SIZE = 126  # pixels of the images that the student was trained on
STAGES = 3  # reductions of a method that keeps a rate of the tokens


@dataclass(frozen=True)
class Dense:
    """A plain ViT that has seen an image.

    attention: (layers, heads, prefix + N, prefix + N), rows sum to 1
    feature: (C,), what the head reads
    """

    subject: Subject
    pixels: np.ndarray  # (H, W, 3)
    images: Tensor  # (1, 3, H, W)
    grid: tuple[int, int]
    prefix: int
    attention: Tensor
    feature: Tensor
    multiply_adds: int

    @property
    def model(self) -> nn.Module:
        return self.subject.model

    @property
    def patches(self) -> int:
        return self.grid[0] * self.grid[1]

    def read(self) -> Tensor:
        """What the output reads of each patch in the last layer: (N,), sums to 1."""
        rows = self.attention[-1].mean(0)  # (prefix + N, prefix + N)
        row = (rows[0] if self.prefix else rows.mean(0))[self.prefix :]
        return row / row.sum()


class Remainder(NamedTuple):
    """A method at one setting; multiply-adds are those of matrix products and convolutions.

    labels: (layers, N), the token that holds each patch after each layer, -1 if it was dropped
    tokens: after each layer
    shares: (M, N), how much of each patch is in each of the last tokens
    cosine: of the class feature with the dense model's
    lost: the part of the dense model's last class attention that lies on dropped patches
    """

    setting: str
    labels: np.ndarray
    tokens: list[int]
    shares: np.ndarray
    multiply_adds: int
    cosine: float
    lost: float


def look(model: str | Path | Subject = REAL, image="astronaut", size: int | None = None) -> Dense:
    subject = model if isinstance(model, Subject) else opened(str(model), size)
    if hasattr(subject.model, "stgm"):
        raise ValueError(f"{subject.name} has semantic tokens already; name the dense model it was made from")
    pixels = image if isinstance(image, np.ndarray) else photo(image, subject.size)
    images = normalised(pixels, subject.model)
    maps = capture(subject.model, images)
    with torch.inference_mode():
        feature = subject.model.forward_head(subject.model.forward_features(images), pre_logits=True)[0]
    attention = torch.cat(maps.base)
    cost = torch_count(subject.model, images)
    return Dense(subject, pixels, images, maps.grid, maps.prefix, attention, feature, cost)


def opened(name: str, size: int | None) -> Subject:
    """A model by name, for images of ``size`` pixels; real weights where ``stvit.pretrained`` has them."""
    if name == REAL:
        return open_pretrained(name, size or STUDENT_SIZE)
    subject = open_model(name)
    return subject.resized((size, size)) if size else subject


def methods_of(dense: Dense) -> list[str]:
    """Methods of the list that this model can have, STViT last where a trained student is at hand."""
    found = [name for name in SHOWN if dense.prefix or not METHODS[name].needs_class_token]
    has_student = dense.subject.name == REAL and dense.subject.size == (STUDENT_SIZE, STUDENT_SIZE)
    return [*found, "stvit"] if has_student else found


def check_methods(dense: Dense, asked: list[str] | None) -> list[str]:
    """The methods that were asked for, or all that are shown; ValueError for one that cannot be."""
    shown = methods_of(dense)
    for name in asked or ():
        if name not in METHODS and name not in shown:
            raise ValueError(
                f"unknown method {name!r}; choose from {', '.join(dict.fromkeys((*shown, *METHODS)))}"
            )
        if name not in shown and not {"keep_rate", "r"} & set(method_choices(name)):
            raise ValueError(
                f"{name} has no keep rate to move; choose from {', '.join(shown)} or others that do"
            )
    return asked or shown


def amount(dense: Dense, method: str, rate: float) -> dict:
    """What leaves ``rate`` ** 3 of the tokens at the end, as three reductions at that keep rate do."""
    if "keep_rate" in method_choices(method):
        return {"keep_rate": rate}
    layers = len(METHODS[method].layers(len(dense.model.blocks)))
    return {"r": round(dense.patches * (1 - rate**STAGES) / layers)}


def reduced(dense: Dense, method: str, rate: float) -> Remainder:
    """The model with a method at a keep rate; STViT has its number of tokens, and no rate."""
    if method == "stvit":
        model = stvit.pretrained(STUDENT, quiet=True, img_size=STUDENT_SIZE)
        return followed(dense, model, f"{model.num_semantic_tokens} semantic tokens, distilled")
    choices = amount(dense, method, rate)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = stvit.sparsify(dense.model, method=method, **choices).eval()
    return followed(dense, model, ", ".join(f"{key} = {value:g}" for key, value in choices.items()))


def followed(dense: Dense, model: nn.Module, setting: str) -> Remainder:
    with torch.random.fork_rng([]), torch.inference_mode(), stvit.record(model, attention=False) as maps:
        torch.manual_seed(0)
        feature = model.forward_head(model.forward_features(dense.images), pre_logits=True)[0]
    found = model.held(maps) if hasattr(model, "reductions") else looked_at(maps)  # layer → (1, M, N)
    shares = torch.eye(dense.patches)
    labels, tokens = [], []
    for layer in range(1, len(model.blocks) + 1):
        shares = found[layer][0].float() if layer in found else shares
        best, label = shares.max(dim=0)
        labels.append(torch.where(best > 0, label, DROPPED).numpy())
        tokens.append(int((shares.sum(1) > 0).sum()))
    dropped = torch.from_numpy(labels[-1] == DROPPED)
    return Remainder(
        setting,
        np.stack(labels),
        tokens,
        shares.numpy(),
        torch_count(model, dense.images),
        float(F.cosine_similarity(feature, dense.feature, dim=0)),
        float(dense.read()[dropped].sum()),
    )


def label(method: str) -> str:
    return field.label(method)
