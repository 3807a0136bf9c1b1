"""Two rows of a table must be two models: compared by architecture before training, by their answers after it.

A row that builds the model of another row is worse than a missing one: it is a result with a wrong name.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


class TwinRows(ValueError):
    """Two rows of one table are the same model."""


def architecture(model: nn.Module) -> list[str]:
    """What a model is made of: a line for each module, with its class, settings, and parameters' shapes."""
    lines = []
    for name, module in model.named_modules():
        shapes = [tuple(p.shape) for p in module.parameters(recurse=False)]
        lines.append(f"{name or 'model'}: {type(module).__name__}({module.extra_repr()}) {shapes}")
        lines += [
            f"{name}.{attribute}: {value}"
            for attribute, value in sorted(vars(module).items())
            if dataclasses.is_dataclass(value) and not isinstance(value, type)
        ]
    return lines


def fingerprint(model: nn.Module) -> str:
    return hashlib.sha256("\n".join(architecture(model)).encode()).hexdigest()[:12]


def equal_rows(rows: Mapping[str, Mapping[int, object]], fewest: int = 2) -> list[tuple[str, str]]:
    """Pairs of rows with equal results in every seed that both have, ``fewest`` at least."""
    return [
        (one, other)
        for one, other in combinations(rows, 2)
        if len(common := rows[one].keys() & rows[other].keys()) >= fewest
        and all(rows[one][seed] == rows[other][seed] for seed in common)
    ]


def refuse_one_architecture(tables: Iterable[tuple[str, Mapping[str, str]]]) -> None:
    """TwinRows names the first table of which two rows have one fingerprint."""
    for name, rows in tables:
        for one, other in combinations(rows, 2):
            if rows[one] == rows[other]:
                raise TwinRows(
                    f"{name}: the rows {one!r} and {other!r} are one architecture; look at their options"
                )


def refuse(tables: Iterable[tuple[str, Mapping[str, Mapping[int, object]]]]) -> None:
    """TwinRows names the first table in which two rows answer alike in every seed."""
    for name, rows in tables:
        for one, other in equal_rows(rows):
            raise TwinRows(
                f"{name}: the rows {one!r} and {other!r} have equal results in every seed, so they are one model; "
                "look at what their options build"
            )
