"""The keep rate over the epochs of a training."""

from __future__ import annotations

import math


def keep_rate_at(epoch: float, target: float, start: float = 0.0, epochs: float = 100.0) -> float:
    """From 1 down to ``target`` along half a cosine, in ``epochs`` epochs from ``start`` on (BAT, section 5.1).

    model.set_keep_rate(keep_rate_at(epoch, target=0.7))
    """
    progress = min(1.0, max(0.0, (epoch - start) / epochs)) if epochs > 0 else 1.0
    return target + (1 - target) * (1 + math.cos(math.pi * progress)) / 2
