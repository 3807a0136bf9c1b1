"""Grids as data: tables of rows to train, and what the papers conclude from them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """A model to train; ``printed`` is what the paper has, by the name of its column.

    training: what differs from the grid's own
    """

    name: str
    model: str
    args: dict = field(default_factory=dict)
    printed: dict = field(default_factory=dict)
    training: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Rows, the first of which is the base that the others are compared to."""

    name: str
    title: str
    rows: tuple[Row, ...]
    note: str = ""


@dataclass(frozen=True)
class Claim:
    """``comparisons``: (row, relation, other row) within a table."""

    table: str
    words: str
    comparisons: tuple[tuple[str, str, str], ...]


def above(best: str, *others: str) -> tuple[tuple[str, str, str], ...]:
    return tuple((best, "above", other) for other in others)


TOKEN_HEAD = dict(class_token=True, global_pool="token")  # for models whose head reads the mean by default

BAT_STEPS = {  # BAT, Table 3
    "attentive token preservation": dict(merger="none", pairs=0),
    "+ inattentive token pack": dict(merger="pack", pairs=0),
    "+ inattentive token clustering": dict(pairs=0),
    "+ attentive token matching": dict(),
}
BAT_STEPS_PRINTED = {
    0.7: (79.3, 79.3, 79.5, 79.6),
    0.5: (78.2, 78.4, 78.8, 79.0),
}  # top-1 of DeiT-S by keep rate


def bat(name: str, keep_rate: float, printed: float | None, **args) -> Row:
    column = {"DeiT-S": printed} if printed else {}
    return Row(name, "micro_bat", dict(keep_rate=keep_rate, **args), column)


def bat_steps(keep_rate: float) -> tuple[Row, ...]:
    """The rows of BAT's Table 3 at a keep rate."""
    steps = zip(BAT_STEPS.items(), BAT_STEPS_PRINTED[keep_rate], strict=True)
    return tuple(bat(name, keep_rate, value, **step) for (name, step), value in steps)


def every_step_adds(table: str, keep_rate: float) -> Claim:
    names = list(BAT_STEPS)
    pairs = zip(names[1:], names[:-1], strict=True)
    return Claim(
        table,
        f"Each step of BAT adds at keep rate {keep_rate}",
        tuple((one, "above", other) for one, other in pairs),
    )


INITIALIZATION_CLAIMS = (  # STViT, Table 7
    Claim(
        "stvit_table7",
        "Spatial and global initialization together beat either alone",
        above("spatial and global", "spatial", "global"),
    ),
    Claim("stvit_table7", "Spatial initialization alone beats global alone", above("spatial", "global")),
    Claim(
        "stvit_table7",
        "Centers on the keys too (learned positions) are no better",
        (("spatial, learned positions", "not above", "spatial and global"),),
    ),
)
KEEP_RATE_CLAIMS = (
    Claim(
        "bat_keep_rates",
        "BAT at keep rate 0.7 stays within half a point of the dense model",
        (("keep rate 0.7", "not below", "dense, class token"),),
    ),
    Claim(
        "bat_keep_rates",
        "The fewer tokens BAT keeps, the lower its accuracy",
        above("keep rate 0.7", "keep rate 0.5") + above("keep rate 0.5", "keep rate 0.3"),
    ),
)
