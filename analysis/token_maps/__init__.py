"""What becomes of an image's tokens, layer by layer: kept, merged, dropped (BAT, Figures 2 and 5), for every method.

``follow(model, images)`` reads the one assignment record that all methods share; ``fates`` measures it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.token_maps.trace import ReductionStage, follow

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["IMAGES", "ReductionStage", "fates", "follow"]
IMAGES = 256


def fates(name: str, subject, images: int = IMAGES) -> pd.DataFrame:
    """A row for each reduction of the model, over many scenes."""
    import pandas as pd
    import torch

    from analysis.images import normalised, scenes
    from analysis.token_maps import measure

    batch = scenes(images, subject.size[0])
    stages = follow(subject.model, normalised(batch.images.permute(0, 2, 3, 1), subject.model))
    owner = measure.owner_of(batch.instances, stages[0].grid)
    chance = torch.Generator().manual_seed(0)
    return pd.DataFrame(
        [
            dict(method=name, weights=subject.name, trained=subject.trained, layer=stage.layer, images=images,
                 **measure.fate(stage.labels, stage.tokens, owner, chance))
            for stage in stages
        ]
    )  # fmt: skip
