"""Layers of transformers as guests of our frame: called as transformers calls them, seen as timm's by our classes.

A guest keeps its own class among its classes, and its parts under their own names, so that its state dict stays as it
was. Beside it stands one of our classes, which finds the parts by timm's names (``norm1``, ``attn``, ``ls1``, …).
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stvit.fast.groups import POOLING, in_groups
from stvit.fast.token_linear import for_many_tokens
from stvit.hosts.huggingface.trail import RotaryPair, Trail
from stvit.layers.semantic import GenerationLayer, StgmLayer
from stvit.reduce.plan import Plan
from stvit.reduce.reduction import HostBlock, ObservedAttention, PruningBlock, Seen
from stvit.surgery import recast

NOTHING = nn.Identity()
VIT = dict(
    norm1="layernorm_before", attn="attention", norm2="layernorm_after", ls1="dropout", ls2="dropout",
    drop_path1=None, drop_path2=None,
)  # fmt: skip
DINO = dict(
    attn="attention", ls1="layer_scale1", ls2="layer_scale2", drop_path1="drop_path", drop_path2="drop_path"
)
CLIP = dict(
    norm1="layer_norm1", attn="self_attn", norm2="layer_norm2", ls1=None, ls2=None, drop_path1=None, drop_path2=None
)  # fmt: skip
LAYERS: dict[
    str, dict[str, str | None]
] = {  # timm's name of a part → the layer's own; None: it has no such part
    "ViTLayer": VIT,
    "DeiTLayer": VIT,
    "ViTMSNLayer": VIT,
    "IJepaLayer": VIT,
    "Dinov2Layer": DINO,
    "Dinov2WithRegistersLayer": DINO,
    "DINOv3ViTLayer": DINO,
    "CLIPEncoderLayer": CLIP,
    "SiglipEncoderLayer": CLIP,
    "Siglip2EncoderLayer": CLIP,
}
ADDED = ("reduction", "centers", "initial", "position")  # modules that a layer may have from us


class Guest:
    """A module of transformers; stands in front of one of our classes, or of none, and of its own."""

    theirs: ClassVar[type[nn.Module]]
    ours: ClassVar[type[nn.Module] | None]
    names: ClassVar[dict[str, str | None]]

    @classmethod
    def joined_with(cls, wanted: type[nn.Module]) -> type[nn.Module]:
        """What ``recast`` makes of a guest: its own class, or ``wanted`` beside it."""
        return wanted if wanted is cls.theirs or issubclass(wanted, Guest) else guest_of(cls.theirs, wanted)

    def __getattr__(self, name: str) -> Any:
        own = self.names.get(name, name)
        return NOTHING if own is None else super().__getattr__(own)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(self.names.get(name, name), value)

    def __reduce__(self):
        return _new_guest, (self.theirs, self.ours), self.__dict__


@cache
def guest_of(theirs: type[nn.Module], ours: type[nn.Module] | None = None) -> type[nn.Module]:
    """The class of guests of the class ``theirs`` that do what ``ours`` does, or what they have always done."""
    bases = (role_of(theirs, ours), theirs) if ours is None else (role_of(theirs, ours), ours, theirs)
    name = f"Guest{theirs.__name__}" if ours is None else f"{ours.__name__}Of{theirs.__name__}"
    names = LAYERS.get(theirs.__name__, {})
    return type(name, bases, dict(theirs=theirs, ours=ours, names=names, __module__=__name__))


def role_of(theirs: type[nn.Module], ours: type[nn.Module] | None) -> type[Guest]:
    """How transformers' calls reach a guest."""
    if theirs.__name__ not in LAYERS:
        return Rotary if is_rotary(theirs) else GuestAttention
    if ours is not None and issubclass(ours, HostBlock):
        return Reducing
    return Semantic if ours is not None and issubclass(ours, StgmLayer) else Passing


def is_rotary(module: type[nn.Module]) -> bool:
    return module.__name__.endswith("RopePositionEmbedding")


def _new_guest(theirs: type[nn.Module], ours: type[nn.Module] | None) -> nn.Module:
    cls = guest_of(theirs, ours)
    return cls.__new__(cls)


def welcome(layer: nn.Module) -> nn.Module:
    """A layer of transformers, or its module of rotary positions, as a guest that does what it has always done."""
    guest = recast(layer, guest_of(type(layer)))
    if "attn" in guest.names:
        guest.attn = recast(guest.attn, guest_of(type(guest.attn)))
    return guest


def release(guest: nn.Module) -> nn.Module:
    """The guest as the module of transformers that it was."""
    plain = recast(for_many_tokens(guest), guest.theirs)
    for name in ADDED:
        plain._modules.pop(name, None)
    for name in ("stage", "prefix"):
        plain.__dict__.pop(name, None)
    if "attn" in guest.names:
        attention = getattr(plain, guest.names["attn"])
        attention = recast(attention, attention.theirs)
        attention._modules.pop("rel_pos", None)
        setattr(plain, guest.names["attn"], attention)
    return plain


