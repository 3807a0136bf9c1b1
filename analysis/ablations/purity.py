"""How well token assignments follow objects, against the scenes' instance masks.

A hard assignment gives each image token to the semantic token that takes most of it. The purity of a
clustering is the share of image tokens that belong to the most frequent object of their cluster; an
image token belongs to the object (or the ground) that has most of its pixels. Windows of equal size are
the baseline: a method that knew only positions would do as well.

Purity over all tokens is mostly ground. ``recall`` looks at objects alone: the share of an object's
tokens that lie in clusters whose majority is that object; small objects are also listed separately.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stvit.data.drawn import normalise
from stvit.data.scenes import SMALL, SceneConfig, draw_scenes, sized
from stvit.layers.windows import window_counts
from stvit.record import record


class TokenSource(NamedTuple):
    """Where a model's semantic tokens come from."""

    grid: tuple[int, int]  # of the image tokens
    semantic: tuple[int, int] | None  # of the semantic tokens; None: they stand in no grid
    clusters: int
    prefix: str  # of the layers' names, which their numbers follow


def has_semantic_tokens(model: nn.Module) -> bool:
    return hasattr(model, "stgm") or hasattr(model, "semantic_options")


def scenes_for(model: nn.Module) -> SceneConfig:
    """The scenes at the size that the model was made for."""
    return sized(SceneConfig(), model.pretrained_cfg["input_size"][-1])


def small_radius(config: SceneConfig) -> float:
    return SMALL * config.size / SceneConfig().size


def subject(model: nn.Module) -> TokenSource:
    """The layers that make semantic tokens: of the whole model, or of a Swin's stage 3."""
    if hasattr(model, "stgm"):
        grid, semantic = tuple(model.patch_embed.grid_size), model.semantic_grid
        return TokenSource(grid, semantic, model.num_semantic_tokens, "blocks.")
    stage = model.layers[2]
    grid, w_s = tuple(stage.output_resolution), stage.options.semantic_window
    rows, columns = (count * w_s for count in window_counts(grid, stage.window))
    return TokenSource(grid, (rows, columns), rows * columns, "layers.2.blocks.")


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


def scores(
    cluster: Tensor, owner: Tensor, radii: Tensor, clusters: int, smaller_than: float = SMALL
) -> dict[str, float]:
    """Purity over all image tokens, and recall over those of objects and of small objects."""
    kinds = radii.shape[1] + 1
    counts = table(cluster, owner, clusters, kinds)  # (B, M, K + 1)
    best, winner = counts.max(2)  # (B, M)
    own = torch.nn.functional.one_hot(winner, kinds) * counts  # what majorities hold
    found, size = own.sum(1)[:, 1:], counts.sum(1)[:, 1:]  # (B, K)
    small = radii < smaller_than
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
def measure(model: nn.Module, images: int, batch_size: int = 256) -> dict[str, dict[str, float]]:
    """Scores of each layer of the STGM, and of windows, over the first test scenes."""
    config, of = scenes_for(model), subject(model)
    found: dict[int, list[Tensor]] = {}
    owners, radii = [], []
    for part in torch.arange(images).split(batch_size):
        scenes = draw_scenes(config, part, "test")
        with record(model, attention=False) as maps:
            model(normalise(scenes.images))
        for name, assignment in maps.items():
            if name.startswith(of.prefix):  # (B, M, N): rows sum to 1; a token goes where most of it goes
                number = name.removeprefix(of.prefix).split(".")[0]
                found.setdefault(int(number), []).append(assignment.argmax(1))
        owners.append(token_owners(scenes.instances, config.size // of.grid[0], config.max_objects + 1))
        radii.append(scenes.radii)
    owner, radius, small = torch.cat(owners), torch.cat(radii), small_radius(config)
    result = {
        f"layer {layer + 1}": scores(torch.cat(parts), owner, radius, of.clusters, small)
        for layer, parts in sorted(found.items())
    }
    if of.semantic is not None:
        equal = windows(of.semantic, of.grid).expand(len(owner), -1)
        result["windows"] = scores(equal, owner, radius, of.clusters, small)
    return {name: {key: round(value, 4) for key, value in row.items()} for name, row in result.items()}
