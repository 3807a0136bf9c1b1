"""Trunks of timm's EVA and BEiT families with token reductions; made by ``stvit.sparsify``."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from timm.layers import RotaryEmbeddingMixed
from timm.models.beit import Beit
from timm.models.eva import Eva
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stvit.layers.timm_rotary import angles_of
from stvit.layers.windows import Grid
from stvit.models.placed_layers import PassingBlock, PlacedLayer
from stvit.models.reduced_vit import ReducedTokens
from stvit.models.vit import refuse_nothing
from stvit.reduce import Plan, Reduction, Seen
from stvit.reduce.reduction import HostBlock
from stvit.surgery import recast


class PlacedTokens(ReducedTokens):
    """Reductions in a trunk whose every layer is told where the tokens lie."""

    def equip(self, method: str | type[Reduction], at: int | Iterable[int] | None = None, **choices) -> None:
        self.blocks = nn.Sequential(*map(PlacedLayer.of, self.blocks))
        super().equip(method, at, **choices)
        self.blocks = nn.Sequential(
            *(block if isinstance(block, HostBlock) else recast(block, PassingBlock) for block in self.blocks)
        )

    def run(self, block: nn.Module, x: Tensor, seen: Seen) -> tuple[Tensor, Plan, Seen]:
        if isinstance(block, HostBlock):
            return super().run(block, x, seen)
        keep = self.grad_checkpointing and torch.is_grad_enabled()
        y = checkpoint(block, x, seen, use_reentrant=False) if keep else block(x, seen)
        return y, Plan(), seen

    @property
    def has_class_token(self) -> bool:
        return self.cls_token is not None

    @staticmethod
    def plain_blocks(blocks: Iterable[nn.Module]) -> nn.ModuleList:
        return nn.ModuleList(block.released() for block in blocks)


class ReducedEva(PlacedTokens, Eva):
    """EVA, EVA-02, DINOv3, PE and RoPE-ViT: a merged token is turned by the mean of its tokens' angles."""

    def equip(self, method: str | type[Reduction], at: int | Iterable[int] | None = None, **choices) -> None:
        super().equip(method, at, **choices)
        if isinstance(self.rope, RotaryEmbeddingMixed):
            for layer, block in enumerate(self.blocks):
                block.attn.mixed = (self.rope, layer)

    def embed(self, images: Tensor) -> Tensor:
        refuse_nothing(images)
        x, _ = self._pos_embed(self.patch_embed(images))
        return self.norm_pre(x)

    def angles_at(self, grid: Grid) -> Tensor | None:
        return None if self.rope is None else angles_of(self.rope, grid)[None]


class ReducedBeit(PlacedTokens, Beit):
    """BEiT: the bias between merged tokens is the mean of the biases between what they are made of."""

    def embed(self, images: Tensor) -> Tensor:
        refuse_nothing(images)
        x = self.patch_embed(images)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        return self.pos_drop(x if self.pos_embed is None else x + self.pos_embed)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        if not self.pads:
            return super().forward_head(x, pre_logits)
        x = self.head_drop(self.fc_norm(self.pool(x)))
        return x if pre_logits else self.head(x)

    def angles_at(self, grid: Grid) -> Tensor | None:
        attention = self.blocks[0].attn
        if attention.relative_position_bias_table is None:
            return None
        return torch.eye(grid[0] * grid[1], device=attention.relative_position_bias_table.device)[None]
