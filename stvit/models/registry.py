"""How every model of this package gets its name in timm: sizes, default configurations, registration.

``timm.create_model("stvit_deit_small_patch16_224", num_semantic_tokens=36)`` finds what ``register`` was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

DEIT_SIZES = {
    "tiny": dict(patch_size=16, embed_dim=192, depth=12, num_heads=3),
    "small": dict(patch_size=16, embed_dim=384, depth=12, num_heads=6),
    "base": dict(patch_size=16, embed_dim=768, depth=12, num_heads=12),
}
SWIN_SIZES = {
    "tiny": dict(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24)),
    "small": dict(embed_dim=96, depths=(2, 2, 18, 2), num_heads=(3, 6, 12, 24)),
    "base": dict(embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32)),
}
STAGES = (0, 1, 2, 3)  # features_only gives the maps of a Swin's stages, or of a ViT's last layers
default_cfgs: dict = {}  # by name; timm reads this one, since the entry points below are of this module


def default_cfg(**changes: object) -> dict:
    """What timm wants to know of a model for ImageNet at 224 × 224, with ``changes``."""
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": None,
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "fixed_input_size": False,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "first_conv": "patch_embed.proj",
        "classifier": "head",
        "license": "mit",
        **changes,
    }


def swin_cfg(**changes: object) -> dict:
    return default_cfg(
        **{"pool_size": (7, 7), "first_conv": "patch_embed.proj.0.conv", "classifier": "head.fc", **changes}
    )


def build(cls: Callable[..., nn.Module], name: str, pretrained: bool, out_indices=3, **settings) -> nn.Module:
    """``cls(**settings)`` by timm's builder, which knows about ``features_only`` and checkpoints."""
    features = dict(out_indices=out_indices, feature_cls="getter")
    return build_model_with_cfg(cls, name, pretrained, feature_cfg=features, **settings)


def register(
    name: str,
    cls: Callable[..., nn.Module],
    doc: str,
    cfg: dict | None = None,
    tags: Mapping[str, dict] | None = None,
    build: Callable[..., nn.Module] = build,
    **defaults: object,
) -> None:
    """Give ``cls(**defaults)`` a name in timm.

    doc: one line, which ``help`` shows
    cfg: timm's default configuration (ImageNet at 224 × 224)
    tags: further defaults of ``name.tag``
    build: what calls ``cls``, and what ``defaults`` besides timm's own are for
    """
    tags = tags or {}

    def create(pretrained: bool = False, **choices: object) -> nn.Module:
        tag = choices.get("pretrained_cfg")
        variant = tags.get(tag, {}) if isinstance(tag, str) else {}
        return build(cls, name, pretrained, **{**defaults, **variant, **choices})

    create.__name__ = create.__qualname__ = name
    create.__doc__ = doc
    cfg = default_cfg() if cfg is None else cfg
    default_cfgs.update(generate_default_cfgs({name: cfg, **{f"{name}.{tag}": cfg for tag in tags}}))
    register_model(create)
