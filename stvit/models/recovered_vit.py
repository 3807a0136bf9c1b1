"""STViT-R in global vision transformers: few tokens within dumbbell units, all tokens of the map behind each.

The paper has these units in Swin's third stage, a window at a time. In a plain ViT all tokens are one window.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial

import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from stvit.fast.groups import POOLING, in_groups
from stvit.fast.token_linear import for_many_tokens
from stvit.layers.attention import ContextBlock
from stvit.layers.pooling import Grid, IntraInterPooling
from stvit.layers.semantic import GlobalCenters
from stvit.models.dumbbell import Dumbbell, plan_units
from stvit.models.intermediates import to_map
from stvit.models.semantic_layers import semantic_layers
from stvit.models.vit import LayeredTokens


class RecoveredTokens(LayeredTokens):
    """What STViT-R adds to a timm ViT; mixed into the ViT's own class. Each unit has, in this order,

    1. image layers, which update the image tokens X,
    2. STGM layers: semantic tokens S from P = pool(X), S + G and X (Eqs. 1, 2, 4, 5),
    3. semantic layers, which update S alone,
    4. recovery layers: X from X and S (Eq. 6).

    Class and register tokens go with X in the image layers, with S in the others, and are in front of both.
    Layers keep timm's names: new are only ``initial`` and ``blocks.*.centers``.
    """

    equipment = ("initial", "units", "plan", "reuse", "num_semantic_tokens", "semantic_grid")

    def equip(
        self,
        num_semantic_tokens: int | Grid = 16,
        units: Sequence[Sequence[int]] | None = None,
        reuse: bool = False,
        pooling: str = "intra_inter",
        initialization: str = "both",
    ) -> None:
        """Turn the layers into dumbbell units.

        num_semantic_tokens: a number, laid out as squarely as it factors, or a grid (h, w)
        units: numbers of (image, STGM, semantic, recovery) layers of each (default: ``default_units``)
        reuse: a unit's centers P are the last unit's semantic tokens (Table 9)
        pooling, initialization: of the centers, as in STViT
        """
        units = default_units(len(self.blocks)) if units is None else units
        self.units = tuple(Dumbbell(*unit) for unit in units)
        self.plan, self.reuse = plan_units(self.units, len(self.blocks)), reuse
        if self.units[-1].recovery == 0:
            raise ValueError(f"the last unit must recover the map, and {list(self.units[-1])} does not")
        grid, prefix = self.patch_embed.grid_size, (self.num_prefix_tokens, self.num_prefix_tokens)
        blocks, initial, left = [], [], list(self.blocks)
        for unit in self.units:
            own, left = left[: sum(unit)], left[sum(unit) :]
            spot = unit.image + 1, unit.stgm
            made = semantic_layers(
                own, self.embed_dim, grid, prefix, num_semantic_tokens, *spot, pooling, initialization, "none"
            )
            blocks += [*made.blocks[: -unit.recovery], *map(Recovery.of, made.blocks[-unit.recovery :])]
            initial.append(made.initial)
        self.blocks = nn.Sequential(*blocks)
        self.initial = nn.ModuleList(initial[:1] if reuse else initial)
        self.num_semantic_tokens, self.semantic_grid = made.num_tokens, made.tokens
        self.tell_reductions([on_few(role) for role, _, _ in self.plan])

    def forward_from(self, x: Tensor, grid: Grid, done: int, trace: list[Tensor] | None = None) -> Tensor:
        """The layers after the first ``done`` ones, all image layers, whose tokens ``x`` are: (B, prefix + N, C)."""

        run = partial(self.run_layer, trace)
        prefix, s, y = self.num_prefix_tokens, None, x
        for (role, place, unit), block in list(zip(self.plan, self.blocks, strict=False))[done:]:
            if role == "image":
                x = y = run(block, x)  # (B, prefix + N, C)
            elif role == "stgm":
                s = self.initial_centers(unit, x, s, grid) if place == 0 else s  # P (B, prefix + M, C)
                s = y = run(block, s, x if place == 0 else x[:, prefix:])  # S (B, prefix + M, C)
            elif role == "semantic":
                s = y = run(block, s)  # (B, prefix + M, C)
            else:
                x = y = run(block, torch.cat([s[:, :prefix], x[:, prefix:]], dim=1), s)  # (B, prefix + N, C)
        return y

    def initial_centers(self, unit: int, x: Tensor, before: Tensor | None, grid: Grid) -> Tensor:
        """P of a unit: from its image tokens, or the last unit's semantic tokens."""
        prefix = self.num_prefix_tokens
        if before is not None and self.reuse:
            found = before[:, prefix:]
        else:
            found = in_groups(self.initial[unit], x[:, prefix:], grid=grid, width=POOLING)
        return torch.cat([x[:, :prefix], found], dim=1) if prefix else found

    @property
    def unchanged_layers(self) -> int:
        """How many of the first layers work on all tokens, as in the dense model."""
        return self.units[0].image

    def features_after(
        self, images: Tensor, take: list[int], norm: bool, maps: bool
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        trace: list[Tensor] = []
        last = self.forward_layers(images, trace)
        image_grid, prefix = self.patch_embed.dynamic_feat_size(images.shape[-2:]), self.num_prefix_tokens
        features, prefixes = [], []
        for i in take:
            tokens = self.norm(trace[i]) if norm else trace[i]
            grid = self.semantic_grid if on_few(self.plan[i][0]) else image_grid
            prefixes.append(tokens[:, :prefix])
            features.append(to_map(tokens[:, prefix:], grid) if maps else tokens[:, prefix:])
        return last, features, prefixes

    def restored(self, images: Tensor, dropped: str = "zero") -> Tensor:
        return self.forward_features(images)[:, self.num_prefix_tokens :]

    def adapt_state_dict(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Pooling offsets of a model for images of another size, at this one's grid."""
        for number, pool in enumerate(self.initial):
            if isinstance(pool, IntraInterPooling):
                state_dict = pool.adapt_state_dict(state_dict, f"initial.{number}.")
        return state_dict

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        own = {f"{name}.weight" for name, part in self.named_modules() if isinstance(part, GlobalCenters)}
        return super().no_weight_decay() | own

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict:
        groups = super().group_matcher(coarse)
        return dict(groups, blocks=[(r"^initial", (self.unchanged_layers,)), *groups["blocks"]])


class Recovery(ContextBlock):
    """The recovery layer (Eq. 6): X̂ = MHA(X, S, S) + X, X = FFN(X̂) + X̂."""

    @classmethod
    def of(cls, block: nn.Module) -> Recovery:
        return cls.from_block(for_many_tokens(block))


class STViTR(RecoveredTokens, VisionTransformer):
    """A vision transformer of dumbbell units, made by ``sparsify``."""


class STViTRDistilled(RecoveredTokens, VisionTransformerDistilled):
    """The same with DeiT's distillation token."""


RECOVERY_CHOICES = ("recovery", *list(inspect.signature(RecoveredTokens.equip).parameters)[2:])


def default_units(depth: int) -> tuple[Dumbbell, ...]:
    """A quarter of the layers in front, and the rest in units of five or a few more: (3, 2, 1, 1), (1, 2, 1, 1) of 12.

    In Swin-S a fifth of the layers lie before the first STGM, and half of the others work on semantic tokens.
    """
    before = max(1, depth // 4)
    count = max(1, (depth - before + 1) // 5)
    semantic = depth - before - (count - 1) - 3 * count  # layers of all units together
    if semantic < 0:
        raise ValueError(f"a model of {depth} layers is too small for dumbbell units; it needs at least 4")
    shares = [semantic // count + (number >= count - semantic % count) for number in range(count)]
    return tuple(Dumbbell(before if number == 0 else 1, 2, share, 1) for number, share in enumerate(shares))


def on_few(role: str) -> bool:
    """Do layers of this role return semantic tokens?"""
    return role in ("stgm", "semantic")


def filter_recovered(state_dict: dict[str, Tensor], model: RecoveredTokens) -> dict[str, Tensor]:
    """A ViT's state dict for ``model``: positions and pooling offsets at its grid."""
    return checkpoint_filter_fn(model.adapt_state_dict(state_dict), model)
