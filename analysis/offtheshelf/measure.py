"""One setting on all crops: class feature, dense output and time, beside the dense model's."""

from __future__ import annotations

import statistics
import time
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analysis.offtheshelf import fates
from analysis.shared.likeness import correlation
from analysis.shared.saliency import salient_patches
from stvit.models.reduced_vit import put_back
from stvit.reduce import Plan, compose

BATCH = 20
TURNS = 3  # batches that are timed, the dense model and the reduced one in turn
SALIENT = 0.2  # of an image's pixels, the most salient, are the set that IoU compares


class Outputs(NamedTuple):
    """A model's outputs on all crops; the last four are None for STViT, whose tokens have no map back to patches."""

    features: Tensor  # (n, C), what the classifier reads
    diversity: Tensor  # (n,), BAT's score of the tokens after the last reduction
    patches: Tensor | None = None  # (n, N, C), the image tokens after the last norm, back at their places
    saliency: Tensor | None = None  # (n, 8h, 8w)
    labels: Tensor | None = None  # (n, N), the token that each patch is in at the end
    tokens: int = 0


def outputs(model: nn.Module, images: Tensor, head: nn.Module | None = None, batch: int = BATCH) -> Outputs:
    """Run ``model`` on all crops; tokens that were dropped leave zeros at their places."""
    with torch.inference_mode():
        parts = [look(model, part, head) for part in images.split(batch)]
    tokens = max(part.tokens for part in parts)
    joined = zip(*(part[:-1] for part in parts), strict=True)
    return Outputs(*(None if column[0] is None else torch.cat(column) for column in joined), tokens)


def look(model: nn.Module, images: Tensor, head: nn.Module | None) -> Outputs:
    trace: list = []
    if hasattr(model, "stgm"):
        last = model.forward_layers(images, trace)
        semantic = trace[model.stgm.stop - 1][:, model.num_kept_prefix_tokens :]
        return Outputs(feature_of(model, last), fates.diversity(semantic))
    prefix, grid = model.num_prefix_tokens, model.patch_embed.grid_size
    count = grid[0] * grid[1]
    if hasattr(model, "reductions"):
        normed = model.normed(model.forward_layers(images, trace))
        score = fates.diversity(trace[max(model.reductions) - 1][0][:, prefix:])
    else:  # a dense model, which keeps all tokens; its score is that of the last layer
        normed, (image,) = model.forward_intermediates(images, indices=1, output_fmt="NLC")
        trace, score = [(normed, Plan())], fates.diversity(image)
    steps = [(plan, y.shape[1] - prefix) for y, plan in trace]
    patches = put_back(normed[:, prefix:], steps, count)  # (b, N, C)
    maps = None
    if head is not None:
        maps = head(
            patches.transpose(1, 2).unflatten(2, grid), (8 * grid[0], 8 * grid[1])
        )  # before it is made larger
    assignments = [
        plan.assignment(old) for (plan, _), old in zip(steps, [count, *(n for _, n in steps)], strict=False)
    ]
    assignments = [one for one in assignments if one is not None]
    labels = fates.labels_of(compose(assignments) if assignments else None, count, len(images))
    feature = model.forward_head(normed, pre_logits=True)
    return Outputs(feature, score, patches.half(), maps, labels, steps[-1][1])


def feature_of(model: nn.Module, last: Tensor) -> Tensor:
    """(b, M, C) after the last layer → (b, C), what the classifier reads."""
    return model.forward_head(model.norm(last), pre_logits=True)


