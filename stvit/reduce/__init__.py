"""Token reductions in one frame: BAT, EViT, DynamicViT, ToMe and the controls, one file each.

A new method is a ``Reduction`` in a file of its own and a line in ``METHODS``.
"""

from stvit.reduce.bat import BAT
from stvit.reduce.dynamicvit import DynamicViT
from stvit.reduce.evit import EViT
from stvit.reduce.meanpool import MeanPool
from stvit.reduce.plan import Plan, compose
from stvit.reduce.reduction import Reduction, Seen
from stvit.reduce.schedule import keep_rate_at
from stvit.reduce.tome import ToMe
from stvit.reduce.topk import RandomTokens, TopK

METHODS: dict[str, type[Reduction]] = {
    "bat": BAT,
    "evit": EViT,
    "dynamicvit": DynamicViT,
    "tome": ToMe,
    "topk": TopK,
    "random": RandomTokens,
    "meanpool": MeanPool,
}

__all__ = ["METHODS", "Plan", "Reduction", "Seen", "compose", "keep_rate_at"]
