"""A sparsified vision tower in a multimodal model such as LLaVA: fewer image tokens for the language model.

    fast = stvit.sparsify(llava, tokens=64, at=8)
    inputs = stvit.adjust_placeholders(fast, processor(images=image, text=prompt, return_tensors="pt"))
    fast.generate(**inputs)
    for row in prefill_table(llava, inputs, {"method": "tome"}, {"tokens": 64, "at": 8}): print(row)

A prompt has a placeholder for each image token; the processor, which does not know the tower, writes those of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stvit.counted import multiply_adds, seconds
from stvit.hosts.huggingface import find_towers, layers_of
from stvit.layers.semantic import StgmLayer
from stvit.record import record
from stvit.reduce.reduction import HostBlock
from stvit.sparsify import sparsify


@torch.no_grad()
def image_tokens(model: nn.Module, pixel_values: Tensor) -> int:
    """How many tokens the language model is given for each of these images."""
    if not reducing_layers(model):
        return len(_features(model, pixel_values)[0])
    with record(model, attention=False) as maps:
        features = _features(model, pixel_values)
    holds = [assignment for name, assignment in maps.items() if "initial" not in name]
    if any((assignment.sum(dim=2) == 0).any() for assignment in holds):
        raise ValueError(
            "the method keeps another number of tokens in each of these images, and a language model would read the "
            "padding: give it one image at a time, or choose a method with a fixed number"
        )
    return len(features[0])


def _features(model: nn.Module, pixel_values: Tensor) -> Any:
    found = model.get_image_features(pixel_values=pixel_values)
    return getattr(found, "pooler_output", found)


def tower_of(model: nn.Module) -> nn.Module:
    towers = find_towers(model)
    if (
        len(towers) != 1
        or not hasattr(model, "get_image_features")
        or not hasattr(model.config, "image_token_id")
    ):
        raise ValueError(
            f"{type(model).__name__} is no multimodal model with one vision tower and image placeholders"
        )
    return towers[0]


def reducing_layers(model: nn.Module) -> list[int]:
    """The layers of the tower that change the tokens, counted from 1."""
    layers = enumerate(layers_of(tower_of(model)), 1)
    return [number for number, layer in layers if isinstance(layer, (HostBlock, StgmLayer))]


def adjust_placeholders(model: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A processor's ``inputs`` with as many image placeholders as ``model`` has image tokens.

    What goes along with ``input_ids`` (attention_mask, labels, …) loses the same places. Rows that had more images
    than others are filled on the left.
    """
    ids, pixels = inputs["input_ids"], inputs["pixel_values"]
    tower_of(model)
    image, wanted = ids == model.config.image_token_id, image_tokens(model, pixels)
    written, rest = divmod(int(image.sum()), len(pixels))
    if rest or written < wanted:
        raise ValueError(
            f"the prompt has {int(image.sum())} image placeholders for {len(pixels)} images of {wanted} tokens; "
            "it needs as many as the dense model has tokens"
        )
    keep = ~image | ((image.cumsum(dim=1) - 1) % max(written, 1) < wanted)  # (B, L)
    if "attention_mask" in inputs:
        keep = keep & inputs["attention_mask"].bool()  # padding is laid anew
    fill = {"input_ids": _padding(model), "labels": -100}
    return {
        name: _shortened(value, keep, fill.get(name, 0))
        if isinstance(value, Tensor) and value.shape == ids.shape
        else value
        for name, value in inputs.items()
    }


def _padding(model: nn.Module) -> int:
    found = model.config.get_text_config().pad_token_id
    return 0 if found is None else found


def _shortened(rows: Tensor, keep: Tensor, fill: int) -> Tensor:
    """The places of each row (B, L) that stay, as many of ``fill`` in front as the longest row needs."""
    longest = int(keep.sum(dim=1).max())
    parts = [row[stay] for row, stay in zip(rows, keep, strict=True)]
    return torch.stack([torch.cat([row.new_full((longest - len(row),), fill), row]) for row in parts])


class Prefill(NamedTuple):
    """What it costs to read a prompt, and how far the next word's distribution is from the dense model's."""

    name: str
    image_tokens: int
    prompt_tokens: int
    multiply_adds: int
    seconds: float
    divergence: float  # KL(dense ‖ this) of the next word, in nats, the mean over the batch


def prefill_table(model: nn.Module, inputs: Mapping[str, Any], *choices: Mapping[str, Any]) -> list[Prefill]:
    """The dense ``model``, what ``sparsify(model, **choice)`` makes of it, and for each a control.

    The control drops tokens at random, where the choice first reduces and down to as many: in this field it is strong.
    """
    with torch.no_grad():
        dense = _next_word(model, inputs)
    rows = [_measure("dense", model, inputs, dense)]
    for choice in choices:
        name = ", ".join(f"{key}={value}" for key, value in choice.items())
        sparse = sparsify(model, **choice)
        rows.append(_measure(name, sparse, inputs, dense))
        kept = rows[-1].image_tokens / rows[0].image_tokens
        first = next(
            i
            for i, part in enumerate(layers_of(tower_of(sparse)), 1)
            if isinstance(part, (HostBlock, StgmLayer))
        )
        control = sparsify(model, method="random", keep_rate=min(1.0, kept), at=first)
        rows.append(_measure(f"random, as many as {name}", control, inputs, dense))
    return rows


def _measure(name: str, model: nn.Module, inputs: Mapping[str, Any], dense: Tensor) -> Prefill:
    own = adjust_placeholders(model, inputs)
    with torch.no_grad():
        gap = nn.functional.kl_div(_next_word(model, own), dense, log_target=True, reduction="batchmean")
    tokens = image_tokens(model, inputs["pixel_values"])
    cost, taken = multiply_adds(model, **own), seconds(model, **own)
    return Prefill(name, tokens, own["input_ids"].shape[1], cost, taken, float(gap))


def _next_word(model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
    return model(**inputs).logits[:, -1].float().log_softmax(dim=1)  # (B, words)
