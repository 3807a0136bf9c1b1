"""The update at scale, in torch: naive, fused, chunked and streamed, and the variants of a real layer.

Queries q [M, d], tokens x [N, d]; all four return softmax(λ q xᵀ) x [M, d].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 16384  # tokens held at a time


def naive(q: Tensor, x: Tensor, lam: float) -> Tensor:
    """The formula as it stands: all M × N weights in memory."""
    return (lam * (q @ x.T)).softmax(dim=1) @ x  # [M, N] @ [N, d]


def fused(q: Tensor, x: Tensor, lam: float) -> Tensor:
    """torch's fused attention; the scale is λ, not its default 1/√d."""
    q4, x4 = q[None, None], x[None, None]  # [1, 1, M, d], [1, 1, N, d]
    return F.scaled_dot_product_attention(q4, x4, x4, scale=lam)[0, 0]


def chunked(q: Tensor, x: Tensor, lam: float, chunk: int = CHUNK) -> Tensor:
    """Online softmax over chunks of tokens: memory other than x does not grow with N."""
    return streamed(q, x.split(chunk), lam)


def streamed(q: Tensor, chunks: Iterable[Tensor], lam: float) -> Tensor:
    """Online softmax over tokens that are seen once and dropped.

    Keeps the running maximum of the logits [M], Σ e^{l − max} [M] and Σ e^{l − max} x [M, d], and rescales
    them whenever the maximum rises.
    """
    top = q.new_full((len(q),), -math.inf)
    mass, total = torch.zeros_like(top), torch.zeros_like(q)
    for x in chunks:
        logits = lam * (q @ x.T)  # [M, chunk]
        new = torch.maximum(top, logits.amax(dim=1))
        shrink = torch.exp(top - new)
        w = torch.exp(logits - new[:, None])
        mass = mass * shrink + w.sum(dim=1)
        total = total * shrink[:, None] + w @ x
        top = new
    if not bool(torch.isfinite(top).all()):
        raise ValueError(
            "the stream held no tokens" if torch.isneginf(top).any() else "overflow in the logits"
        )
    return total / mass[:, None]


def generate(mu: Tensor, sigma: float, n: int, seed: int, chunk: int = CHUNK) -> Iterator[Tensor]:
    """n tokens of each cluster, cluster after cluster, at most ``chunk`` at a time, on the device of μ."""
    rng = torch.Generator(mu.device).manual_seed(seed)
    s = sigma / math.sqrt(mu.shape[1])
    buffer = mu.new_empty(min(chunk, n), mu.shape[1])
    for center in mu:
        for start in range(0, n, chunk):
            x = buffer[: min(chunk, n - start)]
            yield x.normal_(generator=rng).mul_(s).add_(center)


def tokens(mu: Tensor, sigma: float, n: int, seed: int) -> Tensor:
    """All nK tokens [nK, d], cluster after cluster."""
    return torch.cat([x.clone() for x in generate(mu, sigma, n, seed)])


def over_queries(q: Tensor, x: Tensor, lam: float) -> Tensor:
    """Softmax over the queries, then a weighted mean over tokens: slot attention, or one step of EM."""
    share = (lam * (q @ x.T)).softmax(dim=0)  # [M, N], each token divides itself among the queries
    return (share / share.sum(dim=1, keepdim=True)) @ x


def update(
    q: Tensor,
    x: Tensor,
    lam: float,
    heads: int = 1,
    residual: bool = False,
    G: Tensor | None = None,
    over: str = "keys",
) -> Tensor:
    """One layer's update with identity projections: what the theorem leaves out can be put back.

    1. q + G, when the layer has global centers (Eq. 3)
    2. attention in each of ``heads`` slices of d/heads coordinates, softmax over keys or over queries
    3. + q, when the layer has its residual connection (Eqs. 1 and 3)
    """
    if over not in ("keys", "queries"):
        raise ValueError(f"softmax over {over!r} is unknown; choose 'keys' or 'queries'")
    d = q.shape[1]
    if heads < 1 or d % heads:
        raise ValueError(f"heads must divide d: d={d}, heads={heads}")
    step = fused if over == "keys" else over_queries
    asked = q if G is None else q + G
    parts = zip(asked.split(d // heads, dim=1), x.split(d // heads, dim=1), strict=True)
    out = torch.cat([step(a, b, lam) for a, b in parts], dim=1)  # [M, d]
    return out + q if residual else out


def resolve_device(name: str) -> torch.device:
    """The device, or one line that says why it is not there."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} is not available here: {str(error).splitlines()[0]}") from None
    return device
