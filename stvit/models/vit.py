"""STViT in global vision transformers: DeiT and every other plain ViT of timm."""

from __future__ import annotations

import inspect
import math
from functools import partial

import torch
from timm.layers import global_pool_nlc
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stvit.fast.groups import POOLING, in_groups
from stvit.layers.pooling import Grid, IntraInterPooling
from stvit.layers.semantic import GlobalCenters
from stvit.models.intermediates import Intermediates, to_map
from stvit.models.registry import DEIT_SIZES, register
from stvit.models.semantic_layers import semantic_layers
from stvit.reduce.plan import read_back


class LayeredTokens(Intermediates):
    """A timm ViT that embeds an image as ever and has its own way through the layers, ``forward_from``."""

    num_semantic_tokens: int

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, channels, height, width) → the last layer's tokens (B, n, C), after the final norm."""
        return self.norm(self.forward_layers(x))

    def forward_layers(self, images: Tensor, trace: list[Tensor] | None = None) -> Tensor:
        """All layers in order; ``trace`` collects what each of them returns."""
        refuse_nothing(images)
        x = self._pos_embed(self.patch_embed(images))
        x = self.norm_pre(self.patch_drop(x))  # (B, prefix + N, C)
        return self.forward_from(x, self.patch_embed.dynamic_feat_size(images.shape[-2:]), 0, trace)

    def forward_from(self, x: Tensor, grid: Grid, done: int, trace: list[Tensor] | None = None) -> Tensor:
        """The layers after the first ``done`` ones, whose tokens ``x`` are."""
        raise NotImplementedError

    def run_layer(self, trace: list[Tensor] | None, block: nn.Module, *tokens: Tensor) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            y = checkpoint(block, *tokens, use_reentrant=False)
        else:
            y = in_groups(block, *tokens)
        if trace is not None:
            trace.append(y)
        return y

    def tell_reductions(self, few: list[bool]) -> None:
        """Say in timm's ``feature_info`` how coarse each layer's map is; ``few``: it is one of semantic tokens."""
        patch, (rows, columns) = self.feature_info[0]["reduction"], self.patch_embed.grid_size
        coarse = round(patch * math.sqrt(rows * columns / self.num_semantic_tokens))
        self.feature_info = [
            dict(info, reduction=coarse if semantic else patch)
            for info, semantic in zip(self.feature_info, few, strict=True)
        ]


