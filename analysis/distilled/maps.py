"""How like a student's map is to its teacher's: its tokens, and the saliency that a trained head reads from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from analysis.bootstrap import by_photograph
from analysis.shared.likeness import correlation
from analysis.shared.saliency import BATCH, read_saliency

if TYPE_CHECKING:
    from torch import Tensor

    from stvit.training.taught import Taught


def fidelity(maps: Tensor, train: Taught, test: Taught, dense: Tensor, owner: Tensor) -> dict:
    """Of the student's ``maps`` (n, N, C) of the held-out crops, photographs of ``owner``.

    train, test: what the teacher said; dense: the saliency that is read from its maps of ``test``
    """
    import stvit

    center = train.maps.mean(dim=(0, 1), dtype=torch.float32)
    parts = zip(maps.split(BATCH), test.maps.split(BATCH), strict=True)
    places = torch.cat(
        [F.cosine_similarity(one - center, two.float() - center, dim=2).mean(dim=1) for one, two in parts]
    )
    found = correlation(read_saliency(stvit.saliency_head(), maps, test.grid).flatten(1), dense.flatten(1))
    return {
        "correlation": round(float(found.mean()), 6),
        "correlation_by_photograph": by_photograph(found.numpy(), np.asarray(owner)).round(6).tolist(),
        "places": round(float(places.mean()), 6),
    }
