"""How well token assignments follow objects, against the scenes' instance masks.

A hard assignment gives each image token to the semantic token that takes most of it. The purity of a
clustering is the share of image tokens that belong to the most frequent object of their cluster; an
image token belongs to the object (or the ground) that has most of its pixels. Windows of equal size are
the baseline: a method that knew only places would do as well.

Purity over all tokens is mostly ground. ``recall`` looks at objects alone: the share of an object's
tokens that lie in clusters whose majority is that object, small objects apart.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stvit.data.scenes import SMALL, SceneConfig, draw_scenes
from stvit.data.sources import normalise
from stvit.record import record


def token_owners(instances: Tensor, patch: int, kinds: int) -> Tensor:
    """(B, H, W) masks → (B, N): which object, or 0 for the ground, has most of each patch."""
    one_hot = (
        torch.nn.functional.one_hot(instances.long(), kinds).permute(0, 3, 1, 2).float()
    )  # (B, K+1, H, W)
    return torch.nn.functional.avg_pool2d(one_hot, patch).argmax(1).flatten(1)


def table(cluster: Tensor, owner: Tensor, clusters: int, kinds: int) -> Tensor:
    """(B, M, K + 1): how many image tokens of each object are in each cluster."""
    a = torch.nn.functional.one_hot(cluster, clusters).float()  # (B, N, M)
    return a.transpose(1, 2) @ torch.nn.functional.one_hot(owner, kinds).float()


def scores(cluster: Tensor, owner: Tensor, radii: Tensor, clusters: int) -> dict[str, float]:
    """Purity over all image tokens, and recall over those of objects and of small objects."""
    kinds = radii.shape[1] + 1
    counts = table(cluster, owner, clusters, kinds)  # (B, M, K + 1)
    best, winner = counts.max(2)  # (B, M)
    own = torch.nn.functional.one_hot(winner, kinds) * counts  # what majorities hold
    found, size = own.sum(1)[:, 1:], counts.sum(1)[:, 1:]  # (B, K)
    small = radii < SMALL
    return {
        "purity": float(best.sum() / counts.sum()),
        "recall": float(found.sum() / size.sum()),
        "recall_small": float(found[small].sum() / size[small].sum()),
    }


def windows(clusters_grid: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """(N,): the equal window that each place of the map is in."""
    rows, columns = (
        torch.arange(size) * parts // size for size, parts in zip(grid, clusters_grid, strict=True)
    )
    return (rows[:, None] * clusters_grid[1] + columns[None]).flatten()


@torch.no_grad()
def measure(model, images: int, batch_size: int = 256) -> dict[str, dict[str, float]]:
    """Scores of each layer of the STGM, and of windows, over the first test scenes."""
    config, grid = SceneConfig(), model.patch_embed.grid_size
    patch = config.size // grid[0]
    found: dict[str, list[Tensor]] = {}
    owners, radii = [], []
    for part in torch.arange(images).split(batch_size):
        scenes = draw_scenes(config, part, "test")
        with record(model, attention=False) as maps:
            model(normalise(scenes.images))
        for name, assignment in maps.items():
            if name.startswith("blocks."):  # (B, M, N): rows sum to 1; a token goes where most of it goes
                found.setdefault(name.split(".")[1], []).append(assignment.argmax(1))
        owners.append(token_owners(scenes.instances, patch, config.max_objects + 1))
        radii.append(scenes.radii)
    owner, radius = torch.cat(owners), torch.cat(radii)
    clusters = model.num_semantic_tokens
    result = {
        f"layer {int(layer) + 1}": scores(torch.cat(parts), owner, radius, clusters)
        for layer, parts in sorted(found.items())
    }
    if model.semantic_grid is not None:
        equal = windows(model.semantic_grid, grid).expand(len(owner), -1)
        result["windows"] = scores(equal, owner, radius, clusters)
    return {name: {key: round(value, 4) for key, value in row.items()} for name, row in result.items()}
