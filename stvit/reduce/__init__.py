"""Token reductions in one frame: BAT and its rivals, the methods that people compare to, and controls; one file each.

A new method is a ``Reduction`` in a file of its own and a line in ``METHODS``, or, from outside, ``register(cls)`` or
an entry point: see ``stvit.reduce.methods``.
"""

import re

from stvit.reduce.atc import ATC
from stvit.reduce.ats import ATS, SortedATS
from stvit.reduce.avit import AViT
from stvit.reduce.bat import BAT
from stvit.reduce.dge import DGE
from stvit.reduce.diffrate import DiffRate
from stvit.reduce.dtem import DTEM
from stvit.reduce.dynamicvit import DynamicViT
from stvit.reduce.evit import EViT
from stvit.reduce.evovit import EvoViT
from stvit.reduce.heuristic import Middle, Shrinking
from stvit.reduce.iared2 import IARED2
from stvit.reduce.kmeans import KMeans
from stvit.reduce.kmedoids import KMedoids
from stvit.reduce.mctf import MCTF
from stvit.reduce.meanpool import MeanPool
from stvit.reduce.methods import Methods, installed
from stvit.reduce.patchmerger import PatchMerger
from stvit.reduce.pitome import PiToMe
from stvit.reduce.plan import Plan, compose
from stvit.reduce.psvit import PatchSlimming
from stvit.reduce.reduction import Reduction, Seen
from stvit.reduce.schedule import keep_rate_at
from stvit.reduce.sinkhorn import Sinkhorn
from stvit.reduce.sit import SiT
from stvit.reduce.spvit import SPViT
from stvit.reduce.svite import SViTE
from stvit.reduce.tofu import ToFu
from stvit.reduce.tokenlearner import TokenLearner
from stvit.reduce.tome import ToMe
from stvit.reduce.topk import RandomTokens, TopK

METHODS = Methods(
    {
        "bat": BAT,
        "evit": EViT,
        "dynamicvit": DynamicViT,
        "tome": ToMe,
        "topk": TopK,
        "random": RandomTokens,
        "meanpool": MeanPool,
        "ats": ATS,
        "ats_sorted": SortedATS,
        "patchmerger": PatchMerger,
        "sinkhorn": Sinkhorn,
        "sit": SiT,
        "kmedoids": KMedoids,
        "shrinking": Shrinking,
        "middle": Middle,
        "diffrate": DiffRate,
        "tofu": ToFu,
        "pitome": PiToMe,
        "mctf": MCTF,
        "dtem": DTEM,
        "atc": ATC,
        "evovit": EvoViT,
        "avit": AViT,
        "spvit": SPViT,
        "svite": SViTE,
        "iared2": IARED2,
        "tokenlearner": TokenLearner,
        "dge": DGE,
        "psvit": PatchSlimming,
        "kmeans": KMeans,
    }
)
for _point in installed():
    METHODS.offer(_point)


def register(method: type[Reduction], name: str | None = None) -> type[Reduction]:
    """Make a method of your own known by name, so that a saved model with it can be loaded; a class decorator too."""
    if name is None and method in METHODS.values():
        return method
    name = snake_case(method.__name__) if name is None else name
    if name in METHODS and METHODS[name] is not method:
        raise ValueError(f"{name!r} is {METHODS[name].__name__} already; give your method another name")
    METHODS[name] = method
    return method


def snake_case(name: str) -> str:
    """LargestNorm → largest_norm."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


__all__ = ["METHODS", "Plan", "Reduction", "Seen", "compose", "keep_rate_at", "register", "snake_case"]
