"""Attention maps of live models: the pictures of the STViT paper (Figures 1, 3, 4), and their captions in numbers.

``layers(subject)`` measures a plain ViT layer by layer, ``semantic(subject)`` the STGM of an STViT and the
layers after it, each over many scenes and as a pandas frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from analysis.shared.models import Subject

IMAGES = 256


def look(subject: Subject, images: int = IMAGES):
    """The scenes that all numbers are taken over, and the attention maps on them."""
    from analysis.attention_maps.capture import capture
    from analysis.images import normalised, scenes

    batch = scenes(images, subject.size[0])
    return batch, capture(subject.model, normalised(batch.images.permute(0, 2, 3, 1), subject.model))


def layers(subject: Subject, images: int = IMAGES) -> pd.DataFrame:
    """Layer by layer: how line-like the maps are, and what class attention of other layers says."""
    import pandas as pd

    from analysis.attention_maps import measure
    from analysis.attention_maps.capture import class_attention

    _, maps = look(subject, images)
    rows = []
    cls = class_attention(maps) if maps.prefix else None
    for i, weights in enumerate(maps.base):
        top, even = measure.top_column_share(weights)
        row = dict(model=subject.name, trained=subject.trained, layer=i + 1, images=images)
        row.update(top_columns=top, top_columns_even=even, row_overlap=measure.row_overlap(weights))
        if cls is not None:
            overlap, chance = measure.top_overlap(cls[:, i], cls[:, -1])
            row.update(
                class_effective_tokens=measure.effective_tokens(cls[:, i]),
                class_rank_correlation_last=measure.rank_correlation(cls[:, i], cls[:, -1]),
                class_top_overlap_last=overlap,
                class_top_overlap_chance=chance,
            )
        rows.append(row)
    return pd.DataFrame(rows)


def semantic(subject: Subject, images: int = IMAGES) -> pd.DataFrame:
    """One row for each layer of the STGM, and for each layer after it."""
    import pandas as pd

    from analysis.attention_maps import measure

    batch, maps = look(subject, images)
    covered = measure.owners(batch.instances, maps.grid, batch.classes.shape[1] + 1)
    head = dict(model=subject.name, trained=subject.trained, images=images)
    rows, first = [], len(maps.base) + 1
    inside = measure.windows(maps.grid, maps.semantic_grid)
    pooled = inside.float()
    pooled = (pooled / pooled.sum(1, keepdim=True)).expand(len(batch.images), -1, -1)
    for i, weights in enumerate([pooled[:, None], *maps.to_image]):
        shares = (weights / weights.sum(-1, keepdim=True)).mean(1)  # (B, M, N)
        row = dict(head, part=f"layer {first + i - 1}, STGM" if i else "pooling windows", kind="image")
        row.update(measure.locality(shares, maps.grid, maps.semantic_grid))
        row.update(row_overlap=measure.row_overlap(shares), **measure.on_objects(shares, covered))
        if i > 1:  # Figure 4a: which row looks at semantic tokens, and not at the image
            mass = maps.to_semantic[i - 2].mean(1).sum(-1)  # (B, M)
            row.update(_global_token(mass), even=mass.shape[1] / (mass.shape[1] + maps.tokens))
            row.update(measure.follows(mass, inside, covered[..., 1]))
        rows.append(row)
    for i, weights in enumerate(maps.after):  # Figure 4c: which column the others look at
        mass = weights.mean((1, 2))
        row = dict(head, part=f"layer {first + len(maps.to_image) + i}", kind="semantic")
        row.update(_global_token(mass), even=1 / mass.shape[1], row_overlap=measure.row_overlap(weights))
        row.update(measure.follows(mass, inside, covered[..., 1]))
        rows.append(row)
    return pd.DataFrame(rows)


def _global_token(mass) -> dict:
    """Whose attention mass is largest: (B, M) → the token, agreement over images, its mass and the others'."""
    from analysis.attention_maps import measure

    found = measure.agreement(mass)
    mean = mass.mean(0)
    token = found["token"] - 1
    others = (mean.sum() - mean[token]) / max(len(mean) - 1, 1)
    return {
        "global_token": found["token"],
        "agree": found["agree"],
        "chance": found["chance"],
        "mass": float(mean[token]),
        "mass_others": float(others),
    }
