"""timm's Swin weights as the start of STViT-Swin and STViT-R-Swin: the layers that they share."""

from __future__ import annotations

from timm.models.swin_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from stvit.checkpoints import CheckpointError, fill
from stvit.convert.sources import Source, weights_of
from stvit.models.swin import AnySizeSwin

HEAD = ("head.fc.weight", "head.fc.bias")


def load_swin(model: AnySizeSwin, source: Source) -> list[str]:
    """Copy what ``model`` shares with a Swin into it, by name; returns the parameters that stay fresh.

    ``source``: a timm Swin, a Swin's state dict in timm's or the Swin authors' names, a checkpoint's path, or
    the name of a timm model, whose pretrained weights are taken. Shared are the window layers, the semantic
    layers' projections, norms and FFNs, patch merging, the last norm and the classifier; not the stem.
    Raises CheckpointError where nothing, or a shared layer of another shape, is found.
    """
    if not isinstance(model, AnySizeSwin):
        raise ValueError(f"{type(model).__name__} is neither STViT-Swin nor STViT-R-Swin")
    given = weights_of(source)
    if "layers.0.downsample.reduction.weight" in given:  # the Swin authors' names
        given = checkpoint_filter_fn(given, model)
    own = model.state_dict()
    return fill_shared(model, {name: value for name, value in given.items() if _is_shared(name, value, own)})


def _is_shared(name: str, value: Tensor, own: dict[str, Tensor]) -> bool:
    """Layers of the same name outside the stem; of a classifier only one with as many classes."""
    if name.startswith("head."):
        return name in HEAD and name in own and own[name].shape == value.shape
    return name in own and not name.startswith("patch_embed.")


def fill_shared(model: nn.Module, shared: dict[str, Tensor], source: str = "this Swin") -> list[str]:
    """Copy tensors that all have a place in ``model``; returns the parameters that stay fresh."""
    if all(name.startswith("head.") for name in shared):
        raise CheckpointError(f"{source} does not fit: no layer is shared with {type(model).__name__}")
    fill(model, shared, source=source, fresh="*")
    return [name for name, _ in model.named_parameters() if name not in shared]