class SemanticTokens(LayeredTokens):
    """What STViT adds to a timm ViT; mixed into the ViT's own class.

    1. Base layers 1 … at−1 update the image tokens X.
    2. The first STGM layer lets initial cluster centers P = pool(X) look at X (Eqs. 1, 4, 5).
    3. Further STGM layers let S + G look at S and X (Eqs. 2-3). X itself is not updated.
    4. The remaining layers update the semantic tokens S alone.

    A class token (or registers) takes part in the base layers and is among the keys of the STGM;
    after the STGM it is kept in front of the semantic tokens if the head reads it, else it is dropped.
    Layers keep timm's names: new are only ``initial``, ``position`` and ``blocks.*.centers``.
    """

    equipment = (
        "initial",
        "position",
        "stgm",
        "num_semantic_tokens",
        "semantic_grid",
        "num_kept_prefix_tokens",
    )

    def equip(
        self,
        num_semantic_tokens: int | Grid = 16,
        stgm_at: int = 5,
        stgm_layers: int = 2,
        pooling: str = "intra_inter",
        initialization: str = "both",
        position: str = "none",
        keep_prefix: bool | None = None,
    ) -> None:
        """Turn layers ``stgm_at`` (counted from 1) and following into the STGM.

        num_semantic_tokens: a number, laid out as squarely as it factors, or a grid (h, w)
        stgm_at: the layer that generates the semantic tokens; those before it are the base module
        stgm_layers: how many layers the STGM has
        pooling: initial cluster centers by one of ``stvit.layers.pooling.POOLINGS``
        initialization: spatial P, global centers G, both, or both with G on the keys too (learned)
        position: positional encoding of the semantic tokens
        keep_prefix: class and register tokens are kept after the STGM (default: if the head reads them)
        """
        grid = self.patch_embed.grid_size
        prefix = self.num_prefix_tokens, self.num_prefix_tokens if self._keeps_prefix(keep_prefix) else 0
        choices = stgm_at, stgm_layers, pooling, initialization, position
        made = semantic_layers(self.blocks, self.embed_dim, grid, prefix, num_semantic_tokens, *choices)
        self.blocks = nn.Sequential(*made.blocks)
        self.initial, self.position, self.stgm = made.initial, made.position, made.stgm
        self.num_semantic_tokens, self.semantic_grid = made.num_tokens, made.tokens
        self.num_kept_prefix_tokens = prefix[1]
        self.tell_reductions([i >= made.stgm.start for i in range(len(self.blocks))])

    def forward_from(self, x: Tensor, grid: Grid, done: int, trace: list[Tensor] | None = None) -> Tensor:
        """The layers after the first ``done`` ones of the base module, whose tokens ``x`` are: (B, M, C)."""

        run = partial(self.run_layer, trace)
        base, generate, semantic = self._parts()
        for block in base[done:]:
            x = run(block, x)  # (B, prefix + N, C)
        if not generate:
            return x
        s = self.initial_centers(x, grid)  # P (B, M, C)
        context = x
        for block in generate:
            s = run(block, s, context)  # S (B, M, C)
            context = x[:, self.num_kept_prefix_tokens :]  # a kept class token is in S already
        s = self.position(s)
        for block in semantic:
            s = run(block, s)  # (B, M, C)
        return s

    @property
    def unchanged_layers(self) -> int:
        """How many of the first layers work on all tokens, as in the dense model."""
        return self.stgm.start

    def initial_centers(self, x: Tensor, grid: Grid) -> Tensor:
        """P from the image tokens, after the prefix tokens that are kept."""
        centers = in_groups(
            self.initial, x[:, self.num_prefix_tokens :], grid=grid, width=POOLING
        )  # (B, M, C)
        if self.num_kept_prefix_tokens == 0:
            return centers
        return torch.cat([x[:, : self.num_kept_prefix_tokens], centers], dim=1)

    def pool(self, x: Tensor, pool_type: str | None = None) -> Tensor:
        """The head's pooling, over semantic tokens and the prefix tokens that were kept."""
        prefix = self.num_kept_prefix_tokens
        if self.attn_pool is not None:
            return self.attn_pool(x if self.pool_include_prefix else x[:, prefix:])
        pool_type = self.global_pool if pool_type is None else pool_type
        return global_pool_nlc(
            x, pool_type=pool_type, num_prefix_tokens=prefix, reduce_include_prefix=self.pool_include_prefix
        )

    def features_after(
        self, images: Tensor, take: list[int], norm: bool, maps: bool
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        trace: list[Tensor] = []
        last = self.forward_layers(images, trace)
        image_grid = self.patch_embed.dynamic_feat_size(images.shape[-2:])
        features, prefixes = [], []
        for i in take:
            tokens = self.norm(trace[i]) if norm else trace[i]
            semantic = i >= self.stgm.start
            prefix = self.num_kept_prefix_tokens if semantic else self.num_prefix_tokens
            prefixes.append(tokens[:, :prefix])
            grid = self.semantic_grid if semantic else image_grid
            features.append(to_map(tokens[:, prefix:], grid) if maps else tokens[:, prefix:])
        return last, features, prefixes

    def restored(self, images: Tensor, dropped: str = "zero") -> Tensor:
        """Each place reads the semantic tokens by its part in them in the last STGM layer."""
        found: list[Tensor] = []
        layer = self.blocks[self.stgm.stop - 1]
        hook = layer.register_forward_pre_hook(lambda _, args: found.append(layer.assignment(*args)))
        try:
            last = self.norm(self.forward_layers(images))
        finally:
            hook.remove()
        return read_back(found[0], last[:, self.num_kept_prefix_tokens :])

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what the chosen layers do not need, the STGM's new parts included."""
        take = super().prune_intermediate_layers(indices, prune_norm, prune_head)
        if len(self.blocks) <= self.stgm.start:
            self.initial = nn.Identity()
        if len(self.blocks) <= self.stgm.stop:
            self.position = nn.Identity()
        return take

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        if global_pool == "token" and not self.num_kept_prefix_tokens:
            raise ValueError(
                "global_pool='token' needs a class token after the STGM; build with keep_prefix=True"
            )
        super().reset_classifier(num_classes, global_pool)

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        learned = {
            f"{name}.weight" for name, module in self.named_modules() if isinstance(module, GlobalCenters)
        } | {name for name, _ in self.named_parameters() if name.endswith("relative_position_bias_table")}
        return super().no_weight_decay() | learned

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict:
        groups = super().group_matcher(coarse)
        own = [(r"^initial", (self.stgm.start,)), (r"^position", (self.stgm.stop - 1,))]
        return dict(groups, blocks=[*own, *groups["blocks"]])

    def _parts(self) -> tuple[list[nn.Module], list[nn.Module], list[nn.Module]]:
        blocks = list(self.blocks)
        return blocks[: self.stgm.start], blocks[self.stgm], blocks[self.stgm.stop :]

    def _keeps_prefix(self, wish: bool | None) -> bool:
        reads_prefix = self.num_prefix_tokens > 0 and (
            self.global_pool == "token" or self.pool_include_prefix
        )
        if wish is False and self.global_pool == "token":
            raise ValueError(
                "the head reads the class token: keep_prefix=False needs another global_pool, such as 'avg'"
            )
        return reads_prefix if wish is None else wish

    def adapt_state_dict(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Without the positions of class tokens that this model does not have (DeiT has one)."""
        key = "pos_embed"
        if key not in state_dict or self.pos_embed is None or self.num_prefix_tokens:
            return state_dict
        surplus = state_dict[key].shape[1] - self.pos_embed.shape[1]
        return {**state_dict, key: state_dict[key][:, surplus:]} if surplus in (1, 2) else state_dict

    def load_state_dict(self, state_dict: dict[str, Tensor], strict: bool = True, assign: bool = False):
        return super().load_state_dict(self.adapt_state_dict(state_dict), strict, assign)


SEMANTIC_CHOICES = tuple(inspect.signature(SemanticTokens.equip).parameters)[1:]


def check_semantic_choices(choices: dict) -> None:
    """ValueError for a choice that ``sparsify`` does not take for STViT, where two have shorter names."""
    unknown = sorted(set(choices) - set(SEMANTIC_CHOICES))
    if unknown:
        names = ", ".join(("tokens", "at", *SEMANTIC_CHOICES[2:]))
        more = ", and with recovery=True units and reuse" if unknown[0] in ("units", "reuse") else ""
        raise ValueError(f"stvit has no choice {unknown[0]!r}; it has {names}{more}")


class STViT(SemanticTokens, VisionTransformer):
    """A vision transformer with semantic tokens; arguments are those of ``equip`` and of timm's ViT."""

    def __init__(
        self,
        num_semantic_tokens: int | Grid = 16,
        stgm_at: int = 5,
        stgm_layers: int = 2,
        pooling: str = "intra_inter",
        initialization: str = "both",
        position: str = "none",
        keep_prefix: bool | None = None,
        **vit,
    ):
        super().__init__(**vit)
        self.equip(num_semantic_tokens, stgm_at, stgm_layers, pooling, initialization, position, keep_prefix)
        if vit.get("device") is not None or vit.get("dtype") is not None:
            self.to(device=vit.get("device"), dtype=vit.get("dtype"))


def refuse_nothing(images: Tensor) -> None:
    """timm's ViTs fail on an empty batch where they look for its shape; say so first."""
    if not torch.jit.is_tracing() and images.shape[0] == 0:
        raise ValueError(f"the batch holds no images: its shape is {tuple(images.shape)}")


def filter_checkpoint(state_dict: dict[str, Tensor], model: STViT) -> dict[str, Tensor]:
    """A ViT's state dict for ``model``: positions and pooling offsets at its grid, class token as it has."""
    pos_embed = state_dict.get("pos_embed")
    if pos_embed is not None and model.num_prefix_tokens == 0:
        surplus = pos_embed.shape[1] - math.isqrt(pos_embed.shape[1]) ** 2
        if surplus in (1, 2) and pos_embed.shape[1] != model.pos_embed.shape[1]:
            state_dict = {**state_dict, "pos_embed": pos_embed[:, surplus:]}
    if isinstance(model.initial, IntraInterPooling):
        state_dict = model.initial.adapt_state_dict(state_dict, "initial.")
    return checkpoint_filter_fn(state_dict, model)


DEIT_DEFAULTS = dict(class_token=False, global_pool="avg", fc_norm=False, dynamic_img_size=True)

for _size, _settings in DEIT_SIZES.items():
    register(
        f"stvit_deit_{_size}_patch16_224",
        STViT,
        f"STViT-DeiT-{_size[0].upper()} (Table 1): no class token, the head reads the mean of the semantic tokens.",
        pretrained_filter_fn=filter_checkpoint,
        **DEIT_DEFAULTS,
        **_settings,
    )
