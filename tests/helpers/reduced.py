"""Micro models with every reduction, and a reduction's inputs without a model."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn

from stvit.reduce import METHODS, Seen
from stvit.reduce.bat import ABLATION
from stvit.reduce.mergers import MERGERS

MICRO = dict(img_size=64, patch_size=8, embed_dim=48, depth=6, num_heads=3, num_classes=7)  # 64 image tokens

# row → method and choices: every method as it comes, and the choices that change what is computed.
ROWS: dict[str, tuple[str, dict]] = {
    **{method: (method, {}) for method in METHODS},
    "tome, r 5, no prop_attn": ("tome", dict(r=5, prop_attn=False)),
    "evit without fused token": ("evit", dict(fuse_token=False)),
    "avit, halting early": ("avit", dict(gate_scale=10.0, gate_center=2.0)),
    "tokenlearner 1.0": ("tokenlearner", dict(version="1.0")),
    "dge, two sizes": ("dge", dict(split_sizes=(2, 1))),
    "bat on evit": ("bat", dict(fuse_token=True)),
    "bat on keys": ("bat", dict(features="keys")),
    "bat, local density": ("bat", dict(neighbors=5)),
    "bat, 5 clusters, 7 pairs": ("bat", dict(clusters=5, pairs=7)),
    **{f"bat, {name}": ("bat", choices) for name, choices in ABLATION.items() if choices},
    **{f"bat by {name}": ("bat", dict(merger=name, clusters=3)) for name in MERGERS if name != "pack"},
}


def build(row: str, **changes) -> nn.Module:
    method, choices = ROWS[row]
    torch.manual_seed(0)
    return timm.create_model(f"{method}_deit_tiny_patch16_224", **{**MICRO, **choices, **changes}).eval()


def images(batch: int = 2, size: tuple[int, int] = (64, 64), channels: int = 3) -> Tensor:
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(1))


def inputs(count: int, dim: int = 12, heads: int = 3, batch: int = 2, seed: int = 0) -> tuple[Tensor, Seen]:
    """Image tokens (B, N, C) and what the attention would have seen of them, one class token in front."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, count, dim, generator=generator)
    q, k, v = torch.randn(3, batch, heads, count + 1, dim // heads, generator=generator)
    inputs = torch.randn(batch, count + 1, dim, generator=generator)
    lead = torch.randn(batch, 1, dim, generator=generator)
    return x, Seen(count, None, None, 1, q, k, values=v, inputs=inputs, lead=lead)


def shuffle(x: Tensor, seen: Seen, order: Tensor) -> tuple[Tensor, Seen]:
    """The same with the image tokens in another order, the class token still in front."""
    everywhere = torch.cat([torch.zeros(1, dtype=torch.long), order + 1])
    names = ("queries", "keys", "values")
    moved = {name: getattr(seen, name)[:, :, everywhere] for name in names}
    return x[:, order], seen._replace(inputs=seen.inputs[:, everywhere], **moved)
