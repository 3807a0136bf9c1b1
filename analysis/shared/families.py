"""Families of timm's vision transformers, and which methods run in each: what the code does, tried on small models."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

SMALL = dict(embed_dim=32, num_heads=2, depth=2, num_classes=5, img_size=32, patch_size=8)  # 16 image tokens
SIDE = 32
SWIN = dict(
    embed_dim=8, depths=(1, 1, 6, 1), num_heads=(1, 1, 2, 2), num_classes=5, img_size=32, window_size=2
)


class Family(NamedTuple):
    """A model of timm that stands for its family, how it is made small, and what it has that a plain ViT has not."""

    model: str
    small: dict
    has: str = ""

    def build(self) -> nn.Module:
        import timm

        return timm.create_model(self.model, **self.small).eval()


def vit(model: str, has: str = "", **changes) -> Family:
    return Family(model, {**SMALL, **changes}, has)


FAMILIES = {
    "ViT": vit("vit_tiny_patch16_224"),
    "ViT, no class token": vit("vit_medium_patch16_gap_240", "mean of the tokens"),
    "ViT, registers, no class token": vit("vit_little_patch16_reg4_gap_256", "registers, LayerScale"),
    "ViT, query and key norms": vit("vit_tiny_patch16_224", "norms in the attention", qk_norm=True),
    "ViT behind convolutions": vit("vit_tiny_r_s16_p8_224", "a convolutional stem", img_size=128),
    "DeiT, distilled": vit("deit_tiny_distilled_patch16_224", "two class tokens, two heads"),
    "DeiT-III": vit("deit3_small_patch16_224", "LayerScale, a class token without position"),
    "FlexiViT": vit("flexivit_small", "patches of any size"),
    "LV-ViT": Family(
        "lvvit_small_patch16_224", {**SMALL, "patch_size": 16, "img_size": 64}, "an auxiliary head"
    ),
    "DINOv2": vit("vit_small_patch14_dinov2", "LayerScale"),
    "DINOv2, registers": vit("vit_small_patch14_reg4_dinov2", "registers"),
    "CLIP": vit("vit_base_patch16_clip_224", "a norm in front of the layers"),
    "SigLIP": vit("vit_base_patch16_siglip_224", "attention pooling, no class token"),
    "EVA": vit("eva_giant_patch14_224", "query and value biases"),
    "EVA-02": vit("eva02_tiny_patch14_224", "rotary positions, gated FFN"),
    "DINOv3": vit("vit_small_patch16_dinov3", "rotary positions, registers"),
    "Perception Encoder": vit("vit_pe_core_tiny_patch16_384", "rotary positions, attention pooling"),
    "RoPE-ViT": vit("vit_small_patch16_rope_224", "rotary positions"),
    "RoPE-ViT, mixed": vit("vit_small_patch16_rope_mixed_224", "rotary positions, learned in each layer"),
    "RoPE-ViT, no class token": vit("vit_betwixt_patch16_rope_reg4_gap_256", "rotary positions, registers"),
    "BEiT": vit("beit_base_patch16_224", "a bias for each pair of places", init_values=0.1),
    "BEiT v2": vit("beitv2_base_patch16_224", "a bias for each pair of places"),
    "Swin": Family("swin_tiny_patch4_window7_224", SWIN, "windows"),
    "Swin v2": Family("swinv2_tiny_window8_256", {**SWIN, "depths": (1, 1, 1, 1)}, "windows"),
    "SAM": vit("samvit_base_patch16", "windows, and some layers without", img_size=64),
    "Hiera": Family(
        "hiera_tiny_224", dict(embed_dim=8, num_heads=1, stages=(1, 1, 1, 1)), "pooling in units"
    ),
    "ViT, relative positions": vit("vit_relpos_small_patch16_224", "relative positions"),
    "NaFlexViT": Family(
        "naflexvit_base_patch16_gap", dict(embed_dim=32, num_heads=2, depth=2), "images of any shape"
    ),
    "CaiT": Family("cait_xxs24_224", dict(embed_dim=32, num_heads=2, depth=2), "talking heads"),
    "XCiT": Family(
        "xcit_nano_12_p16_224", dict(embed_dim=32, num_heads=2, depth=2), "attention among channels"
    ),
}


def tried(model: nn.Module) -> dict[str, str]:
    """Each method → "" where it runs in ``model``, or the reason why it does not."""
    import stvit
    from stvit.reduce import METHODS

    found = {}
    for method in ("stvit", *METHODS):
        try:
            stvit.sparsify(model, method=method, **choices_for(model, method))
            found[method] = ""
        except ValueError as reason:
            found[method] = str(reason)
    return found


def choices_for(model: nn.Module, method: str) -> dict:
    """What ``method`` needs in so small a model, to have fewer tokens than there are."""
    if method != "stvit":
        from stvit.models.reduced_vit import method_choices

        return dict(tokens=4) if "num_tokens" in method_choices(method) else {}
    return dict(tokens=1) if hasattr(model, "layers") else dict(tokens=4, at=1)


def table() -> pd.DataFrame:
    """A row a family: its model, what is special, the methods that run, and why the others do not."""
    import pandas as pd

    return pd.DataFrame([row(name) for name in FAMILIES])


def row(name: str) -> dict[str, str]:
    family = FAMILIES[name]
    found = tried(family.build())
    reduce = {method: reason for method, reason in found.items() if method != "stvit"}
    works = [method for method, reason in reduce.items() if not reason]
    reasons: dict[str, list[str]] = {}
    for method, reason in found.items():
        if reason:
            reasons.setdefault(plain_reason(reason, method), []).append(method)
    return {
        "family": name,
        "model": f"`{family.model}`",
        "has": family.has,
        "semantic tokens": "no" if found["stvit"] else "yes",
        "methods of `stvit.reduce`": f"all {len(reduce)}"
        if len(works) == len(reduce)
        else str(len(works) or "none"),
        "not": "; ".join(
            reason if len(methods) == len(found) else f"{', '.join(f'`{m}`' for m in methods)}: {reason}"
            for reason, methods in reasons.items()
        ),
    }


def plain_reason(reason: str, method: str) -> str:
    """The reason without the names of the model and of the method."""
    told = reason.partition(": ")[2] if reason.startswith("cannot sparsify") else reason
    return told.removeprefix(f"{method} ").removeprefix(f"method {method!r} ")
