"""STViT-Swin and STViT-R-Swin: timm's Swin with semantic tokens in the windows of stage 3."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stvit.layers.window_centers import GridCenters
from stvit.layers.window_options import OPTIONS, ReleasedOptions, create_options
from stvit.layers.window_semantic import RelativePosition
from stvit.models.dumbbell import Dumbbell, DumbbellStage, SemanticStage
from stvit.models.registry import STAGES, SWIN_SIZES, register, swin_cfg
from stvit.models.released import RELEASED, ReleasedStage
from stvit.models.swin import AnySizeSwin, ConvStem


class SemanticSwin(AnySizeSwin):
    """What both models share; ``SemanticOptions`` and ``ReleasedOptions`` list what ``options`` may hold."""

    def equip(
        self, units: Sequence[Sequence[int]], mask_padding: bool, always_shift: bool, options: dict
    ) -> None:
        """Make stage 3 of a Swin one of dumbbell units, with the weights that it has."""
        if len(self.layers) != 4:
            raise ValueError(f"semantic tokens go into stage 3 of 4; this Swin has {len(self.layers)} stages")
        self.semantic_options = create_options(options)
        self.adopt_blocks(mask_padding, always_shift)
        units = tuple(Dumbbell(*unit) for unit in units)
        released = isinstance(self.semantic_options, ReleasedOptions)
        stage = ReleasedStage if released else DumbbellStage
        self.layers[2] = stage.from_swin(self.layers[2], units, self.semantic_options)

    def equip_without_recovery(
        self, base_depth: int | None, stgm_layers: int, mask_padding: bool, options: dict
    ) -> None:
        if len(self.layers) != 4:
            raise ValueError(f"semantic tokens go into stage 3 of 4; this Swin has {len(self.layers)} stages")
        depth = len(self.layers[2].blocks)
        base = {6: 2, 18: 10}.get(depth, depth // 2) if base_depth is None else base_depth
        if not (base >= 0 and stgm_layers >= 1 and base + stgm_layers <= depth):
            raise ValueError(
                f"{base} layers and an STGM of {stgm_layers} do not fit a stage 3 of {depth} layers; choose "
                f"stgm_layers ≥ 1 and 0 ≤ base_depth ≤ {max(0, depth - max(stgm_layers, 1))}"
            )
        units = [(base, stgm_layers, depth - base - stgm_layers, 0)]
        self.equip(units, mask_padding, False, options)
        grid = self.layers[2].semantic_grid()
        self.layers[3] = SemanticStage.from_swin(self.layers[3], self.semantic_options, grid)
        patch, window = self.feature_info[2]["reduction"], max(self.layers[2].window)
        coarse = round(patch * window / self.semantic_options.semantic_window)
        for stage in (2, 3):
            self.feature_info[stage] = dict(self.feature_info[stage], reduction=coarse)

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        learned = {GridCenters: "weight", RelativePosition: "table"}
        found = {
            f"{name}.{parameter}"
            for name, module in self.named_modules()
            for cls, parameter in learned.items()
            if isinstance(module, cls)
        }
        return super().no_weight_decay() | found

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict:
        groups = super().group_matcher(coarse)
        if coarse:
            return groups
        first = sum(len(stage.blocks) for stage in self.layers[:2])
        return dict(groups, blocks=[(r"^layers\.2\.(?:initial|position)", (first,)), *groups["blocks"]])


class STViTSwin(SemanticSwin):
    """STViT in Swin (Section 3.2). Arguments are those below, SemanticOptions' and timm's Swin's.

    1. A convolutional stem, Swin's stages 1 and 2, and the first ``base_depth`` layers of stage 3.
    2. STGM: w_s × w_s semantic tokens in each window, with larger key windows.
    3. Further layers of stage 3: within the windows and across them, in turn.
    4. Linear C → 2C, no downsampling; stage 4 on the semantic tokens.

    base_depth: layers of stage 3 before the STGM (2 of 6, 10 of 18)
    stgm_layers: how many layers the STGM has
    mask_padding: padding takes no part in window attention
    """

    def __init__(
        self,
        base_depth: int | None = None,
        stgm_layers: int = 2,
        mask_padding: bool = True,
        depths: Sequence[int] = (2, 2, 6, 2),
        **choices: object,
    ):
        options = {name: choices.pop(name) for name in OPTIONS if name in choices}
        super().__init__(depths=depths, **{**TRUNK, **choices})
        self.equip_without_recovery(base_depth, stgm_layers, mask_padding, options)


class STViTRSwin(SemanticSwin):
    """STViT-R in Swin (Section 3.3): stage 3 is made of dumbbell units that return to the full map.

    units: for each unit its image, STGM, semantic and recovery layers; by default units of (1, 2, 2, 1).
        One unit such as (6, 2, 9, 1) is Table 9's recovery without dumbbell units
    mask_padding: padding takes no part in window attention
    always_shift: shift windows even where one covers the map
    output_norms: a norm after each stage for ``features_only`` and ``forward_intermediates``
    """

    def __init__(
        self,
        units: Sequence[Sequence[int]] | None = None,
        mask_padding: bool = True,
        always_shift: bool = False,
        output_norms: bool = False,
        depths: Sequence[int] = (2, 2, 18, 2),
        **choices: object,
    ):
        options = {name: choices.pop(name) for name in OPTIONS if name in choices}
        super().__init__(depths=depths, **{**TRUNK, **choices})
        if units is None:
            units = [Dumbbell()] * max(1, len(self.layers[2].blocks) // 6) if len(self.layers) > 2 else []
        self.equip(units, mask_padding, always_shift, options)
        if self.layers[2].units[-1].recovery == 0:
            raise ValueError("STViT-R's last unit must recover the map; STViT-Swin is the model without")
        norms = [nn.LayerNorm(info["num_chs"]) for info in self.feature_info] if output_norms else []
        like = self.norm.weight
        self.output_norms = nn.ModuleList(norms).to(device=like.device, dtype=like.dtype)

    def forward_intermediates(
        self, x: Tensor, indices=None, *args, intermediates_only: bool = False, **kwargs
    ):
        """As timm's: the map after each chosen stage, (B, C, H, W), normalised with ``output_norms``."""
        last, maps = super().forward_intermediates(x, indices, *args, **kwargs)
        if self.output_norms:
            stages = [self._stage_of(m) for m in maps]
            maps = [
                norm(m.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
                for norm, m in zip((self.output_norms[i] for i in stages), maps, strict=True)
            ]
        return maps if intermediates_only else (last, maps)

    def _stage_of(self, feature: Tensor) -> int:
        return [info["num_chs"] for info in self.feature_info].index(feature.shape[1])


TRUNK = dict(embed_layer=ConvStem, always_partition=True, strict_img_size=False)


for _size, _settings in SWIN_SIZES.items():
    register(
        f"stvit_swin_{_size}_patch4_window7_224",
        STViTSwin,
        f"STViT-Swin-{_size[0].upper()} (Table 2).",
        swin_cfg(pool_size=(6, 6)),
        out_indices=STAGES,
        **_settings,
    )
for _size in ("small", "base"):
    register(
        f"stvit_r_swin_{_size}_patch4_window7_224",
        STViTRSwin,
        f"STViT-R-Swin-{_size[0].upper()} (Tables 3, 5, 12); tags {' and '.join(RELEASED)}.",
        swin_cfg(),
        tags=RELEASED,
        out_indices=STAGES,
        **SWIN_SIZES[_size],
    )
