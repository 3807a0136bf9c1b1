"""The methods to compare: a trained STViT, and reductions that are put into the dense model."""

from __future__ import annotations

from analysis.shared.models import Subject, open_model

DENSE = "micro_deit_class_token"
SEMANTIC_MODELS = {"STViT": "micro_stvit_16"}
OFF_THE_SHELF_CHOICES = {  # put into the dense model, not trained again
    "BAT": dict(method="bat", keep_rate=0.6),
    "EViT": dict(method="evit", keep_rate=0.6),
    "DynamicViT": dict(method="dynamicvit", keep_rate=0.6),
    "ToMe": dict(method="tome", r=8),
    "top-k": dict(method="topk", keep_rate=0.6),
    "random": dict(method="random", keep_rate=0.6),
    "mean pooling": dict(method="meanpool", tokens=16),
    # all but one token are clusters: BAT's Figure 2 (c)
    "clusters only": dict(method="bat", keep_rate=0.6, clusters=10_000, pairs=0),
}
FIGURE_2 = ("top-k", "clusters only", "BAT")


def off_the_shelf(name: str, dense: Subject | None = None) -> Subject:
    """The dense model with the reductions of a method, whose own parts, if any, are newly initialised."""
    import torch

    import stvit

    dense = dense or open_model(DENSE)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = stvit.sparsify(dense.model, **OFF_THE_SHELF_CHOICES[name])
    learned = name == "DynamicViT"  # its predictors know nothing yet
    return Subject(
        f"{dense.name}, off the shelf",
        model.eval(),
        dense.trained and not learned,
        dense.weights,
        dense.found,
    )


def methods() -> dict[str, Subject]:
    """One subject a method, in the order of the figures."""
    dense = open_model(DENSE)
    found = {name: open_model(checkpoint) for name, checkpoint in SEMANTIC_MODELS.items()}
    for name in ("BAT", "EViT", "DynamicViT", "ToMe", "top-k", "random", "mean pooling"):
        found[name] = off_the_shelf(name, dense)
    return found
