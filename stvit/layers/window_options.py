"""What can be chosen about semantic tokens in windows: dataclasses, whose docstrings are their help."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import ClassVar

from stvit.layers.windows import Grid

STGM_KEYS = ("concat", "image", "image_first")
POSITIONS = ("none", "learned", "conditional", "relative")  # the rows of Table 14
# What None once said: checkpoints of that time are read so.
WORDS = {"cross_window": "global", "recovery_window": "global", "key_windows": "fitted", "layer_scale": 0.0}


@dataclass(frozen=True)
class SemanticOptions:
    """The choices of the paper.

    semantic_window: w_s, so that each window has w_s × w_s semantic tokens
    pooling: initial cluster centers in each window, by one of ``stvit.layers.pooling.POOLINGS``
    initialization: centers P pooled from the map and global centers G (both), P alone (spatial), G alone
        (global), or both with G added to the keys too (learned): the rows of Table 7
    position: positional encoding of the semantic tokens after the STGM (learned, conditional), or of their
        attention (relative): the rows of Table 14
    stgm_keys: the STGM's layers look at Concat(S, X) (concat), at the image tokens X alone (image), or the
        first at X and further ones at Concat(S, X) (image_first), which is Eqs. 1 and 2 to the letter. The default
        departs from Eq. 1: with P among the first layer's keys 11 of Table 2's 12 FLOPs cells come out at the
        printed digit, with image_first 1, so that concat is what the authors ran
    key_windows: w_k of the first and of further STGM layers, in image tokens; "fitted" is w + 3 and 2w, 10 and
        14 for windows of 7. A key window as large as the map is global attention
    cross_window: side of the window of cross-window layers, in windows, or "global"
    recovery_window: side of the window of semantic tokens that a recovery layer looks at, in windows, or "global"
    reuse: semantic tokens of one unit are the initial centers of the next (Table 9)
    layer_scale: initial scale of the semantic layers' residual branches; 0: no scale
    """

    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "initialization": ("both", "spatial", "global", "learned"),
        "position": POSITIONS,
        "stgm_keys": STGM_KEYS,
    }

    semantic_window: int = 3
    pooling: str = "intra_inter"
    initialization: str = "both"
    position: str = "none"
    stgm_keys: str = "concat"
    key_windows: tuple[int, int] | str = "fitted"
    cross_window: int | str = 4
    recovery_window: int | str = 4
    reuse: bool = False
    layer_scale: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) is None:
                remedy = f"; write {WORDS[field.name]!r}" if field.name in WORDS else ""
                raise ValueError(
                    f"{field.name}=None says nothing, because timm.create_model drops it{remedy}"
                )
        for name in ("cross_window", "recovery_window"):
            side = getattr(self, name)
            if side != "global" and not (isinstance(side, int) and side >= 1):
                raise ValueError(f"{name} must be 'global' or a number of windows from 1 on, not {side!r}")
        for name, known in self.choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; choose one of {', '.join(known)}")
        if self.semantic_window < 1:
            raise ValueError(f"semantic_window must be at least 1, not {self.semantic_window}")
        if self.initialization == "learned" and self.stgm_keys == "image":
            raise ValueError(
                "initialization='learned' adds G to keys that hold S: stgm_keys must not be 'image'"
            )

    def fitted(self, window: Grid) -> SemanticOptions:
        """With key windows that fit windows of this size."""
        side = max(window)
        keys = (side + 3, 2 * side) if self.key_windows == "fitted" else tuple(self.key_windows)
        if len(keys) != 2 or min(keys) < side:
            raise ValueError(f"key_windows must be two sides of at least {side}, the window's; not {keys}")
        if self.semantic_window > min(window):
            raise ValueError(
                f"{self.semantic_window} × {self.semantic_window} semantic tokens do not fit a window of "
                f"{window[0]} × {window[1]}; choose semantic_window ≤ {min(window)}"
            )
        return replace(self, key_windows=keys)


@dataclass(frozen=True)
class ReleasedOptions(SemanticOptions):
    """What only the authors' released program does, or the printed FLOPs count; see ``stvit.models.released``.

    initialization: besides the paper's, G added to the semantic tokens of the first unit themselves (offset)
    project_keys: keys and values projected once, then gathered into windows (once); or gathered first and
        projected in each window (per_window), which is the same function at the printed FLOPs
    shortcut: residual around the first STGM layer's attention; the released classifier has none
    border: key windows are pushed inside the map (inside); or they stick out of a map padded to whole
        windows, with everything outside the image masked (masked) or masked as the authors' detection
        backbone does it (released): wrong, but what its weights were trained with
    """

    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        **SemanticOptions.choices,
        "initialization": (*SemanticOptions.choices["initialization"], "offset"),
        "project_keys": ("once", "per_window"),
        "border": ("inside", "masked", "released"),
    }

    project_keys: str = "once"
    shortcut: bool = True
    border: str = "inside"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.shortcut and self.project_keys != "per_window":
            raise ValueError(
                "shortcut=False exists as the released classifier has it: project_keys='per_window'"
            )
        if self.project_keys == "per_window" and (self.border != "inside" or self.stgm_keys == "image"):
            raise ValueError(
                "project_keys='per_window' goes with border='inside' and stgm_keys='concat' or 'image_first'"
            )
        if self.border != "inside" and self.stgm_keys != "image":
            raise ValueError(f"border={self.border!r} goes with stgm_keys='image'")
        if self.border != "inside" and self.recovery_window == "global":
            raise ValueError(f"border={self.border!r} needs a recovery_window in windows, not 'global'")
        if self.border != "inside" and self.position == "relative":
            raise ValueError(f"border={self.border!r} goes without relative positions")


OPTIONS = tuple(field.name for field in fields(ReleasedOptions))
RELEASED_ONLY = tuple(set(OPTIONS) - {field.name for field in fields(SemanticOptions)})


def create_options(chosen: dict) -> SemanticOptions:
    """The paper's options; the released program's where one of its own is among the chosen."""
    unknown = sorted(set(chosen) - set(OPTIONS))
    if unknown:
        raise ValueError(f"unknown options {', '.join(unknown)}; choose from {', '.join(OPTIONS)}")
    released = chosen.get("initialization") == "offset" or any(name in chosen for name in RELEASED_ONLY)
    return (ReleasedOptions if released else SemanticOptions)(**chosen)
