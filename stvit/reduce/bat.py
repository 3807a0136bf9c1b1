"""BAT: beyond attentive tokens (Long et al., 2022), token decoupling and merging.

    Z = [z_cls; p_1 … p_m; t_1 … t_n]

Attentive tokens are kept, homogeneous pairs of them fused (P); the inattentive ones are clustered and
each cluster becomes one token (T). Importance decides what stays, diversity what merges.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from torch import Tensor

from stvit.reduce.about import About
from stvit.reduce.density import RULES
from stvit.reduce.matching import cosine, homogeneous_pairs
from stvit.reduce.mergers import MERGERS, positive
from stvit.reduce.plan import Absorbed, Kept, Largest, Mixed, Part, Plan, shares, take
from stvit.reduce.reduction import Reduction, Seen, check_count, check_rate, kept_count

FEATURES = ("tokens", "keys")


class Counts(NamedTuple):
    """Of N tokens, ``attentive`` stay, less ``pairs`` that are absorbed; the others form ``clusters``."""

    attentive: int
    pairs: int
    clusters: int


class BAT(Reduction):
    """Token decoupler and token merger between attention and MLP.

    1. Attn_cls, the mean over heads (Eq. 5), orders the tokens; the top K are attentive.
    2. The most similar pairs of attentive tokens fuse.
    3. Density peaks cluster the other N − K tokens (Eqs. 6-7).
    4. Each set becomes p_i = Σ s_j z_j, weighted by class attention (Eq. 8), Σ s_j = 1 in the set.

    keep_rate: N image tokens become ⌈keep_rate · N⌉ + 1, as the printed FLOPs have it
    clusters, pairs: their numbers, which the paper does not print; a fraction is one of the tokens
        that are kept, and short sequences get fewer. K is what is left, new tokens + pairs − clusters:
        by default there is one pair less than clusters, and K = ⌈keep_rate · N⌉
    density: distances of Eq. 6 averaged over tokens and channels (mean), or summed as printed (sum), which leaves
        δ of Eq. 7 without effect: see ``stvit.reduce.density.RULES``
    neighbors: density over that many nearest tokens, itself included (default: over all, as printed)
    features: by what tokens are compared: themselves, as the text has it, or their keys averaged over
        heads, which costs one part in ``heads`` of it
    merger: what becomes of the inattentive tokens, one of ``MERGERS``; "none" drops them
    fuse_token: one of the new tokens is EViT's, all inattentive tokens by raw attention ("EViT+Ours")
    """

    about: ClassVar[About] = About(
        paper="BAT, Long et al., CVPR 2023",
        looks_at="class attention, and the tokens or their keys",
        keeps="attentive tokens, similar pairs of them fused; a token for each cluster of the others",
        origin="the paper; no public program",
        licence="none",
    )
    needs_class_token: ClassVar[bool] = True

    def __init__(
        self,
        dim: int,
        keep_rate: float = 0.7,
        clusters: int | float = 0.1,
        pairs: int | float | None = None,
        merger: str = "density_peaks",
        neighbors: int | None = None,
        features: str = "tokens",
        fuse_token: bool = False,
        density: str = "mean",
    ):
        super().__init__()
        if merger != "none" and merger not in MERGERS:
            raise ValueError(f"unknown merger {merger!r}; choose one of {', '.join(MERGERS)}, or 'none'")
        if density not in RULES:
            raise ValueError(f"unknown density {density!r}; choose one of {', '.join(RULES)}")
        if features not in FEATURES:
            raise ValueError(f"unknown features {features!r}; choose one of {', '.join(FEATURES)}")
        self.keep_rate = check_rate(keep_rate)
        self.clusters, self.pairs = check_part("clusters", clusters, 1), check_part("pairs", pairs, 0)
        self.features = features
        self.neighbors = neighbors if neighbors is None else check_count("neighbors", neighbors, 1)
        self.merger_name, self.fuse_token, self.density = merger, fuse_token, density
        self.merger = None if merger == "none" else MERGERS[merger](dim, clusters, neighbors, density)

    def counts(self, total: int) -> Counts | None:
        """How ``total`` image tokens are split; None where all of them stay."""
        new = kept_count(total, self.keep_rate) + 1
        if new >= total:
            return None
        others = new - self.fuse_token  # tokens but for the fused one
        clusters = min(self._wanted_clusters(new), others - 1)
        wanted = clusters - 1 if self.pairs is None else _number(self.pairs, new)
        pairs = max(0, min(wanted, total - new))
        return Counts(others + pairs - clusters, pairs, clusters)

    def _wanted_clusters(self, new: int) -> int:
        if self.merger is None:
            return 0
        return 1 if self.merger_name == "pack" else max(1, _number(self.clusters, new))

    def plan(self, x: Tensor, seen: Seen) -> Plan:
        counts = self.counts(x.shape[1])
        if counts is None:
            return Plan()
        s, order = seen.class_attention().sort(dim=1, descending=True)  # Attn_cls (B, N)
        k, z = counts.attentive, x if self.features == "tokens" else seen.mean_keys()
        parts = [self.match(z, order[:, :k], s[:, :k], counts.pairs)]
        if counts.clusters:
            parts.append(self.merge(z, order[:, k:], s[:, k:], counts.clusters))
        if self.fuse_token:
            parts.append(Mixed(order[:, k:], s[:, None, k:]))
        return Plan(tuple(parts))

    def match(self, z: Tensor, index: Tensor, s: Tensor, pairs: int) -> Part:
        """P: the attentive tokens, homogeneous ones fused."""
        if pairs == 0:
            return Kept(index)
        stay, absorbed, target = homogeneous_pairs(cosine(take(z, index)), pairs)
        s = positive(s)
        share, _ = shares(target, s.gather(1, absorbed), s.gather(1, stay))  # (B, pairs)
        return Absorbed(index.gather(1, stay), index.gather(1, absorbed), target, share)

    def merge(self, z: Tensor, index: Tensor, s: Tensor, clusters: int) -> Part:
        """T: the inattentive tokens as ``clusters`` new ones."""
        weights = self.merger(take(z, index), s, index, clusters)  # (B, n, N − K)
        return Mixed(index, weights) if weights.is_floating_point() else Largest(index, weights)

    def extra_repr(self) -> str:
        return (
            f"keep_rate={self.keep_rate}, clusters={self.clusters}, pairs={self.pairs}, "
            f"merger={self.merger_name!r}, neighbors={self.neighbors}, features={self.features!r}, "
            f"fuse_token={self.fuse_token}, density={self.density!r}"
        )


def _number(share: int | float, tokens: int) -> int:
    return int(share * tokens) if isinstance(share, float) else share


# The rows of Table 3 as choices, each adding one step; all give the same number of tokens.
ABLATION: dict[str, dict] = {
    "attentive token preservation": dict(merger="none", pairs=0),
    "inattentive token pack": dict(merger="pack", pairs=0),
    "inattentive token clustering": dict(pairs=0),
    "attentive token matching": dict(),
}


def check_part(name: str, part: int | float | None, least: int) -> int | float | None:
    """A whole number of tokens of at least ``least``, or a fraction of them between 0 and 1."""
    fraction = isinstance(part, float) and (0 < part < 1 or part == least == 0)
    if part is None or fraction:
        return part
    if isinstance(part, float):
        raise ValueError(f"{name} must be a whole number or a fraction between 0 and 1, not {part!r}")
    return check_count(name, part, least)
