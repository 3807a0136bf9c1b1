"""timm's Muon for models of many small matrices: weights of one shape together, and CPUs without bfloat16.

timm's Muon makes the update of each matrix orthogonal by itself, some 20 small products a matrix. Layers of a
transformer have matrices of the same shapes, so ``in_stacks`` makes one batched product of each.

It multiplies in bfloat16. A CPU that has no such instructions multiplies these small matrices one number at a time,
a third of the time of training a micro model. Here (``rounded``) products are float32, of numbers rounded to
bfloat16, and are rounded to it again: what bfloat16 kernels compute, which add up in float32 too, but for the order
of the sums.

timm's module itself is not touched: ``registry()`` has a Muon from a second instance of it.
"""

from __future__ import annotations

import copy
import importlib.util
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial

import torch
from timm.optim import muon
from timm.optim._optim_factory import OptimizerRegistry, default_registry
from torch import Tensor

from stvit.training.bfloat16 import bfloat16_products, to_bfloat16

Coefficients = list[tuple[float, float, float]]
timms = muon.zeropower_via_newtonschulz


@lru_cache
def registry() -> OptimizerRegistry:
    """timm's optimizers, where Muon and its relatives use ``orthogonal``."""
    own = copy.copy(default_registry)
    own._optimizers = {
        name: replace(info, opt_class=_own_muon()) if info.opt_class is muon.Muon else info
        for name, info in default_registry._optimizers.items()
    }
    return own


@lru_cache
def _own_muon() -> type[torch.optim.Optimizer]:
    """timm's Muon from another instance of its module, with this module's iteration and stacks."""
    spec = importlib.util.find_spec(muon.__name__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.zeropower_via_newtonschulz = orthogonal
    module.muon = partial(in_stacks, module.muon)
    return module.Muon


def in_stacks(one_by_one: Callable, params: list, grads: list, momentum_bufs: list, **choices) -> None:
    """timm's function ``muon``, ``one_by_one`` for what has no other of its shape."""
    places = defaultdict(list)
    for place, param in enumerate(params):
        places[param.shape, param.dtype, param.device].append(place)
    for (shape, *_), same in places.items():
        step = step_of_a_stack if len(shape) == 2 and len(same) > 1 else one_by_one
        step(*([tensors[place] for place in same] for tensors in (params, grads, momentum_bufs)), **choices)


def step_of_a_stack(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_bufs: list[Tensor],
    *,
    lr,
    weight_decay,
    momentum,
    nesterov,
    ns_steps,
    ns_coefficients,
    adjust_lr_fn=None,
    eps=muon.MUON_EPS,
    safety_factor=1.0,
    scale_eps=False,
    **_,
) -> None:
    """Muon's step for matrices of one shape."""
    torch._foreach_mul_(params, 1 - lr * weight_decay)
    torch._foreach_lerp_(momentum_bufs, grads, 1 - momentum)
    updates = torch._foreach_lerp(grads, momentum_bufs, momentum) if nesterov else momentum_bufs
    coefficients = muon.resolve_ns_coefficients(ns_coefficients, muon._COEFFICIENTS)
    how = dict(eps=eps, safety_factor=safety_factor, scale_eps=scale_eps)
    directions = orthogonal(torch.stack(list(updates)), ns_steps, coefficients, **how)
    scale = muon.get_lr_scale(directions.shape[1:], adjust_lr_fn) if adjust_lr_fn else 1.0
    torch._foreach_add_(params, (directions.to(params[0].dtype) * (-lr * scale)).unbind())


def orthogonal(G: Tensor, steps: int, coefficients: Coefficients, dtype=torch.bfloat16, **choices) -> Tensor:
    """timm's ``zeropower_via_newtonschulz``, in float32 products where bfloat16 ones are slow."""
    slow = G.device.type == "cpu" and dtype is torch.bfloat16 and not bfloat16_products()
    if not slow:
        return timms(G, steps, coefficients, dtype=dtype, **choices)
    return rounded(G, steps, coefficients, **choices)


def rounded(
    G: Tensor,
    steps: int,
    coefficients: Coefficients,
    eps: float = muon.MUON_EPS,
    safety_factor: float = 1.0,
    scale_eps: bool = False,
) -> Tensor:
    X = timms(G, 0, coefficients[:1], eps, safety_factor, scale_eps=scale_eps).float()  # normalised alone
    tall = X.shape[-2] > X.shape[-1]
    X = X.mT.contiguous() if tall else X
    times = torch.baddbmm if X.ndim > 2 else torch.addmm
    last = coefficients[-1]
    for a, b, c in (coefficients + [last] * steps)[:steps]:
        A = to_bfloat16(X @ X.mT)
        B = to_bfloat16(times(A, A, A, beta=b, alpha=c))
        X = to_bfloat16(times(X, B, X, beta=a))
    return (X.mT if tall else X).bfloat16()
