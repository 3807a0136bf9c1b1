"""Reference outputs of public programs (``tests/stvit/oracles``), and a model's outputs to hold against them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from fill_rule import draw, make_input
from torch import Tensor, nn

from stvit.reduce import Plan, compose

ORACLES = Path(__file__).resolve().parent.parent / "stvit" / "oracles"


def oracle(name: str) -> dict[str, Tensor]:
    with np.load(ORACLES / f"{name}.npz") as file:
        return {
            key: torch.from_numpy(file[key].astype(np.int64) if file[key].dtype == np.uint8 else file[key])
            for key in file
        }


def outputs(model: nn.Module) -> tuple[Tensor, dict[int, Plan]]:
    """Logits and the plan of each layer that reduces, counted from 0 as the public programs count."""
    trace: list = []
    images = make_input().to(next(model.parameters()).dtype)
    with torch.no_grad():
        logits = model.forward_head(model.norm(model.forward_layers(images, trace)))
    return logits, {i: plan for i, (_, plan) in enumerate(trace) if plan.parts}


def equal_logits(logits: Tensor, reference: dict[str, Tensor]) -> None:
    torch.testing.assert_close(logits.float(), reference["logits"], atol=1e-5, rtol=0)


def held(plans: dict[int, Plan], tokens: int = 196) -> Tensor:
    """Which image token ended where, after all plans: (B, M, N)."""
    steps = []
    for plan in plans.values():
        steps.append(plan.assignment(tokens).double())
        tokens = steps[-1].shape[1]
    return compose(steps)


def official_weights(name: str) -> dict[str, Tensor]:
    """Weights by rule under the names of a public program's parameters, as its checkpoint would hold them."""
    shapes = json.loads((ORACLES / f"{name}_keys.json").read_text())
    drawn = {
        key: draw(key, torch.empty(shape)) for key, shape in shapes.items() if not key.endswith(".splits")
    }
    return {key: value for key, value in drawn.items() if value is not None}