def compare(found: Outputs, dense: Outputs, grid: tuple[int, int]) -> dict[str, Tensor]:
    """Measure → its value for each crop, (n,).

    cosine: of the class features, from which the dense model's mean is subtracted: common to all images, it
        would make anything look alike
    retrieved: is the dense feature that is nearest to the reduced one its own?
    diversity: BAT's score of the tokens that are left
    patches: mean cosine of image tokens to the dense ones, their mean subtracted
    merged_alike, merged_chance: cosine of patches in one token, of any patches in such tokens, as the dense model
        has them at the end
    correlation, iou: of the saliency maps, and of the fifth of the pixels that are most salient
    kept_salient, kept_elsewhere, dropped_salient, dropped_elsewhere: see ``fates``
    """
    mean = dense.features.mean(dim=0)
    near = F.normalize(found.features - mean, dim=1) @ F.normalize(dense.features - mean, dim=1).T  # (n, n)
    values = {
        "cosine": near.diagonal(),
        "retrieved": (near.argmax(dim=1) == torch.arange(len(near))).float(),
        "diversity": found.diversity,
    }
    if found.patches is not None:
        center = dense.patches.float().mean(dim=(0, 1))
        parts = zip(
            found.patches.split(BATCH), dense.patches.split(BATCH), found.labels.split(BATCH), strict=True
        )
        cosines, together = [], []
        for one, two, labels in parts:
            one, two = one.float() - center, two.float() - center
            cosines.append(F.cosine_similarity(one, two, dim=2).mean(dim=1))
            together.append(fates.alike(labels, found.tokens, two))
        values["patches"] = torch.cat(cosines)
        values |= {name: torch.cat([part[name] for part in together]) for name in together[0]}
    if found.saliency is not None:
        values["correlation"] = correlation(found.saliency.flatten(1), dense.saliency.flatten(1))
        values["iou"] = overlap(salient(found.saliency.flatten(1)), salient(dense.saliency.flatten(1)))
        values |= fates.fate(found.labels, found.tokens, salient_patches(dense.saliency, grid, SALIENT))
    return values


def answers(dense: nn.Module, features: Tensor, reference: Tensor) -> dict[str, Tensor]:
    """Where the model has a classifier: does it answer what the dense one answers?"""
    classifier = dense.get_classifier() if hasattr(dense, "get_classifier") else None
    if not isinstance(classifier, nn.Linear):
        return {}
    with torch.inference_mode():
        same = classifier(features).argmax(dim=1) == classifier(reference).argmax(dim=1)
    return {"agreement": same.float()}


def salient(maps: Tensor) -> Tensor:
    """The fifth of a map's pixels with the largest values: (n, P) → (n, P) truth values."""
    count = round(SALIENT * maps.shape[1])
    return torch.zeros_like(maps, dtype=torch.bool).scatter_(1, maps.topk(count, dim=1).indices, True)


def overlap(one: Tensor, two: Tensor) -> Tensor:
    """Intersection over union of sets, row by row."""
    return (one & two).sum(dim=1) / (one | two).sum(dim=1)


def times(model: nn.Module, dense: nn.Module, images: Tensor, batch: int = BATCH, turns: int = TURNS) -> dict:
    """Seconds of a batch of both, measured in turn so that other load affects both, and the median of their ratio."""
    parts = [images[i : i + batch] for i in range(0, batch * turns, batch) if i + batch <= len(images)]
    parts = parts or [images]
    seconds = {"model": [], "dense": []}
    with torch.inference_mode():
        for one in (model, dense):
            one(parts[0][:2])  # buffers and kernels are ready
        for part in parts:
            for name, one in (("dense", dense), ("model", model)):
                start = time.perf_counter()
                one(part)
                seconds[name].append(time.perf_counter() - start)
    ratios = [slow / fast for slow, fast in zip(seconds["dense"], seconds["model"], strict=True)]
    return {
        "seconds": statistics.median(seconds["model"]),
        "dense_seconds": statistics.median(seconds["dense"]),
        "times_as_fast": statistics.median(ratios),
        "range": [min(ratios), max(ratios)],
    }


def tokens_left(model: nn.Module, image: Tensor) -> int:
    """Image tokens after the last layer (of a model whose number depends on the image: in this one)."""
    with torch.inference_mode():
        tokens = model.forward_features(image).shape[1]
    kept = getattr(model, "num_kept_prefix_tokens", model.num_prefix_tokens)
    return tokens - kept
