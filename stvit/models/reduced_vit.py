"""Trunks with token reductions: any of ``stvit.reduce.METHODS`` in a plain ViT of timm."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from contextlib import contextmanager
from itertools import accumulate
from typing import NamedTuple

import torch
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn, init_weights_vit_timm
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stvit.fast.groups import in_groups
from stvit.layers.pooling import Grid, is_whole
from stvit.models import registry
from stvit.models.intermediates import Intermediates
from stvit.models.padding import PadsTokens, cleared
from stvit.models.registry import DEIT_SIZES
from stvit.models.vit import refuse_nothing
from stvit.reduce import METHODS, Plan, Reduction, Seen, register
from stvit.reduce.dynamicvit import Decision
from stvit.reduce.reduction import HostBlock, check_rate


class ReducedTokens(PadsTokens, Intermediates):
    """What reductions add to a timm ViT; mixed into the ViT's own class.

    Layers keep timm's names; what a reduction learns is ``blocks.*.reduction``.
    """

    def equip(self, method: str | type[Reduction], at: int | Iterable[int] | None = None, **choices) -> None:
        """Put reductions by ``method`` into the layers ``at``, counted from 1 (default: the method's own)."""
        tokens, dim = self.patch_embed.num_patches, self.embed_dim
        blocks = host_reductions(self.blocks, method, at, choices, dim, tokens, self.has_class_token)
        self.blocks = nn.Sequential(*blocks)
        self.method = method_name(method)

    @property
    def reductions(self) -> dict[int, Reduction]:
        """The reductions by the number of their layer, from 1."""
        return {i: b.reduction for i, b in enumerate(self.blocks, 1) if isinstance(b, HostBlock)}

    @property
    def keeps_all(self) -> bool:
        """Whether all tokens reach the end, and the layers only compute with fewer."""
        return all(reduction.keeps_all for reduction in self.reductions.values())

    def held(self, maps: dict[str, Tensor]) -> dict[int, Tensor]:
        """Layer → (B, M, N): how much of each patch is in each token that the layer leaves or computes with.

        maps: what ``stvit.record`` collected in a forward of this model.
        """
        found = {layer: maps[f"blocks.{layer - 1}.assignment"] for layer in self.reductions}
        if not self.keeps_all:  # each layer starts from the tokens that the one before left
            totals = accumulate(found.values(), lambda total, assignment: assignment @ total)
            found = dict(zip(found, totals, strict=True))
        return found

    def set_keep_rate(self, keep_rate: float) -> None:
        """Another keep rate from the next forward on, for schedules such as ``stvit.reduce.keep_rate_at``."""
        rated = [r for r in self.reductions.values() if hasattr(r, "keep_rate")]
        if not rated:
            raise ValueError(f"{self.method} has no keep rate that could change")
        for reduction in rated:
            reduction.keep_rate = check_rate(keep_rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, channels, height, width) → (B, prefix + M, C), after the final norm; padding reads 0."""
        return self.normed(self.forward_layers(x))

    def forward_layers(self, images: Tensor, trace: list | None = None) -> Tensor:
        """All layers in order; ``trace`` collects what each of them returns, and its plan."""
        grid = self.patch_embed.dynamic_feat_size(images.shape[-2:])
        return self.forward_from(self.embed(images), grid, 0, trace)

    def embed(self, images: Tensor) -> Tensor:
        """What the first layer is given: (B, prefix + N, C)."""
        refuse_nothing(images)
        return self.norm_pre(self._pos_embed(self.patch_embed(images)))

    def forward_from(self, x: Tensor, grid: Grid, done: int, trace: list | None = None) -> Tensor:
        """The layers after the first ``done`` ones, which reduce nothing and gave ``x``: (B, prefix + M, C)."""
        count, grid = x.shape[1] - self.num_prefix_tokens, tuple(grid)
        seen = Seen(count, grid, None, self.num_prefix_tokens, whole=grid, angles=self.angles_at(grid))
        for block in self.blocks[done:]:
            x, plan, seen = self.run(block, x, seen)  # (B, prefix + M, C)
            if trace is not None:
                trace.append((cleared(x, seen) if self.pads else x, plan))
        return cleared(x, seen) if self.pads else x

    def angles_at(self, grid: Grid) -> Tensor | None:
        """Where the image tokens lie, as ``Seen.angles`` has it; None here, where layers do not ask."""
        return None

    @property
    def unchanged_layers(self) -> int:
        """How many of the first layers work on all tokens, as in the dense model."""
        return min(self.reductions) - 1

    def run(self, block: nn.Module, x: Tensor, seen: Seen) -> tuple[Tensor, Plan, Seen]:
        """One layer, and what the next one may know."""
        keep = self.grad_checkpointing and torch.is_grad_enabled()
        if not isinstance(block, HostBlock):
            tokens = (x,) if seen.bias is None else (x, seen.bias)
            y = checkpoint(block, *tokens, use_reentrant=False) if keep else in_groups(block, *tokens)
            return y, Plan(), seen
        y, plan = checkpoint(block, x, seen, use_reentrant=False) if keep else block(x, seen)
        return y, plan, seen.after(plan, block.reduction)

    def features_after(
        self, images: Tensor, take: list[int], norm: bool, maps: bool
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        trace: list[tuple[Tensor, Plan]] = []
        last, prefix = self.forward_layers(images, trace), self.num_prefix_tokens
        tokens = [self.normed(trace[i][0]) if norm else trace[i][0] for i in take]
        prefixes, features = [t[:, :prefix] for t in tokens], [t[:, prefix:] for t in tokens]
        if maps:
            grid = self.patch_embed.dynamic_feat_size(images.shape[-2:])
            steps = [(plan, y.shape[1] - prefix) for y, plan in trace]
            places = [
                put_back(feature, steps[: i + 1], grid[0] * grid[1])
                for i, feature in zip(take, features, strict=True)
            ]
            features = [
                place.transpose(1, 2).unflatten(2, grid).contiguous() for place in places
            ]  # (B, C, h, w)
        return last, features, prefixes

    def restored(self, images: Tensor, dropped: str = "zero") -> Tensor:
        grid, prefix = self.patch_embed.dynamic_feat_size(images.shape[-2:]), self.num_prefix_tokens
        first = self.embed(images)
        trace: list[tuple[Tensor, Plan]] = []
        last = self.forward_from(first, grid, 0, trace)
        steps = [(plan, y.shape[1] - prefix) for y, plan in trace]
        before = None
        if dropped == "last":
            fronts = (first, *(y for y, _ in trace[:-1]))
            before = [
                self.norm(y)[:, prefix:] if plan.parts else y[:, prefix:]
                for y, (plan, _) in zip(fronts, steps, strict=True)
            ]
        return put_back(self.norm(last)[:, prefix:], steps, grid[0] * grid[1], before)

    @staticmethod
    def plain_blocks(blocks: Iterable[nn.Module]) -> nn.Sequential:
        """The layers without reductions."""
        return nn.Sequential(*(b.to_block() if isinstance(b, HostBlock) else b for b in blocks))

    def adapt_state_dict(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """DynamicViT's checkpoints list the predictors separately; here each belongs to the layer that it precedes."""
        hosts = [i for i, block in enumerate(self.blocks) if isinstance(block, HostBlock)]
        names = {f"score_predictor.{s}.": f"blocks.{i}.reduction." for s, i in enumerate(hosts)}
        adapted = {}
        for key, value in state_dict.items():
            old = next((name for name in names if key.startswith(name)), None)
            adapted[key if old is None else names[old] + key.removeprefix(old)] = value
        return adapted

    def load_state_dict(self, state_dict: dict[str, Tensor], strict: bool = True, assign: bool = False):
        return super().load_state_dict(self.adapt_state_dict(state_dict), strict, assign)


class ReducedViT(ReducedTokens, VisionTransformer):
    """A vision transformer with reductions; arguments: the method, its choices, and timm's ViT's."""

    def __init__(self, method: str, at: int | Iterable[int] | None = None, **kwargs):
        choices, vit = split_choices(method, kwargs)
        super().__init__(**vit)
        self.equip(method, at, **choices)
        if vit.get("device") is not None or vit.get("dtype") is not None:
            self.to(device=vit.get("device"), dtype=vit.get("dtype"))


def host_reductions(
    blocks: Iterable[nn.Module],
    method: str | type[Reduction],
    at: int | Iterable[int] | None,
    choices: dict,
    dim: int,
    tokens: int,
    class_token: bool,
) -> list[nn.Module]:
    """A model's layers, those that reduce with their reductions; ValueError with the reason where it cannot be.

    tokens: image tokens that the model begins with, at the size it was built for
    class_token: whether it has one
    """
    reduction, blocks = find_method(method), list(blocks)
    unknown = [name for name in choices if name not in method_choices(method)]
    if unknown:
        names = ", ".join(method_choices(method))
        raise ValueError(f"{method_name(method)} has no choice {unknown[0]!r}; it has {names}")
    refuse_none(reduction, choices)
    if at is not None and reduction.fixed_layers:
        raise ValueError(f"{method_name(method)} takes its place in all its layers; leave ``at`` out")
    layers = reduction.layers(len(blocks)) if at is None else chosen_layers(at, len(blocks))
    if reduction.needs_class_token and not class_token:
        name = method_name(method)
        raise ValueError(f"{name} orders tokens by class attention, and this model has no class token")
    for stage, layer in enumerate(sorted(layers)):
        block = blocks[layer - 1]
        place = Place(stage, layer, len(blocks), tokens, block.attn.num_heads)
        blocks[layer - 1] = build_reduction(reduction, dim, place, choices).host(block)
    return blocks


def put_back(
    image: Tensor, steps: list[tuple[Plan, int]], count: int, before: list[Tensor] | None = None
) -> Tensor:
    """Tokens (B, M, C) back at the ``count`` places that the image began with, through all plans.

    before: the image tokens in front of each layer; a dropped place reads the last of them that it had, not 0
    """
    counts = [count, *(tokens for _, tokens in steps[:-1])]
    for i in reversed(range(len(steps))):
        plan, old = steps[i][0], counts[i]
        image = plan.unmerge(image, old)
        if before is not None and plan.parts:
            gone = plan.assignment(old).sum(dim=1) == 0  # (B, N)
            image = torch.where(gone[..., None], before[i], image)
    return image


@contextmanager
def decisions(model: nn.Module):
    """The keep decisions, (B, N) a stage, of forwards in training: what DynamicViT's ratio loss needs.

    with decisions(model) as kept:
        logits = model(images)
    loss = criterion(logits, targets) + 2 * ratio_loss(kept, keep_rate=0.7)
    """
    kept: list[Tensor] = []
    deciders = [module for module in model.modules() if isinstance(module, Decision)]
    if not deciders:
        raise ValueError(f"{type(model).__name__} takes no keep decisions; this is for DynamicViT")
    hooks = [module.register_forward_hook(lambda _, __, keep: kept.append(keep)) for module in deciders]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def chosen_layers(at: int | Iterable[int], depth: int) -> tuple[int, ...]:
    """The layers that ``at`` names, counted from 1: at least one, each once, none that the model has not."""
    layers = (
        (at,) if is_whole(at) else tuple(at) if isinstance(at, Iterable) and not isinstance(at, str) else ()
    )
    known = all(is_whole(layer) and 1 <= layer <= depth for layer in layers)
    if not layers or not known or len(set(layers)) != len(layers):
        raise ValueError(f"at={at!r} must be a layer or distinct layers from 1 to {depth}")
    return layers


def refuse_none(reduction: type[Reduction], choices: dict) -> None:
    """ValueError for a None that would change meaning: ``timm.create_model`` drops it, so that the default holds."""
    defaults = {name: known.default for name, known in inspect.signature(reduction).parameters.items()}
    for name, value in choices.items():
        if value is None and defaults[name] is not None:
            raise ValueError(
                f"{name}=None says nothing, because timm.create_model drops it; {reduction.__name__} has "
                f"{name}={defaults[name]!r} by default"
            )


def find_method(method: str | type[Reduction]) -> type[Reduction]:
    """A method by its name in ``stvit.reduce.METHODS``; a class is registered there and so gets a name."""
    if isinstance(method, type) and issubclass(method, Reduction):
        return register(method)
    if method not in METHODS:
        raise ValueError(
            f"unknown method {method!r}; choose 'stvit' or one of {', '.join(METHODS)}, or give a class of Reduction"
        )
    return METHODS[method]


def method_name(method: str | type[Reduction]) -> str:
    """The name by which a saved model's configuration knows the method."""
    return next(name for name, known in METHODS.items() if method in (name, known))


def method_choices(method: str | type[Reduction]) -> tuple[str, ...]:
    """The names of what can be chosen about a method."""
    own = inspect.signature(find_method(method)).parameters
    return tuple(name for name in own if name not in ("dim", *Place._fields))


def split_choices(method: str, kwargs: dict) -> tuple[dict, dict]:
    """``kwargs`` as the method's choices and the rest."""
    names = method_choices(method)
    choices = {name: value for name, value in kwargs.items() if name in names}
    return choices, {name: value for name, value in kwargs.items() if name not in names}


class Place(NamedTuple):
    """Where a reduction stands: given to the methods whose constructors have a parameter of one of these names."""

    stage: int  # which of the model's reductions it is, from 0
    layer: int  # its layer, from 1
    depth: int  # how many layers the model has
    tokens: int  # image tokens that the model begins with, at the size it was built for
    heads: int = 1  # of the layer's attention

    def asked_by(self, reduction: type[Reduction]) -> dict[str, int]:
        asked = inspect.signature(reduction).parameters
        return {name: fact for name, fact in self._asdict().items() if name in asked}


def build_reduction(reduction: type[Reduction], dim: int, place: Place, choices: dict) -> Reduction:
    module = reduction(dim, **choices, **place.asked_by(reduction))
    module.apply(init_weights_vit_timm)
    return module


def name_models(method: str) -> None:
    """Give DeiT with ``method`` its names in timm."""
    for size, settings in DEIT_SIZES.items():
        registry.register(
            f"{method}_deit_{size}_patch16_224",
            ReducedViT,
            f"DeiT-{size[0].upper()} with reductions by the method {method!r}.",
            pretrained_filter_fn=checkpoint_filter_fn,
            method=method,
            dynamic_img_size=True,
            **settings,
        )


METHODS.watch(name_models)
