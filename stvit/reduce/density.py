"""Clusters of tokens without iterations: density peaks (BAT, Eqs. 6-7); and k-means beside it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# How Eq. 6's distances become a density. "sum" is the printed one, ρ = exp(−Σ_j ‖z_i − z_j‖²) over tokens and
# channels. Its logarithm is of the order of −N·C and varies by far more than that of δ, so that δ of Eq. 7 decides
# nothing and the centers are the densest tokens, which lie side by side; "mean", over both, lets both decide. The
# order of densities is the same, the order of ρ·δ is not.
RULES = ("mean", "sum")


def squared_distances(z: Tensor) -> Tensor:
    """‖z_i − z_j‖² / C between the tokens of each sample: (B, N, C) → (B, N, N), exactly 0 on the diagonal."""
    z = z - z.mean(dim=1, keepdim=True)  # a common offset would cost digits below
    square = z.square().sum(dim=2)  # (B, N)
    d2 = square[:, :, None] + square[:, None, :] - 2 * (z @ z.transpose(1, 2))
    own = torch.eye(z.shape[1], dtype=torch.bool, device=z.device)
    return d2.clamp_min(0).masked_fill(own, 0.0) / z.shape[2]


def density(d2: Tensor, neighbors: int | None = None) -> Tensor:
    """ρ_i = exp(−mean_j ‖z_i − z_j‖² / C), over all tokens or the nearest ones, itself included: see ``RULES``."""
    if neighbors is not None:
        d2 = d2.topk(min(neighbors, d2.shape[2]), dim=2, largest=False).values
    return (-d2.mean(dim=2)).exp()


def log_density(d2: Tensor, channels: int, neighbors: int | None = None) -> Tensor:
    """log ρ_i = −Σ_j ‖z_i − z_j‖², Eq. 6 as printed: over all tokens and channels, with no underflow."""
    if neighbors is not None:
        d2 = d2.topk(min(neighbors, d2.shape[2]), dim=2, largest=False).values
    return -channels * d2.sum(dim=2)


def separation(d2: Tensor, rho: Tensor) -> Tensor:
    """δ_i, the distance to the nearest token of higher density; of the densest, to its farthest (Eq. 7)."""
    denser = rho[:, None, :] > rho[:, :, None]  # (B, i, j)
    nearest = d2.masked_fill(~denser, torch.inf).amin(dim=2)
    return torch.where(nearest.isinf(), d2.amax(dim=2), nearest).sqrt()


def to_nearest(d2: Tensor, centers: Tensor, rho: Tensor | None = None) -> Tensor:
    """Each token's cluster: that of its nearest center, of higher density if ``rho`` is given.

    d2: (B, N, N), centers: (B, M) → (B, N). A center is its own cluster's. Where no center is denser
    than a token that is none, the nearest one takes it.
    """
    rows = centers[:, :, None].expand(-1, -1, d2.shape[2])
    near = d2.gather(1, rows)  # (B, M, N): from centers to tokens
    if rho is not None:
        allowed = rho.gather(1, centers)[:, :, None] > rho[:, None, :]
        near = torch.where(allowed | ~allowed.any(dim=1, keepdim=True), near, torch.inf)
    label = near.argmin(dim=1)  # (B, N)
    own = torch.arange(centers.shape[1], device=d2.device).expand_as(centers)
    return label.scatter(1, centers, own)


def density_peaks(
    z: Tensor,
    clusters: int,
    neighbors: int | None = None,
    denser_centers: bool = True,
    rule: str = "mean",
) -> tuple[Tensor, Tensor]:
    """Centers (B, M), the tokens with the highest ρ·δ in descending order, and each token's cluster (B, N).

    rule: one of ``RULES``
    """
    d2 = squared_distances(z)  # (B, N, N)
    if rule == "sum":
        rho = log_density(d2, z.shape[2], neighbors)  # (B, N); its logarithm, which has the same order
        score = rho + separation(d2, rho).log()
    else:
        rho = density(d2, neighbors)  # (B, N)
        score = rho * separation(d2, rho)
    centers = score.topk(clusters, dim=1).indices
    return centers, to_nearest(d2, centers, rho if denser_centers else None)


def k_means(z: Tensor, clusters: int, iterations: int) -> Tensor:
    """Each token's cluster (B, N) by Lloyd's iterations that start from the first ``clusters`` tokens."""
    means = z[:, :clusters]
    for _ in range(iterations):
        label = nearest_mean(z, means)
        members = F.one_hot(label, clusters).to(z.dtype).transpose(1, 2)  # (B, M, N)
        size = members.sum(dim=2, keepdim=True)
        means = torch.where(size > 0, members @ z / size.clamp_min(1), means)  # (B, M, C)
    return nearest_mean(z, means)


def nearest_mean(z: Tensor, means: Tensor) -> Tensor:
    """argmin_m ‖z − mean_m‖², where ‖z‖² plays no part: (B, N)."""
    return (means.square().sum(dim=2)[:, None] - 2 * (z @ means.transpose(1, 2))).argmin(dim=2)
