"""The one error of everything that reads or writes checkpoints, and how its messages shorten lists."""

from __future__ import annotations

SHOWN = 4  # items that an error spells out


class CheckpointError(ValueError):
    """A checkpoint that cannot be used or written, and why, in one line."""


def some(items: list[str], separator: str = ", ") -> str:
    """The first items, and how many there are besides."""
    rest = len(items) - SHOWN
    return separator.join(items[:SHOWN]) + (f"{separator}and {rest} more" if rest > 0 else "")


def first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
