"""The errata table: each line of the proof as printed and as corrected, joined with its measurement."""

from __future__ import annotations

import pandas as pd

# (id, as printed, corrected); the numbers come from ``lemmas``, the verdict from the comparison there.
TEXT = (
    ("E1", "factor √(d/(2πσ)) in the Gaussian integral", "√(d/(2πσ²)); the value exp(λ²σ²/2d) is right"),
    (
        "E2",
        "first concentration: variance proxy E[exp(2λx)] = e^{2v}",
        "Bernstein √(2nVL) + (2/3)ML with L = log(2/δ), M = exp(λσ√(2 log(n/δ)/d)), V = e^v(e^v − 1)",
    ),
    (
        "E3",
        "for large n, τ ≤ C/√n with C universal",
        "sd(Z_i)/E[Z_i] = √((e^v − 1)/n); at δ = n⁻² also a factor √(2 log(2n²)), and only while v ≤ "
        "0.05 ln n",
    ),
    (
        "E4",
        "Σ_j u_j^⊥, its weights lost",
        "Σ ω_j u_j^⊥ | ω ~ N(0, s²(Σω²)P_⊥), Σω² ≈ n e^{2v}: noise σe^{v/2}/√n",
    ),
    ("E5", "χ² bound simplified to nσ²(1 + 3√(log(1/δ)/d))", "holds for log(1/δ) ≤ d/4, so for n ≤ e^{d/8}"),
    ("E6", "parallel sum: 2/δ under the root, without log", "log(2/δ) under the root"),
    ("E7", "E[e^{2λx}x²] ≤ (2λ²σ⁴/d²)e^{2v}", "= e^{2v}(σ²/d + 4λ²σ⁴/d²), larger by 2 + d/(2λ²σ²)"),
    ("E8", "β_i = O(1/√n)", "sd(β_i) = √(e^v(s² + 4λ²s⁴) − λ²s⁴)/(λs²√n) ≈ √(d/n)/(λσ)"),
    (
        "E9",
        "n(1+β)·nλσ²/d; β ∈ [1−τ, 1+τ]; |ν_i| ≤ 2σ/√n",
        "one n; β ∈ [−τ, τ]; ν_i carries e^{v/2} after normalising",
    ),
    ("E10", "exp(λ²σ²/2d²) in five places; μ'_k; ν", "exp(λ²σ²/2d); μ̂'_k; ν_i"),
    (
        "E11",
        "probability 1 − 4Kδ, hence 1 − O(K/n²)",
        "5δ for each (i, k): 1 − 5K/n² for one fixed k, 1 − 5K²/n² for all k at once",
    ),
    (
        "E12",
        "third term of the bound on |μ_k − μ̂'_k|: ρ|μ_k − μ̂_k|",
        "it is ρμ̂_k, of norm ρ; the display holds for |μ̂'_k − (1+ρ)μ_k|, which the cosine needs",
    ),
    (
        "E13",
        "n ≫ d",
        "the norm rate needs n ≥ e^v(σdΔ/log(dK))² ~ d²; the cosine rate n ≳ σ²e^v dΔ/(2 log(dK))",
    ),
    ("E14", "1 − cos = O(x)", "|·| ≤ ε gives cos ≥ √(1 − ε²): 1 − cos = O(x²)"),
    (
        "E15",
        "unstated",
        "Δ > 0; σ = O(1); v ≪ log n; an oracle λ (true μ, global Δ); q independent of the tokens; no "
        "residual, "
        "FFN, LN, projections",
    ),
)


def errata(lines: pd.DataFrame) -> pd.DataFrame:
    """``lines`` are the rows of the experiment "lemmas"."""
    text = pd.DataFrame(TEXT, columns=["id", "as printed", "as corrected"])
    numbers = lines.rename(
        columns={
            "quantity": "put to the test",
            "printed": "printed value",
            "corrected": "corrected value",
            "standard_error": "standard error",
        }
    )
    order = ["id", "as printed", "as corrected", "put to the test", "printed value", "corrected value"]
    joined = text.merge(numbers, on="id", validate="one_to_one")
    return joined[[*order, "measured", "standard error", "trials", "verdict"]]
