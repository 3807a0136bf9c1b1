"""``output_attentions`` of sparsified models: a map of every layer, with as many columns as it looked at tokens.

Layers of ours stay fused and return no maps: theirs are computed in addition, of what comes in. Those of transformers
return their own, as its eager attention does.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident
from typing import Any

from torch import Tensor, nn

EAGER = "eager"


def wants_maps(tower: nn.Module, settings: dict) -> bool:
    """Whether this forward is to return its attention maps; ValueError where transformers would return none."""
    if not settings.get("output_attentions", getattr(tower.config, "output_attentions", False)):
        return False
    found = tower.config._attn_implementation
    if found != EAGER:
        raise ValueError(
            f"output_attentions needs eager attention, and the model has {found}: model.set_attn_implementation("
            "'eager'); or look at it with stvit.record(model)"
        )
    return True


class MapWatch:
    """Sees the attention of each layer in one forward, which this thread runs."""

    def __init__(self, layers: Sequence[nn.Module]):
        self.maps: list[Tensor | None] = [None] * len(layers)  # (B, heads, queries, keys) each
        self.thread = get_ident()
        self.handles = [self.watch(place, layer.attn) for place, layer in enumerate(layers)]

    def watch(self, place: int, attention: nn.Module) -> Any:
        def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
            if get_ident() == self.thread:
                self.maps[place] = module.weights(*args, **kwargs)

        def after(module: nn.Module, args: tuple, output: tuple) -> None:
            if get_ident() == self.thread:
                self.maps[place] = output[1]

        if hasattr(attention, "weights"):
            return attention.register_forward_pre_hook(before, with_kwargs=True)
        return attention.register_forward_hook(after)

    def end(self) -> tuple[Tensor | None, ...]:
        for handle in self.handles:
            handle.remove()
        return tuple(self.maps)


class MapsEnd:
    """The forward hook of a tower, which runs after an error too: puts the maps among its outputs."""

    def __call__(self, tower: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        watch = getattr(kwargs.get("trail"), "watch", None)
        if watch is None:
            return None
        maps = watch.end()
        if isinstance(output, tuple):
            return (*output, maps)
        if output is not None:
            output["attentions"] = maps
        return output
