"""LV-ViT-S (Jiang et al., NeurIPS 2021): dense, with semantic tokens (STViT), with reductions (BAT, EViT)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from timm.layers import PatchEmbed
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from stvit.layers.pooling import Grid
from stvit.models.padding import is_token
from stvit.models.reduced_vit import ReducedTokens, split_choices
from stvit.models.registry import default_cfg, register
from stvit.models.vit import SEMANTIC_CHOICES, SemanticTokens, filter_checkpoint


class LVViTStem(PatchEmbed):
    """A convolution of stride 2 and two of stride 1, 64 channels each, in front of the patch projection."""

    def __init__(self, *args, in_chans: int = 3, embed_dim: int = 384, stem_width: int = 64, **kwargs):
        super().__init__(*args, in_chans=in_chans, embed_dim=embed_dim, **kwargs)
        if any(side % 2 for side in self.patch_size):
            raise ValueError(f"the stem halves the image, so that patches of {self.patch_size} must be even")
        half = tuple(side // 2 for side in self.patch_size)
        self.conv1 = nn.Conv2d(in_chans, stem_width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_width)
        self.conv2 = nn.Conv2d(stem_width, stem_width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem_width)
        self.conv3 = nn.Conv2d(stem_width, stem_width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(stem_width)
        self.relu = nn.ReLU(inplace=True)
        self.proj = nn.Conv2d(stem_width, embed_dim, half, stride=half)

    def forward(self, x: Tensor) -> Tensor:
        self.check_size(tuple(x.shape[-2:]))
        x = self.relu(self.bn1(self.conv1(x)))  # (B, 64, H/2, W/2)
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.relu(self.bn3(self.conv3(x)))
        x = self.proj(x)  # (B, C, h, w)
        x = x.flatten(2).transpose(1, 2) if self.flatten else x.permute(0, 2, 3, 1)
        return self.norm(x)

    def check_size(self, size: tuple[int, int]) -> None:
        if self.strict_img_size and size != tuple(self.img_size):
            raise ValueError(f"images are {size}, and the model is made for {tuple(self.img_size)}")
        if any(side % patch for side, patch in zip(size, self.patch_size, strict=True)):
            raise ValueError(
                f"images of {size} are not a whole number of patches of {tuple(self.patch_size)}"
            )


class Scale(nn.Module):
    """A residual branch times a constant; it stands where other ViTs have a learned layer scale."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor

    def extra_repr(self) -> str:
        return f"factor={self.factor}"


class LVViT(VisionTransformer):
    """A ViT trained with token labels.

    1. A convolutional stem; residual branches divided by ``skip_lam``; queries, keys, values without bias.
    2. The head reads the class token, and an auxiliary head every other token.
    3. Logits: head(class) + ½ · the largest of the auxiliary logits over the tokens, class by class.

    Training with token labels needs the two separately: ``token_logits`` and ``stvit.training.token_labels``.
    """

    def __init__(self, skip_lam: float = 2.0, aux_weight: float = 0.5, weight_init: str = "", **vit):
        own = dict(embed_layer=LVViTStem, norm_layer=partial(nn.LayerNorm, eps=1e-5), qkv_bias=False)
        super().__init__(weight_init="skip", **{**own, **vit})
        for block in self.blocks:
            block.ls1, block.ls2 = Scale(1 / skip_lam), Scale(1 / skip_lam)
        self.aux_weight = aux_weight
        self.aux_head = self._new_aux_head(self.num_classes)
        self.to(device=vit.get("device"), dtype=vit.get("dtype"))
        if weight_init != "skip":
            self.init_weights(weight_init, needs_reset=False)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = self.head_drop(self.fc_norm(self.pool(x)))
        if pre_logits or self.num_classes == 0:
            return pooled
        return self.head(pooled) + self.aux_weight * self.largest_logits(x)

    def largest_logits(self, x: Tensor) -> Tensor:
        """The largest of the auxiliary logits over the tokens, class by class: (B, classes)."""
        return self.aux_head(self.image_tokens(x)).amax(dim=1)

    def token_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the image (B, classes) and of each token (B, M, classes), as training wants them."""
        x = self.forward_features(images)
        pooled = self.head_drop(self.fc_norm(self.pool(x)))
        return self.head(pooled), self.aux_head(self.image_tokens(x))

    def image_tokens(self, x: Tensor) -> Tensor:
        """The tokens after class and register tokens."""
        return x[:, getattr(self, "num_kept_prefix_tokens", self.num_prefix_tokens) :]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        super().reset_classifier(num_classes, global_pool)
        like = self.cls_token if self.cls_token is not None else self.patch_embed.proj.weight
        self.aux_head = self._new_aux_head(num_classes).to(like).train(self.training)

    def _new_aux_head(self, num_classes: int) -> nn.Module:
        return nn.Linear(self.embed_dim, num_classes) if num_classes > 0 else nn.Identity()


class STViTLVViT(SemanticTokens, LVViT):
    """LV-ViT with semantic tokens.

    The class token takes part in the base layers and is among the keys of the STGM; after it both
    heads read the semantic tokens, the first their mean, as the FLOPs of Table 10 have it. With
    ``global_pool="token"`` the class token is kept in front of them.
    """

    def __init__(self, num_semantic_tokens: int | Grid = 36, stgm_at: int = 6, **choices):
        own = {name: choices.pop(name) for name in SEMANTIC_CHOICES if name in choices}
        super().__init__(**choices)
        self.equip(num_semantic_tokens, stgm_at, **own)
        self.to(device=choices.get("device"), dtype=choices.get("dtype"))


class ReducedLVViT(ReducedTokens, LVViT):
    """LV-ViT with reductions; the auxiliary head reads the tokens that are left."""

    def __init__(self, method: str, at: int | Iterable[int] | None = None, **kwargs):
        choices, vit = split_choices(method, kwargs)
        super().__init__(**vit)
        self.equip(method, at, **choices)
        self.to(device=vit.get("device"), dtype=vit.get("dtype"))

    def largest_logits(self, x: Tensor) -> Tensor:
        if not self.pads:
            return super().largest_logits(x)
        tokens = self.image_tokens(x)
        logits = self.aux_head(tokens)  # (B, M, classes)
        return logits.masked_fill(~is_token(tokens)[..., None], torch.finfo(logits.dtype).min).amax(dim=1)


SMALL = dict(patch_size=16, embed_dim=384, depth=16, num_heads=6, mlp_ratio=3.0, dynamic_img_size=True)
CFG = default_cfg(first_conv="patch_embed.conv1", classifier=("head", "aux_head"), license="apache-2.0")


def _register(variant: str, cls: type[nn.Module], doc: str, keep=checkpoint_filter_fn, **defaults) -> None:
    settings = {**SMALL, **defaults}
    register(f"{variant}lvvit_small_patch16_224", cls, doc, CFG, pretrained_filter_fn=keep, **settings)


_register("", LVViT, "LV-ViT-S.")
_register(
    "stvit_",
    STViTLVViT,
    "STViT-LV-ViT-S: base of 5 layers, STGM in layers 6-7 (STViT, Tables 10-11).",
    filter_checkpoint,
    global_pool="avg",
    fc_norm=False,
)
_register("bat_", ReducedLVViT, "BAT on LV-ViT-S, in layers 5, 9, 13 (BAT, Table 2).", method="bat")
_register(
    "evit_",
    ReducedLVViT,
    "EViT on LV-ViT-S, in layers 5, 9, 13 (STViT, Table 11; BAT, Table 2).",
    method="evit",
)
