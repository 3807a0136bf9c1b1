"""Muon's Newton-Schulz iteration on processors without bfloat16 arithmetic.

timm's Muon makes updates orthogonal in bfloat16. A CPU that has no such instructions multiplies these small
matrices one number at a time, a third of the time of training a micro model. Here products are float32, of
numbers rounded to bfloat16, and are rounded to it again: what bfloat16 kernels compute, which add up in
float32 too, but for the order of the sums.

timm's module itself is not touched: ``registry()`` has a Muon from a second instance of it.
"""

from __future__ import annotations

import copy
import importlib.util
from dataclasses import replace
from functools import lru_cache

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
    """timm's Muon from another instance of its module, in which ``orthogonal`` takes the iteration's name."""
    spec = importlib.util.find_spec(muon.__name__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.zeropower_via_newtonschulz = orthogonal
    return module.Muon


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
