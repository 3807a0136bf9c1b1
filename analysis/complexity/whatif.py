"""What a model costs at sizes and token counts of one's own, and where sparsification begins to pay.

Closed forms answer for the models of this toolkit at the sizes that they cover; every other registered model
is built (on the meta device, by ``counting``) and counted.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from analysis.shared.flops import closed_global, closed_local, closed_reduced, closed_semantic
from analysis.shared.flops.closed_global import squarest
from analysis.shared.flops.formulas import Cost

Size = tuple[int, int]


class BadInput(ValueError):
    """A request that cannot be answered; its text is one line that says what would fit."""


class KnownModel(NamedTuple):
    """A model with a closed form, and the dense model that it is compared with."""

    closed: Callable[..., Cost]
    numbers: dict[str, Any]
    head_dim: int
    unit: int  # image sides are multiples of this
    patch: int
    dense: str | None = None
    accepts: tuple[str, ...] = ()  # which of tokens, stgm_at, depth, keep_rate the model has


def _known() -> dict[str, KnownModel]:
    models = {}
    for size, C in (("tiny", 192), ("small", 384), ("base", 768)):
        tail, options = f"deit_{size}_patch16_224", ("tokens", "stgm_at", "depth")
        vit = KnownModel(closed_global.deit, {"C": C}, 64, 16, 16, accepts=("depth",))
        sparse = vit._replace(dense=tail)
        models |= {tail: vit, f"vit_{size}_patch16_224": vit}
        models[f"stvit_{tail}"] = sparse._replace(closed=closed_global.stvit_deit, accepts=options)
        models |= _reduced(tail, sparse._replace(closed=closed_reduced.reduced_vit))
        numbers = {"C": C, "keep_rate": 0.7}
        models[f"dynamicvit_{tail}"] = sparse._replace(
            closed=closed_reduced.dynamic_vit, numbers=numbers, accepts=("keep_rate",)
        )
        models |= _swins(size)
    tail = "lvvit_small_patch16_224"
    models[tail] = lvvit = KnownModel(closed_global.lvvit, {}, 64, 16, 16)
    sparse = lvvit._replace(dense=tail)
    models[f"stvit_{tail}"] = sparse._replace(numbers={"tokens": 36}, accepts=("tokens", "stgm_at"))
    return models | _reduced(tail, sparse._replace(closed=closed_reduced.reduced_lvvit))


def _reduced(tail: str, trunk: KnownModel) -> dict[str, KnownModel]:
    return {
        f"{method}_{tail}": trunk._replace(
            numbers={**trunk.numbers, "method": method, "keep_rate": 0.7}, accepts=("keep_rate",)
        )
        for method in closed_reduced.METHODS
    }


def _swins(size: str) -> dict[str, KnownModel]:
    C, depths = closed_local.SWIN[size]
    tail, numbers = f"swin_{size}_patch4_window7_224", {"C": C, "depths": depths}
    dense = KnownModel(closed_local.swin, numbers, 32, 32, 4)
    stvit = {**numbers, "base": 2 if size == "tiny" else 10}
    sparse = dense._replace(dense=tail, closed=closed_semantic.stvit_swin, numbers=stvit, accepts=("tokens",))
    models = {tail: dense, f"stvit_{tail}": sparse}
    if size != "tiny":
        models[f"stvit_r_{tail}"] = sparse._replace(
            closed=closed_semantic.stvit_r_swin, numbers=numbers, accepts=()
        )
    return models


KNOWN = _known()


@dataclass(frozen=True)
class Request:
    """A model and what to change about it; None leaves the model's own setting."""

    model: str
    image_size: Size = (224, 224)
    tokens: int | Size | None = None
    depth: int | None = None
    stgm_at: int | None = None
    keep_rate: float | None = None
    batch: int = 1
    method: str | None = None  # sparsify the model with it first

    def changes(self) -> dict[str, Any]:
        names = ("method", "tokens", "depth", "stgm_at", "keep_rate")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def closed_form(request: Request) -> Cost | None:
    """The cost of one image; None if the model has no closed form; BadInput if the request cannot be met."""
    known = KNOWN.get(request.model)
    if known is None or request.method is not None:
        return None
    check(request, known)
    grid = tuple(side // known.patch for side in request.image_size)
    numbers = {**known.numbers, **request.changes(), "grid": grid}
    if known.closed is closed_semantic.stvit_swin and "tokens" in numbers:
        numbers["semantic_window"] = math.isqrt(numbers.pop("tokens"))
    return known.closed(**numbers)


def check(request: Request, known: KnownModel) -> None:
    for name in request.changes():
        if name not in known.accepts:
            has = (
                f"it has --{', --'.join(known.accepts)}".replace("_", "-")
                if known.accepts
                else "it has no options"
            )
            raise BadInput(
                f"{request.model} takes no --{name.replace('_', '-')}; {has} beside --image-size and --batch"
            )
    check_size(request.image_size, known.unit)
    check_counts(request)
    if known.closed is closed_semantic.stvit_swin:
        _check_window_tokens(request)
    elif "tokens" in known.accepts:
        check_tokens(request.tokens, tuple(side // known.patch for side in request.image_size))
        _check_layers(request, 16 if "lvvit" in request.model else 12)


def check_size(size: Size, unit: int) -> None:
    wrong = [side for side in size if side < unit or side % unit]
    if wrong:
        below, above = wrong[0] // unit * unit, -(-wrong[0] // unit) * unit
        near = f"{below} or {above}" if unit <= below < above else f"{max(above, unit)}"
        raise BadInput(f"image side {wrong[0]} is not a multiple of {unit}; the nearest that fit: {near}")


def check_tokens(tokens: int | Size | None, grid: Size) -> None:
    if tokens is None:
        return
    h, w = squarest(tokens)
    if h < 1 or h > grid[0] or w > grid[1]:
        count = h * w
        fitting = [m for m in range(1, grid[0] * grid[1] + 1) if _fits(m, grid)]
        near = sorted(fitting, key=lambda m: abs(m - count))[:3]
        raise BadInput(
            f"{count} semantic tokens as a {h}×{w} grid do not fit {grid[0]}×{grid[1]} image tokens; "
            f"the nearest that fit: {', '.join(map(str, sorted(near)))}"
        )


def _fits(M: int, grid: Size) -> bool:
    h, w = squarest(M)
    return h <= grid[0] and w <= grid[1]


def _check_window_tokens(request: Request) -> None:
    if request.tokens is None:
        return
    if not isinstance(request.tokens, int) or request.tokens not in (1, 4, 9, 16, 25, 36, 49):
        raise BadInput(
            f"{request.model} pools w_s×w_s tokens in each 7×7 window: --tokens is one of 1, 4, 9, 16, 25, 36, 49"
        )


def check_counts(request: Request) -> None:
    for name in ("batch", "depth", "stgm_at"):
        value = getattr(request, name)
        if value is not None and value < 1:
            raise BadInput(f"--{name.replace('_', '-')} is at least 1, not {value}")
    if request.tokens is not None and min(squarest_or_zero(request.tokens)) < 1:
        raise BadInput(f"--tokens is at least 1, not {request.tokens}")
    if request.keep_rate is not None and not 0 < request.keep_rate <= 1:
        raise BadInput(f"--keep-rate is above 0 and at most 1, not {request.keep_rate}")


def squarest_or_zero(tokens: int | Size) -> Size:
    return (tokens, tokens) if isinstance(tokens, int) and tokens < 1 else squarest(tokens)


def _check_layers(request: Request, depth: int) -> None:
    depth, at = request.depth or depth, request.stgm_at or (6 if "lvvit" in request.model else 5)
    if at + 1 > depth:
        raise BadInput(
            f"an STGM of 2 layers at layer {at} does not fit {depth} layers; --stgm-at is at most {depth - 1}"
        )


def dense_of(request: Request) -> Request | None:
    """The dense model at the same size and depth."""
    known = KNOWN.get(request.model)
    if known is None or known.dense is None:
        return None
    return replace(request, model=known.dense, tokens=None, stgm_at=None, keep_rate=None)


def layers(cost: Cost) -> list[dict[str, Any]]:
    """A row for each layer: its terms by kind, their sum, its share of the whole, in FLOPs of one image."""
    kinds = list(cost.by("kind"))
    table: dict[str, dict[str, Any]] = {}
    for term in cost:
        row = table.setdefault(
            term.layer, {"layer": term.layer, "part": term.part, **dict.fromkeys(kinds, 0)}
        )
        row[term.kind] += term.flops
    for row in table.values():
        row["total"] = sum(row[kind] for kind in kinds)
        row["share_percent"] = 100 * row["total"] / cost.total
    return list(table.values())


class Crossover(NamedTuple):
    side: int  # the smallest square image from which on the sparse model costs less
    tokens: int  # image tokens there


def crossover(request: Request, limit: int = 2048, saving: float = 0.0) -> Crossover | None:
    """The smallest square image from which on the saving exceeds ``saving``; None if there is none."""
    dense, known = dense_of(request), KNOWN.get(request.model)
    if dense is None or known is None:
        return None
    found = None
    for side in range(known.unit, limit + 1, known.unit):
        try:
            ours = closed_form(replace(request, image_size=(side, side)))
        except BadInput:  # the tokens do not fit so small an image
            continue
        theirs = closed_form(replace(dense, image_size=(side, side)))
        if ours.total >= (1 - saving) * theirs.total:
            found = None
        elif found is None:
            found = Crossover(side, (side // known.patch) ** 2)
    return found


def unknown_model(name: str, names: list[str]) -> BadInput:
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"; near: {', '.join(near)}" if near else "; timm.list_models() lists them"
    return BadInput(f"unknown model {name!r}{hint}")
