"""timm's Swin weights as the start of STViT-Swin and STViT-R-Swin: the layers that they share."""

from __future__ import annotations

import timm
from timm.models.swin_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from stvit.models.swin import AnySizeSwin


def load_swin(model: AnySizeSwin, source: nn.Module | dict[str, Tensor] | str) -> list[str]:
    """Copy what ``model`` shares with a Swin into it, by name; returns what stays fresh.

    ``source``: a timm Swin, a Swin's state dict in timm's or the Swin authors' names, or the name of a
    timm model, whose pretrained weights are taken. Shared are the window layers, the semantic layers'
    projections, norms and FFNs, patch merging, the last norm and the classifier; not the stem.
    Raises ValueError where nothing, or a shared layer of another shape, is found.
    """
    if not isinstance(model, AnySizeSwin):
        raise ValueError(f"{type(model).__name__} is neither STViT-Swin nor STViT-R-Swin")
    if isinstance(source, str):
        source = timm.create_model(source, pretrained=True)
    given = source.state_dict() if isinstance(source, nn.Module) else source
    if "layers.0.downsample.reduction.weight" in given:  # the Swin authors' names
        given = checkpoint_filter_fn(given, model)
    own = model.state_dict()
    shared = {
        key: given[key] for key in own if key in given and not key.startswith(("patch_embed.", "head."))
    }
    misfits = [
        f"{key} {tuple(value.shape)} instead of {tuple(own[key].shape)}"
        for key, value in shared.items()
        if value.shape != own[key].shape
    ]
    if misfits or not shared:
        raise ValueError(f"this Swin does not fit: {'; '.join(misfits[:3]) or 'no layer is shared'}")
    for key in ("head.fc.weight", "head.fc.bias"):
        if key in own and key in given and own[key].shape == given[key].shape:
            shared[key] = given[key]
    model.load_state_dict(shared, strict=False)
    return [key for key, _ in model.named_parameters() if key not in shared]
