"""PS-ViT: patch slimming (Tang et al., CVPR 2022), from the paper's idea; its authors have published no code.

    reach = slim(dense, images, tolerance=0.1)
    model = stvit.sparsify(dense, method="psvit", reach=reach)

What is not here: fine-tuning between the layers' selections and after them, and the per-image variant (DPS-ViT). The
numbers that the paper keeps in each layer are not public, so that its printed FLOPs cannot be reproduced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from timm.models.vision_transformer import Block as TimmBlock
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from stvit.fast.groups import in_groups
from stvit.layers.attention import Attention, attention_weights
from stvit.reduce.about import About
from stvit.reduce.plan import Kept, Plan
from stvit.reduce.reduction import Grid, HostBlock, ReducingBlock, Reduction, Seen, check_rate
from stvit.surgery import recast


class PatchSlimming(Reduction):
    """Each layer computes only places that later layers have use for; they are chosen once, for all images.

    reach: for each place the last layer that computes it, from ``slim``. Without it, places are spread evenly, and
        the share that is left falls geometrically, as if ``keep_rate`` were applied three times over the depth.
    A layer's queries are the places that it keeps; its keys are all that the layer before has computed.
    """

    about: ClassVar[About] = About(
        paper="PS-ViT, Tang et al., CVPR 2022",
        looks_at="places, by attention on a few training images",
        keeps="the places that the class token's path needs, fewer in each layer",
        origin="the paper's idea; no public program",
        licence="none",
    )

    def __init__(
        self, dim: int, keep_rate: float = 0.7, reach: Sequence[int] = (), layer: int = 1, depth: int = 12
    ):
        super().__init__()
        self.keep_rate, self.reach = check_rate(keep_rate), tuple(reach)
        self.layer, self.depth = layer, depth

    @staticmethod
    def layers(depth: int) -> tuple[int, ...]:
        return tuple(range(1, depth + 1))

    def places(self, grid: Grid, layer: int) -> list[int]:
        """The places that ``layer`` keeps, in their order; all of them in front of the first."""
        grid = (int(grid[0]), int(grid[1]))  # tracers have tensors there
        count = grid[0] * grid[1]
        if layer == 0:
            return list(range(count))
        if self.reach:
            if len(self.reach) != count:
                raise ValueError(
                    f"reach speaks of {len(self.reach)} places, and the image has {count}: slim it anew"
                )
            return [place for place, last in enumerate(self.reach) if last >= layer]
        kept = max(1, int(count * self.keep_rate ** (3 * layer / self.depth) + 1e-9))
        return sorted(sorted(range(count), key=lambda place: spread(place, grid))[:kept])

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        kept = self.places(seen.whole, self.layer)
        if len(kept) == int(x.shape[1]):
            return Plan()
        earlier = (self.places(seen.whole, layer) for layer in range(self.layer - 1, -1, -1))
        present = next(places for places in earlier if len(places) == int(x.shape[1]))
        number = {place: i for i, place in enumerate(present)}
        index = torch.tensor([number[place] for place in kept], device=x.device)
        return Plan((Kept(index.expand(x.shape[0], -1)),))

    def host(self, block: TimmBlock) -> HostBlock:
        return SlimBlock.from_block(block, self)

    def extra_repr(self) -> str:
        return f"reach of {len(self.reach)} places" if self.reach else f"keep_rate={self.keep_rate}"


class SlimBlock(ReducingBlock):
    """A layer whose queries are the tokens that stay."""

    @classmethod
    def from_block(cls, block: TimmBlock, reduction: Reduction) -> HostBlock:
        self = super().from_block(block, reduction)
        self.attn = recast(block.attn, Attention)
        return self

    def forward(self, x: Tensor, seen: Seen) -> tuple[Tensor, Plan]:
        rows, plan = self.reduce(x, seen)  # (B, prefix + M, C)
        angles = None if seen.angles is None else (seen.angles_of(plan.parts), seen.angles)
        y = self.attn(self.norm1(rows), self.norm1(x) if plan.parts else None, angles=angles)
        return in_groups(self.feed_forward, rows + self.drop_path1(self.ls1(y))), plan


def spread(place: int, grid: Grid) -> float:
    """A place's rank in an order whose first places, however many, lie evenly over the grid (Roberts' sequence)."""
    y, x = divmod(place, grid[1])
    return (0.7548776662466927 * y + 0.5698402909980532 * x) % 1


@torch.no_grad()
def slim(model: VisionTransformer, images: Tensor, tolerance: float, step: int = 4) -> tuple[int, ...]:
    """For each place the last layer that has to compute it, from ``images`` for ``model``, a plain ViT.

    From the last layer, of which the class token is read and one place is left, down to the first: to the places
    that layer l has to compute come, ``step`` at a time, those that impress them most, until layer l computes what
    it computes from all places, up to a relative error of ``tolerance``; they are what layer l − 1 has to compute.
    """
    if not model.has_class_token:
        raise ValueError("patch slimming follows what the class token needs, and this model has none")
    prefix, modes = model.num_prefix_tokens, model.training
    inputs = _inputs(model.eval(), images)
    count = inputs[0].shape[1] - prefix
    reach = torch.zeros(count, dtype=torch.long)
    depth = len(inputs)
    needed = impact(model.blocks[-1], inputs[-1], list(range(prefix)), prefix).argsort(descending=True)[:1]
    for layer in range(depth, 1, -1):
        reach[needed] = torch.maximum(reach[needed], torch.tensor(layer))
        block, x = model.blocks[layer - 1], inputs[layer - 1]
        rows = [*range(prefix), *(needed + prefix).tolist()]
        rank = impact(block, x, rows, prefix)
        rank[needed] = torch.inf
        order = rank.argsort(descending=True)
        for kept in range(len(needed), count + step, step):
            needed = order[:kept].sort().values
            if layer_error(block, x, rows, [*range(prefix), *(needed + prefix).tolist()]) <= tolerance:
                break
    reach[needed] = torch.maximum(reach[needed], torch.tensor(1))
    model.train(modes)
    return tuple(reach.tolist())


def _inputs(model: VisionTransformer, images: Tensor) -> list[Tensor]:
    """What each layer of the plain model is given: depth × (B, T, C)."""
    found: list[Tensor] = []
    hooks = [
        block.register_forward_pre_hook(lambda _, args: found.append(args[0].detach()))
        for block in model.blocks
    ]
    try:
        model.forward_features(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def impact(block: TimmBlock, x: Tensor, rows: list[int], prefix: int) -> Tensor:
    """How much each place moves the attention's output at ``rows``, squared, the mean over images: (N,)."""
    q, k, v = recast(block.attn, Attention).project(block.norm1(x), None, None)
    weights = attention_weights(q[:, :, rows], k, block.attn.scale)  # (B, heads, rows, T)
    size = v.square().sum(dim=3)  # (B, heads, T)
    return (weights.square().sum(dim=2) * size).sum(dim=1).mean(dim=0)[prefix:]


def layer_error(block: TimmBlock, x: Tensor, rows: list[int], keys: list[int]) -> float:
    """How far the layer's output at ``rows`` is from the whole one's, if it sees ``keys`` alone; relative."""
    attn, normed = recast(block.attn, Attention), block.norm1(x)

    def output(seen: Tensor) -> Tensor:
        y = x[:, rows] + block.ls1(attn(normed[:, rows], seen))
        return y + block.ls2(block.mlp(block.norm2(y)))

    whole = output(normed)
    return float((output(normed[:, keys]) - whole).norm() / whole.norm())
