"""Interventions: tokens are hidden or merged by hand in front of a layer, and the class feature is read again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH = 28


@torch.inference_mode()
def tokens_before(model: nn.Module, images: Tensor, layer: int) -> Tensor:
    """(1, prefix + N, C): the tokens of a plain ViT as they come into ``layer``, counted from 1."""
    x = model.norm_pre(model._pos_embed(model.patch_embed(images)))
    return model.blocks[: layer - 1](x)


@torch.inference_mode()
def feature_from(model: nn.Module, x: Tensor, layer: int) -> Tensor:
    """(B, n, C) in front of ``layer`` → (B, C), what the head reads at the end."""
    return model.forward_head(model.norm(model.blocks[layer - 1 :](x)), pre_logits=True)


def by_hand(x: Tensor, prefix: int, hide: Iterable[int] = (), merge: Iterable[Sequence[int]] = ()) -> Tensor:
    """Tokens (1, prefix + N, C) without the patches ``hide``, and with each group of ``merge`` as its mean."""
    count = x.shape[1] - prefix
    hidden, groups = set(hide), [sorted(set(group) - set(hide)) for group in merge]
    for patch in (*hidden, *(patch for group in groups for patch in group)):
        if not 0 <= patch < count:
            raise ValueError(f"there is no patch {patch}; the image has 0 to {count - 1}")
    taken = hidden.union(*groups)
    alone = [prefix + i for i in range(count) if i not in taken]
    means = [x[:, [prefix + i for i in group]].mean(1, keepdim=True) for group in groups if group]
    return torch.cat([x[:, :prefix], x[:, alone], *means], dim=1)


def change(model: nn.Module, x: Tensor, layer: int, dense: Tensor) -> Tensor:
    """1 − cosine of the class feature with the dense model's: (B,)."""
    return 1 - F.cosine_similarity(feature_from(model, x, layer), dense[None], dim=1)


def partners(x: Tensor, prefix: int) -> Tensor:
    """(N,): the other patch whose token is most like each patch's."""
    unit = F.normalize(x[0, prefix:], dim=1)
    return (unit @ unit.T).fill_diagonal_(-torch.inf).argmax(1)


def single_effects(model: nn.Module, x: Tensor, layer: int, dense: Tensor, prefix: int) -> dict[str, Tensor]:
    """What hiding each patch changes, and merging it with its ``partner``: (N,) each."""
    partner = partners(x, prefix)
    patches = range(len(partner))
    hidden = [by_hand(x, prefix, hide=[i]) for i in patches]
    merged = [by_hand(x, prefix, merge=[(i, int(partner[i]))]) for i in patches]
    found = {"partner": partner}
    for name, states in (("hide", hidden), ("merge", merged)):
        parts = [
            change(model, torch.cat(states[i : i + BATCH]), layer, dense)
            for i in range(0, len(states), BATCH)
        ]
        found[name] = torch.cat(parts)
    return found