class GuestAttention(Guest):
    """An attention of transformers: three projections where timm has one."""

    q_norm = k_norm = norm = proj_drop = NOTHING
    gate = None
    fused_attn = True

    @property
    def num_heads(self) -> int:
        own = self.__dict__
        return own["num_attention_heads"] if "num_attention_heads" in own else own["num_heads"]

    @property
    def scale(self) -> float:
        return self.head_dim**-0.5

    @property
    def attn_drop(self) -> SimpleNamespace:
        own = self.__dict__
        return SimpleNamespace(p=own["attention_dropout"] if "attention_dropout" in own else own["dropout"])

    @property
    def proj(self) -> nn.Module:
        own = self._modules
        return own["o_proj"] if "o_proj" in own else own["out_proj"]

    def _heads(self, x: Tensor, first: int, last: int) -> tuple[Tensor, ...]:
        """x through the projections first … last−1 of (q, k, v), split into heads: (B, heads, N, head_dim) each."""
        layers = (self.q_proj, self.k_proj, self.v_proj)[first:last]
        return tuple(layer(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2) for layer in layers)


class Rotary(Guest):
    """DINOv3's rotary positions, which also say their angles: they are linear in places, and can be averaged."""

    def forward(self, pixel_values: Tensor) -> RotaryPair:
        cos, sin = super().forward(
            pixel_values.float()
        )  # (N, head_dim) each: twice (rows, columns) of frequencies
        count = len(self.inv_freq)
        slowest = torch.atan2(sin, cos)[:, [count - 1, 2 * count - 1]]  # less than half a turn
        places = slowest / self.inv_freq[-1]  # (N, 2)
        angles = (places[:, :, None] * self.inv_freq).flatten(1).tile(2)  # (N, head_dim)
        return RotaryPair(cos.to(pixel_values.dtype), sin.to(pixel_values.dtype), angles[None])


class GuestLayer(Guest):
    """A layer of transformers. ``stage`` is how many layers in front of it have changed the tokens."""

    stage: int

    def refuse_reentrant(self) -> None:
        """Reentrant checkpointing loses the gradients of what layers hand on beside tokens."""
        checkpointing = getattr(self, "_gradient_checkpointing_func", None)
        reentrant = getattr(checkpointing, "keywords", {}).get("use_reentrant", False)
        if self.gradient_checkpointing and self.training and reentrant:
            raise ValueError(
                "a sparsified model needs gradient_checkpointing_enable(gradient_checkpointing_kwargs="
                "{'use_reentrant': False})"
            )


class Passing(GuestLayer):
    """A layer that computes as ever, with as many tokens as there are."""

    def forward(
        self, x: Tensor, attention_mask: Any = None, trail: Trail | None = None, **settings
    ) -> Tensor:
        trail = Trail.needed(trail)
        if self.ours is not None:  # relative positions among semantic tokens
            return super().forward(x)
        if self.stage:
            seen = trail.seen[self.stage]
            attention_mask = seen.bias
            if attention_mask is not None and "flash" in str(self.attn.config._attn_implementation):
                raise ValueError(
                    "the method weights or masks keys, which flash attention cannot: load the model with "
                    "attn_implementation='sdpa'"
                )
            if seen.angles is not None:
                settings["position_embeddings"] = RotaryPair.of(seen.angles, x.dtype)
        return super().forward(x, attention_mask, **settings)


class Reducing(GuestLayer):
    """A layer with a reduction."""

    def forward(self, x: Tensor, attention_mask: Any = None, trail: Trail | None = None, **settings) -> Any:
        if isinstance(attention_mask, Seen):  # a call of our own
            return super().forward(x, attention_mask)
        trail = Trail.needed(trail)
        self.refuse_reentrant()
        seen = trail.before(self.stage, x, settings)
        y, plan = super().forward(x, seen)  # (B, prefix + M, C)
        trail.seen[self.stage + 1] = seen.after(plan, self.reduction)
        trail.plans[self.stage] = plan
        return y

    def look(self, x: Tensor, seen: Seen) -> Tensor:
        return self.attn(x, seen.bias, seen.angles)[0]

    def assignment(
        self, x: Tensor, attention_mask: Any = None, trail: Trail | None = None, **settings
    ) -> Tensor:
        return super().assignment(x, Trail.needed(trail).before(self.stage, x, settings))


class Semantic(GuestLayer):
    """A layer of the STGM: the first makes semantic tokens of image tokens, which the trail keeps for the others."""

    def forward(
        self, x: Tensor, attention_mask: Any = None, trail: Trail | None = None, **settings
    ) -> Tensor:
        trail = Trail.needed(trail)
        self.refuse_reentrant()
        s, context = self.tokens(x, trail, settings)
        if isinstance(self, GenerationLayer):
            trail.image = x
        trail.seen[self.stage + 1] = trail.seen[self.stage].after(Plan(), None)
        return self.position(in_groups(super().forward, s, context))  # (B, prefix + M, C)

    def tokens(self, x: Tensor, trail: Trail, settings: dict) -> tuple[Tensor, Tensor]:
        """Semantic tokens (B, kept + M, C), and what they look at."""
        kept = self.prefix[0]
        if not isinstance(self, GenerationLayer):
            return x, trail.image[:, kept:]  # a kept class token is among the semantic tokens already
        seen = trail.before(self.stage, x, settings)
        centers = in_groups(self.initial, x[:, seen.prefix :], grid=seen.whole, width=POOLING)  # (B, M, C)
        return torch.cat([x[:, :kept], centers], dim=1), x

    def assignment(
        self, x: Tensor, attention_mask: Any = None, trail: Trail | None = None, **settings
    ) -> Tensor:
        return super().assignment(*self.tokens(x, Trail.needed(trail), settings))


def own_attention(layer: nn.Module) -> nn.Module:
    """A layer that reduces in front of it, its attention fused whatever the model's implementation."""
    if isinstance(layer, PruningBlock):
        layer.attn = recast(layer.attn, ObservedAttention)
    return layer
