"""What a model of transformers has from us, in the folder that its own ``save_pretrained`` wrote."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from stvit.hosts.huggingface.guests import ADDED, GuestLayer


@torch.no_grad()
def fill_added(sparse: nn.Module, folder: str | Path) -> nn.Module:
    """Read the weights of reductions and semantic tokens, in place.

    transformers writes layers under the names of a model's first version, so a weight is found by its layer's number
    and what follows it.
    """
    places = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            places |= {key: path for key in file.keys()}  # noqa: SIM118 (no mapping)
    for name, value in added_weights(sparse).items():
        found = [key for key in places if f".{key}".endswith(f".{name}")]
        if len(found) != 1:
            raise ValueError(
                f"{folder} holds {len(found)} weights {name}, not one: it was saved by another version"
            )
        with safe_open(places[found[0]], framework="pt") as file:
            tensor = file.get_tensor(found[0])
        if tensor.shape != value.shape:
            raise ValueError(
                f"{folder}: {name} is {tuple(tensor.shape)}, and the model has {tuple(value.shape)}"
            )
        value.copy_(tensor)
    return sparse


def added_weights(sparse: nn.Module) -> dict[str, torch.Tensor]:
    """Weights that the dense model does not have, by the number of their layer and their name in it."""
    found = {}
    for path, layer in sparse.named_modules():
        if isinstance(layer, GuestLayer):
            number = path.rpartition(".")[2]
            for name, value in layer.state_dict(keep_vars=True).items():
                if name.split(".")[0] in ADDED or ".rel_pos." in name:
                    found[f"{number}.{name}"] = value.detach()
    return found
