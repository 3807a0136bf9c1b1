"""Attention maps and token assignments of an untouched model.

    with stvit.record(model) as maps:
        model(images)
    maps["blocks.4.attn"]        # (B, heads, M, N): who attends to whom, each row sums to 1
    maps["blocks.4.assignment"]  # (B, M, N): which image token goes into which semantic token

The model's own forward stays fused: hooks see the input of each attention layer and compute its maps in
addition, without gradients. Each thread records its own forwards. A module takes part if it has one of the methods

    weights(...)     attention maps for the inputs of its forward
    assignment(...)  a token assignment for the inputs of its forward

or if it is a timm attention layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import get_ident

import torch
from timm.layers import Attention as TimmAttention
from torch import Tensor, nn

from stvit.layers.attention import attention_weights


@contextmanager
def record(model: nn.Module, attention: bool = True, assignments: bool = True) -> Iterator[dict[str, Tensor]]:
    """Collect maps of every forward inside the block by module name; the last forward's stay.

    Raises RuntimeError when the block ends without anything recorded.
    """
    maps: dict[str, Tensor] = {}
    watched = 0
    with ExitStack() as hooks:
        for name, module in unwrap(model).named_modules():
            for key, observe in _observers(name, module, attention, assignments):
                hooks.callback(_watch(module, key, observe, maps).remove)
                watched += 1
        if not watched:
            raise RuntimeError(
                f"{type(unwrap(model)).__name__} has no attention layer or token assignment to record"
            )
        yield maps
    if not maps:
        raise RuntimeError(
            "nothing was recorded: the model did not run inside the block, or it ran compiled; "
            "call the model that was passed to torch.compile (compiled._orig_mod)"
        )


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside torch.compile's and DistributedDataParallel's wrappers."""
    while True:
        if hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            model = model.module
        else:
            return model


def _observers(
    name: str, module: nn.Module, attention: bool, assignments: bool
) -> Iterator[tuple[str, Callable]]:
    if attention and hasattr(module, "weights"):
        yield name, module.weights
    elif attention and isinstance(module, TimmAttention):
        yield name, lambda *args, **kwargs: timm_weights(module, *args, **kwargs)
    if assignments and hasattr(module, "assignment"):
        yield f"{name}.assignment" if name else "assignment", module.assignment


def _watch(module: nn.Module, key: str, observe: Callable, maps: dict[str, Tensor]):
    thread = get_ident()

    def hook(module: nn.Module, args: tuple, kwargs: dict | None = None) -> None:
        # without keyword arguments: another thread's hook, which was removed while this forward ran
        if get_ident() == thread and kwargs is not None:
            with torch.no_grad():
                maps[key] = observe(*args, **kwargs)

    return module.register_forward_pre_hook(hook, with_kwargs=True)


def timm_weights(
    attn: TimmAttention, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
) -> Tensor:
    """The maps (B, heads, N, N) of timm's self-attention layer."""
    if is_causal:
        raise NotImplementedError("maps of causal attention are not recorded")
    qkv = attn.qkv(x).unflatten(2, (3, attn.num_heads, attn.head_dim)).permute(2, 0, 3, 1, 4)
    q, k, _ = qkv.unbind(0)  # (B, heads, N, head_dim)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=q.dtype).masked_fill(~attn_mask, -torch.inf)
    return attention_weights(attn.q_norm(q), attn.k_norm(k), attn.scale, attn_mask)
