"""Which methods, and how much each of them reduces: keep rates, or amounts that cost the same.

Methods that keep a rate of the tokens in three layers take the keep rate as it is. The others merge r
tokens in each layer, reduce once, or keep their rate in other layers: of their amounts the one is taken
whose multiply-adds are nearest to those of top-k at the keep rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from analysis.shared.field import label

if TYPE_CHECKING:
    from torch import nn

RATES = (0.3, 0.5, 0.7, 0.85, 1.0)
AMOUNTS = (
    "r",
    "num_tokens",
    "keep_rate",
)  # choices that say how much is reduced, the first that a method has
STVIT = "stvit"
VARIANTS = {  # rows besides stvit.reduce.METHODS: the same method with other choices
    "diversity alone": (
        "bat",
        dict(clusters=10_000, pairs=0),
    ),  # all but one token are clusters: BAT, Figure 1 (b)
}


class Setting(NamedTuple):
    """A row of the table: a method with its choices, meant to cost what top-k costs at ``rate``."""

    row: str
    method: str
    rate: float | None  # None: the method as it comes, which has no amount to choose
    choices: dict

    @property
    def label(self) -> str:
        return label(self.row)

    @property
    def key(self) -> str:
        rate = "default" if self.rate is None else f"{self.rate:g}"
        return f"{self.row.replace(' ', '_')}-{rate}"


def rows(methods: Iterable[str] = ()) -> dict[str, tuple[str, dict]]:
    """Row → (method, choices): all that ``stvit.reduce`` has, the variants, and STViT; or those named."""
    from stvit.reduce import METHODS

    known = {**{name: (name, {}) for name in METHODS}, **VARIANTS, STVIT: (STVIT, {})}
    unknown = [name for name in methods if name not in known]
    if unknown:
        raise ValueError(f"unknown method {unknown[0]!r}; choose from {', '.join(known)}")
    return {name: known[name] for name in methods} if methods else known


def plan(
    dense: nn.Module,
    cost: Callable[[nn.Module], int],
    methods: Iterable[str] = (),
    rates: tuple[float, ...] = RATES,
) -> tuple[list[Setting], list[str]]:
    """Every setting that ``dense`` can take, and a line for each method that it cannot.

    cost: the multiply-adds of a model
    """
    import stvit

    base = "topk" if getattr(dense, "cls_token", None) is not None else "random"  # as many tokens
    targets = {rate: cost(stvit.sparsify(dense, method=base, keep_rate=rate)) for rate in rates}
    found, notes = [], []
    for row, (method, choices) in rows(methods).items():
        try:
            name = amount_of(method)
            stvit.sparsify(dense, method=method, **choices)  # can it be?
            if name is None:
                found.append(Setting(row, method, None, choices))
            for rate in rates if name else ():
                found.append(
                    Setting(
                        row, method, rate, {**choices, **amount(dense, method, rate, targets[rate], cost)}
                    )
                )
        except (ValueError, RuntimeError) as reason:
            notes.append(f"{row}: not measured. {str(reason).splitlines()[0]}")
    return [one for one in found if not (one.method == STVIT and one.rate == 1.0)], notes


def amount_of(method: str) -> str | None:
    """The choice of ``method`` that says how much is reduced."""
    if method == STVIT:
        return "tokens"
    from stvit.models.reduced_vit import method_choices

    return next((name for name in AMOUNTS if name in method_choices(method)), None)


def amount(
    dense: nn.Module, method: str, rate: float, target: int, cost: Callable[[nn.Module], int]
) -> dict | None:
    """The amount at which ``method`` keeps ``rate`` of the tokens in three layers, or costs ``target``."""
    import stvit

    name = amount_of(method)
    if name == "keep_rate" and keeps_in_three_layers(method, len(dense.blocks)):
        return {name: rate}
    if rate == 1 and method != STVIT:
        from stvit.reduce import METHODS

        return METHODS[method].identity
    candidates = candidates_for(name, dense)

    def price(value) -> int:
        return cost(stvit.sparsify(dense, method=method, **{name: value}))

    return {name: nearest(candidates, target, price)}


def keeps_in_three_layers(method: str, depth: int) -> bool:
    from stvit.reduce import METHODS

    return len(METHODS[method].layers(depth)) == 3


def candidates_for(name: str, dense: nn.Module) -> list:
    """Amounts in the order of what they cost."""
    grid = dense.patch_embed.grid_size
    tokens = grid[0] * grid[1]
    if name == "r":
        return list(range(tokens // 2, -1, -1))
    if name == "keep_rate":
        return [round(0.1 + 0.005 * i, 3) for i in range(181)]
    return [side * side for side in range(1, min(grid) + 1)]


def nearest(candidates: list, target: int, price: Callable) -> object:
    """The candidate whose price, which never falls along the list, is nearest to ``target``."""
    low, high = 0, len(candidates) - 1
    while low < high:  # the first that costs at least as much
        middle = (low + high) // 2
        low, high = (low, middle) if price(candidates[middle]) >= target else (middle + 1, high)
    around = candidates[max(0, low - 1) : low + 1]
    return min(around, key=lambda value: abs(price(value) - target))


def build(dense: nn.Module, setting: Setting) -> nn.Module:
    """The dense model with the reductions of ``setting``; what a method would learn is fresh, from seed 0."""
    import torch

    import stvit

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return stvit.sparsify(dense, method=setting.method, **setting.choices).eval()


def is_untrained(model: nn.Module, dense: nn.Module) -> bool:
    """Does the method have parameters of its own, which nothing has trained?"""
    known = {name for name, _ in dense.named_parameters()}
    return any(name not in known for name, _ in model.named_parameters())
