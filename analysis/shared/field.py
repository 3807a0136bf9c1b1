"""What each method of ``stvit.reduce`` is, from the facts that its class states: names, and the table of the field."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from stvit.reduce import Reduction
    from stvit.reduce.about import About

LABELS = {"bat": "BAT", "evit": "EViT", "dynamicvit": "DynamicViT", "tome": "ToMe", "topk": "top-k",
          "meanpool": "mean pooling", "ats": "ATS", "ats_sorted": "ATS, sorted", "patchmerger": "PatchMerger",
          "sinkhorn": "Sinkhorn", "sit": "SiT", "kmedoids": "k-medoids", "shrinking": "shrinking ring",
          "middle": "middle of the image", "diffrate": "DiffRate", "tofu": "ToFu", "pitome": "PiToMe", "mctf": "MCTF",
          "dtem": "DTEM", "atc": "ATC", "evovit": "Evo-ViT", "avit": "A-ViT", "spvit": "SPViT", "svite": "SViTE",
          "iared2": "IA-RED²", "tokenlearner": "TokenLearner", "dge": "DGE", "psvit": "PS-ViT", "kmeans": "k-means",
          "stvit": "STViT"}  # fmt: skip
ACTS = {"within": "between attention and MLP", "in front": "in front of the layer", "after": "after the layer",
        "around": "in the layer"}  # fmt: skip
DEPTH = 12


def label(name: str) -> str:
    return LABELS.get(name, name)


def table() -> pd.DataFrame:
    """A row a method: what it looks at, where it acts in 12 layers, what it keeps, has it weights, whose it is."""
    import pandas as pd

    from stvit.reduce import METHODS

    return pd.DataFrame([row(name) for name in METHODS])


def row(name: str) -> dict[str, str]:
    from stvit.reduce import METHODS

    about = METHODS[name].about or plain_facts(METHODS[name])
    model, parts = tiny(name)
    return {
        "method": f"`{name}`",
        "paper": about.paper,
        "looks at": about.looks_at,
        "acts": f"{ACTS[model.blocks[min(model.reductions) - 1].where]}; {spans(sorted(model.reductions))}",
        "keeps": about.keeps,
        "own weights": "yes" if parts else "no",
        "origin": about.origin,
        "licence": about.licence,
    }


def plain_facts(kind: type[Reduction]) -> About:
    """What can be said of a method that states no facts: the first line of its help, and the package that brings it."""
    from stvit.reduce.about import About

    told = (inspect.getdoc(kind) or kind.__name__).splitlines()[0].rstrip(".")
    return About(
        "not stated", "not stated", told, f"the package {kind.__module__.partition('.')[0]}", "not stated"
    )


def tiny(name: str) -> tuple[nn.Module, set[str]]:
    """A small ViT of 12 layers with the method, and the names of the parameters that the method adds."""
    import timm

    import stvit

    sizes = dict(img_size=64, patch_size=8, embed_dim=24, depth=DEPTH, num_heads=3, num_classes=2)
    dense = timm.create_model("vit_tiny_patch16_224", **sizes)
    model = stvit.sparsify(dense, method=name)
    known = {parameter for parameter, _ in dense.named_parameters()}
    return model, {parameter for parameter, _ in model.named_parameters()} - known


def spans(numbers: list[int]) -> str:
    """[4, 7, 10] → "4, 7, 10"; [1, 2, 3] → "1-3"."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in found)
