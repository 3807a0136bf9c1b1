"""The errata table: each line of the proof as printed and as corrected, joined with its measurement."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

# What a line is: wrong; at odds with another line; true but not sharp; or an assumption that is missing or idle.
KINDS = ("error", "inconsistency", "not sharp", "assumption")


class Line(NamedTuple):
    """``why``: what a referee can check without the simulation, and what it changes."""

    id: str
    printed: str
    corrected: str
    kind: str
    why: str


LINES = (
    Line(
        "E1",
        "factor √(d/(2πσ)) in the Gaussian integral",
        "√(d/(2πσ²)); the value exp(λ²σ²/2d) is right",
        "error",
        "a misprint: the density of N(0, σ²/d) has √(d/(2πσ²)), as the later displays do; nothing follows from it",
    ),
    Line(
        "E2",
        "first concentration: E[exp(2λx)] = e^{2v} under the root",
        "Bernstein √(2nVL) + (2/3)ML with L = log(2/δ), M = exp(λσ√(2 log(n/δ)/d)), V = e^v(e^v − 1)",
        "not sharp",
        "E[X²] ≥ Var X, so the printed inequality holds; for v ≪ 1 it is larger by √(2/v)",
    ),
    Line(
        "E3",
        "for large n, τ ≤ C/√n with C universal",
        "sd(Z_i)/E[Z_i] = √((e^v − 1)/n); at δ = n⁻² also a factor √(2 log(2n²)), and only while v ≤ 0.05 ln n",
        "error",
        "no C serves all v, and at the δ = n⁻² of the theorem the printed left side itself is of order √(n log n)",
    ),
    Line(
        "E4",
        "Σ_j u_j^⊥, its weights lost",
        "Σ ω_j u_j^⊥ | ω ~ N(0, s²(Σω²)P_⊥), Σω² ≈ n e^{2v}: noise σe^{v/2}/√n",
        "error",
        "the left side has exp(λ⟨μ̂_k, u⟩) before every u, the right side only before the parallel part",
    ),
    Line(
        "E5",
        "χ² bound simplified to nσ²(1 + 3√(log(1/δ)/d))",
        "holds for log(1/δ) ≤ d/4, so for n ≤ e^{d/8}",
        "assumption",
        "2 log(1/δ)/d ≤ √(log(1/δ)/d) needs log(1/δ) ≤ d/4; with δ = n⁻² that bounds n, which is only said to be large",
    ),
    Line(
        "E6",
        "parallel sum: 2/δ under the root, without log",
        "log(2/δ) under the root",
        "not sharp",
        "2/δ ≥ log(2/δ), so the display holds; two displays on, the same term has the logarithm",
    ),
    Line(
        "E7",
        "E[e^{2λx}x²] ≤ (2λ²σ⁴/d²)e^{2v}",
        "= e^{2v}(σ²/d + 4λ²σ⁴/d²), larger by 2 + d/(2λ²σ²)",
        "error",
        "the second derivative of the moment generating function at 2λ; the printed bound is below it for all λ, σ, d",
    ),
    Line(
        "E8",
        "β_i = O(1/√n)",
        "sd(β_i) = √(e^v(s² + 4λ²s⁴) − λ²s⁴)/(λs²√n) ≈ √(d/n)/(λσ)",
        "error",
        "with the C of E3 said to be universal; it grows as √d/(λσ)",
    ),
    Line(
        "E9",
        "n(1+β)·nλσ²/d; β ∈ [1−τ, 1+τ]",
        "one n; β ∈ [−τ, τ]",
        "error",
        "misprints: the display before has n once and 1 ± τ for 1 + β; nothing follows from them",
    ),
    Line(
        "E10",
        "exp(λ²σ²/2d²) in five places; μ'_k; ν",
        "exp(λ²σ²/2d); μ̂'_k; ν_i",
        "error",
        "a misprint against the integral that the proof computes itself; it cancels in the ratio",
    ),
    Line(
        "E11",
        "probability 1 − 4Kδ, hence 1 − O(K/n²)",
        "5δ for each (i, k): 1 − 5K/n² for one fixed k, 1 − 5K²/n² for all k at once",
        "error",
        "the χ² event's δ is not counted; for one k the order stays O(K/n²)",
    ),
    Line(
        "E12",
        "third term of the bound on |μ_k − μ̂'_k|: ρ|μ_k − μ̂_k|",
        "it is ρμ̂_k, of norm ρ; the display holds for |μ̂'_k − (1+ρ)μ_k|, which the cosine needs",
        "error",
        "for q = μ_k and n → ∞ the printed bound is about 2/d and the distance about log(dK)/(Δd), whatever C is",
    ),
    Line(
        "E13",
        "|μ_k − μ̂'_k| = O(x) for n significantly larger than d",
        "the norm needs n ≥ e^v(σdΔ/log(dK))² ~ d²; the cosine n ≳ σ²e^v dΔ/(2 log(dK)), which n ≫ d gives",
        "error",
        "at any fixed n/d the noise σ/√n exceeds x as d grows; the theorem is about the cosine and keeps its condition",
    ),
    Line(
        "E14",
        "1 − cos = O(x)",
        "|·| ≤ ε gives cos ≥ √(1 − ε²): 1 − cos = O(x²)",
        "not sharp",
        "true, since x² ≤ x; the cosine of a vector at distance ε is off by ε²/2",
    ),
    Line(
        "E15",
        "unstated",
        "Δ > 0; σ = O(1); v ≪ log n; an oracle λ (true μ, global Δ); q independent of the tokens; no residual, "
        "FFN, LN, projections",
        "assumption",
        "each is used: λ divides by Δ, and the sums are of independent terms only if q is independent of them",
    ),
    Line(
        "E16",
        "lines before E7: exp(+d/(2σ²)[x − λσ²/d]²), (2σ²/d)^{3/2}E[x²] with E[x²] = 2",
        "exp(−d/(2σ²)[x − 2λσ²/d]²), so 4λ²σ⁴/d² + (σ²/d)E[x²] with E[x²] = 1",
        "error",
        "completing the square of 2λx − x²d/(2σ²); as printed the integral diverges",
    ),
    Line(
        "E17",
        "|ν_i| ≤ 2σ/√n, then σ/√n in the last bound",
        "2σe^{v/2}/√n in both",
        "inconsistency",
        "the same term with half its bound and no step between; a χ²_{d−1} variable exceeds d almost half the time",
    ),
    Line(
        "E18",
        "⟨μ_j, μ_k⟩ ≤ γ",
        "not used; Δ > 0 takes its place",
        "assumption",
        "no display has γ, and small γ does not give Δ > 0, which depends on the initial centers",
    ),
)


def errata(lines: pd.DataFrame) -> pd.DataFrame:
    """``lines`` are the rows of the experiment "lemmas"."""
    text = pd.DataFrame(LINES).rename(columns={"printed": "as printed", "corrected": "as corrected"})
    numbers = lines.rename(
        columns={
            "quantity": "put to the test",
            "printed": "printed value",
            "corrected": "corrected value",
            "standard_error": "standard error",
        }
    )
    order = [
        "id",
        "kind",
        "as printed",
        "as corrected",
        "put to the test",
        "printed value",
        "corrected value",
    ]
    joined = text.merge(numbers, on="id", validate="one_to_one")
    return joined[[*order, "measured", "standard error", "trials", "verdict", "why"]]
