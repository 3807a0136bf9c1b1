"""What becomes of BAT's inattentive tokens: the strategies that its Tables 3 and 4 compare.

A merger takes the tokens in descending order of importance, their importance and their places, and
returns the weights (B, M, N) of M new tokens, each row summing to 1; or, for the maximum, groups. How
the pooling and sub-sampling rows of Table 4 were built is not printed; each class states our reading.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stvit.reduce.density import density_peaks, k_means


class Merger(nn.Module):
    def __init__(
        self,
        dim: int,
        clusters: int | float | None = None,
        neighbors: int | None = None,
        density: str = "mean",
    ):
        super().__init__()
        self.neighbors, self.density = neighbors, density

    def forward(self, z: Tensor, importance: Tensor, place: Tensor, clusters: int) -> Tensor:
        """(B, N, C), (B, N), (B, N) → (B, M, N)."""
        raise NotImplementedError


class DensityPeaks(Merger):
    """Density-peak clusters (Eqs. 6-7), their tokens weighted by importance (Eq. 8)."""

    def forward(self, z: Tensor, importance: Tensor, place: Tensor, clusters: int) -> Tensor:
        _, label = density_peaks(z, clusters, self.neighbors, rule=self.density)
        return weighted_members(label, importance, clusters)


class Pack(Merger):
    """All tokens into one, weighted by importance, whatever number is asked for (Table 3)."""

    def forward(self, z: Tensor, importance: Tensor, place: Tensor, clusters: int) -> Tensor:
        return normalize(importance)[:, None]


class KMeans1(Merger):
    """k-means from the most attentive of the inattentive tokens, then Eq. 8."""

    iterations = 1

    def forward(self, z: Tensor, importance: Tensor, place: Tensor, clusters: int) -> Tensor:
        label = k_means(z, clusters, self.iterations)
        return weighted_members(label, importance, clusters)


class KMeans3(KMeans1):
    iterations = 3


class AveragePool(Merger):
    """Means over runs of tokens of like importance, as equal in length as can be."""

    def forward(self, z: Tensor, importance: Tensor, place: Tensor, clusters: int) -> Tensor:
        groups = runs(importance, clusters)
        return groups / groups.sum(dim=2, keepdim=True)


class MaxPool(Merger):
    """Channel-wise maxima over the same runs."""

    def forward(self, z: Tensor, importance: Tensor, place: Tensor, clusters: int) -> Tensor:
        return runs(importance, clusters) > 0


class SpatialPool(AveragePool):
    """Means over runs of tokens that lie near each other, in the order of their places."""

    def forward(self, z: Tensor, importance: Tensor, place: Tensor, clusters: int) -> Tensor:
        means = super().forward(z, importance, place, clusters)
        rank = place.argsort(dim=1).argsort(dim=1)  # (B, N)
        return means.gather(2, rank[:, None].expand_as(means))


class Learned(Merger):
    """Weights from a small network: logits for each new token at each old one, softmax over the old."""

    def __init__(
        self,
        dim: int,
        clusters: int | float | None = None,
        neighbors: int | None = None,
        density: str = "mean",
    ):
        super().__init__(dim, clusters, neighbors, density)
        if not isinstance(clusters, int):
            raise ValueError(
                f"{type(self).__name__} has weights for each new token: give clusters as a whole number, "
                f"not {clusters}"
            )
        self.net = self.network(dim, clusters)

    def forward(self, z: Tensor, importance: Tensor, place: Tensor, clusters: int) -> Tensor:
        return self.net(z.transpose(1, 2))[:, :clusters].softmax(dim=2)  # (B, M, N)


class Mlp(Learned):
    """A hidden layer and the logits, token by token."""

    def network(self, dim: int, clusters: int) -> nn.Module:
        return nn.Sequential(nn.Conv1d(dim, dim // 4, 1), nn.GELU(), nn.Conv1d(dim // 4, clusters, 1))


class Convolution(Learned):
    """The same over three neighbouring tokens in order of importance."""

    def network(self, dim: int, clusters: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv1d(dim, dim // 4, 3, padding=1), nn.GELU(), nn.Conv1d(dim // 4, clusters, 3, padding=1)
        )


def weighted_members(label: Tensor, importance: Tensor, clusters: int) -> Tensor:
    """p_i = Σ_{j∈C_i} s_j z_j (Eq. 8) with Σ s_j = 1 in each set: weights (B, M, N)."""
    return normalize(F.one_hot(label, clusters).transpose(1, 2) * positive(importance)[:, None])


def runs(like: Tensor, clusters: int) -> Tensor:
    """Membership of N tokens in ``clusters`` runs of consecutive ones: (B, M, N) of 0 and 1."""
    batch, count = like.shape
    label = torch.arange(count, device=like.device) * clusters // count
    return F.one_hot(label, clusters).T.to(like.dtype).expand(batch, -1, -1)


def positive(importance: Tensor) -> Tensor:
    """Importance that is never 0, so that sets of tokens without any attention have a mean too."""
    return importance.clamp_min(torch.finfo(importance.dtype).tiny ** 0.5)


def normalize(weights: Tensor) -> Tensor:
    """Rows that sum to 1; a row of zeros (a cluster that lost its members) becomes their common mean."""
    total = weights.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, weights / total.where(total > 0, 1), 1 / weights.shape[-1])


MERGERS: dict[str, type[Merger]] = {
    "density_peaks": DensityPeaks,
    "pack": Pack,
    "average": AveragePool,
    "max": MaxPool,
    "spatial": SpatialPool,
    "convolution": Convolution,
    "mlp": Mlp,
    "k_means_1": KMeans1,
    "k_means_3": KMeans3,
}
