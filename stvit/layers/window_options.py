"""What can be chosen about semantic tokens in windows: one dataclass, whose docstring is its help."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from stvit.layers.windows import Grid

STGM_KEYS = ("concat", "image", "image_first")
BORDERS = ("inside", "masked", "released")
INITIALIZATIONS = ("both", "spatial", "offset")
PROJECTIONS = ("once", "per_window")


@dataclass(frozen=True)
class SemanticOptions:
    """What a model with semantic tokens in windows may choose.

    semantic_window: w_s, so that each window has w_s × w_s semantic tokens
    pooling: initial cluster centers in each window, by one of ``stvit.layers.pooling.POOLINGS``
    initialization: centers P from the map and global centers G (both), P alone (spatial), or G added to
        the semantic tokens of the first unit themselves, as the released code has it (offset)
    stgm_keys: the STGM's layers look at Concat(S, X) (concat), at the image tokens X alone (image), or the
        first at X and further ones at Concat(S, X) (image_first), which is Eqs. 1 and 2 to the letter
    key_windows: w_k of the first and of further STGM layers, in image tokens; by default 10 and 14 for
        windows of 7. A key window as large as the map is global attention
    cross_window: side of the window of cross-window layers, in windows; None: global
    recovery_window: side of the window of semantic tokens that a recovery layer looks at, in windows
    reuse: semantic tokens of one unit are the initial centers of the next (Table 9)
    layer_scale: initial scale of the semantic layers' residual branches; None: no scale
    project_keys: project keys and values once, then gather windows; or per_window, which is the same
        function at the printed FLOPs
    shortcut: residual around the first STGM layer's attention; the released classifier has none
    border: key windows are pushed inside the map (inside); or they stick out of a map padded to whole
        windows, with everything outside the image masked (masked) or masked as the authors' detection
        backbone does it (released): wrong, but what its weights were trained with
    """

    semantic_window: int = 3
    pooling: str = "intra_inter"
    initialization: str = "both"
    stgm_keys: str = "concat"
    key_windows: tuple[int, int] | None = None
    cross_window: int | None = 4
    recovery_window: int | None = 4
    reuse: bool = False
    layer_scale: float | None = None
    project_keys: str = "once"
    shortcut: bool = True
    border: str = "inside"

    def __post_init__(self) -> None:
        for name, choices in (
            ("initialization", INITIALIZATIONS),
            ("stgm_keys", STGM_KEYS),
            ("project_keys", PROJECTIONS),
            ("border", BORDERS),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"unknown {name} {getattr(self, name)!r}; choose one of {', '.join(choices)}"
                )
        if self.semantic_window < 1:
            raise ValueError(f"semantic_window must be at least 1, not {self.semantic_window}")
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

    def fitted(self, window: Grid) -> SemanticOptions:
        """With key windows that fit windows of this size."""
        side = max(window)
        keys = (side + 3, 2 * side) if self.key_windows is None else tuple(self.key_windows)
        if len(keys) != 2 or min(keys) < side:
            raise ValueError(f"key_windows must be two sides of at least {side}, the window's; not {keys}")
        if self.semantic_window > min(window):
            raise ValueError(
                f"{self.semantic_window} × {self.semantic_window} semantic tokens do not fit a window of "
                f"{window[0]} × {window[1]}; choose semantic_window ≤ {min(window)}"
            )
        return replace(self, key_windows=keys)


OPTIONS = tuple(field.name for field in fields(SemanticOptions))
