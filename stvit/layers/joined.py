"""Layers of another kind in the frames of this package: the frame's way of calling, the kind's own parts.

A kind says what differs from timm's plain block or attention. ``recast`` of a layer of that kind to one of our frames
gives the class of both, in which the kind's parts go before the frame's.
"""

from __future__ import annotations

from functools import cache
from typing import ClassVar

from torch import nn


class Joins:
    """A kind of layers; its other base is what all frames share, timm's block or our attention."""

    kind: ClassVar[type[nn.Module]]
    shared: ClassVar[type[nn.Module]]
    frame: ClassVar[type[nn.Module] | None] = None

    def __init_subclass__(cls) -> None:
        if "frame" not in vars(cls):
            cls.kind = cls

    @classmethod
    def joined_with(cls, wanted: type[nn.Module]) -> type[nn.Module]:
        """What ``recast`` makes of a layer of this kind."""
        if issubclass(cls.kind, wanted):
            return cls.kind
        return join(cls.kind, wanted) if issubclass(wanted, cls.shared) else wanted

    def __reduce__(self):
        """Copies and pickles name kind and frame: the class of both stands in no module."""
        return blank, (self.kind, self.frame), self.__dict__


@cache
def join(kind: type[nn.Module], frame: type[nn.Module]) -> type[nn.Module]:
    return type(f"{kind.__name__}{frame.__name__}", (kind, frame), {"frame": frame, "__module__": __name__})


def blank(kind: type[nn.Module], frame: type[nn.Module] | None) -> nn.Module:
    """A layer without its state."""
    cls = kind if frame is None else join(kind, frame)
    return cls.__new__(cls)
