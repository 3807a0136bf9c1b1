"""The cluster-center recovery theorem (STViT, appendix 6.6), simulated, corrected and understood.

    from analysis import cluster_sim
    cluster_sim.canonical(K=16, d=256, theta=math.pi / 4, sigma=1.0)          # 1 - cos, n -> infinity
    cluster_sim.canonical(K=16, d=256, theta=math.pi / 4, sigma=1.0, n=4096)  # its mean at n tokens a cluster

Angles are radians in Python and degrees on the command line (``python -m analysis.cluster_sim --help``).
The closed forms need numpy and nothing else; torch is imported by the functions that hold tokens.
"""

from analysis.cluster_sim.bounds import (
    certified_defect,
    corrected_defect,
    printed_defect,
    typical_defect,
)
from analysis.cluster_sim.geometry import Problem, centers, gap, problem, query
from analysis.cluster_sim.sampler import Draws, full, reduced
from analysis.cluster_sim.theory import (
    canonical,
    covariance,
    defect,
    expected_defect,
    leading,
    limit,
    rate,
    theorem_lambda,
    weights,
)

__all__ = [
    "Draws",
    "Problem",
    "canonical",
    "centers",
    "certified_defect",
    "corrected_defect",
    "covariance",
    "defect",
    "expected_defect",
    "full",
    "gap",
    "leading",
    "limit",
    "printed_defect",
    "problem",
    "query",
    "rate",
    "reduced",
    "theorem_lambda",
    "typical_defect",
    "weights",
]
