"""The complexity formulas of the paper's appendix (Eqs. 7-13), as printed and corrected.

Each formula is a function of N image tokens, M semantic tokens (in a window, for local transformers), C
channels, W tokens and K keys a window. The functions take integers and sympy's symbols alike, and the third
column adds up the terms of ``formulas.block`` instead, which equal what is counted on the models.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from analysis.shared.flops.closed_global import stgm
from analysis.shared.flops.formulas import Term, block

DEIT_S = {"N": 196, "M": 16, "C": 384, "W": 196, "K": 196}
SWIN_S = {"N": 196, "M": 9, "C": 384, "W": 49, "K": 109}  # stage 3; K = 10×10 neighbours and the 9 centers
WHERE = {"DeiT-S, M = 16": DEIT_S, "Swin-S, M = 9": SWIN_S}
Expression = Callable[..., Any]


class Equation(NamedTuple):
    number: str
    what: str
    where: str  # a key of WHERE
    printed: str
    corrected: str  # "" where the printed formula is right
    as_printed: Expression
    as_corrected: Expression
    as_terms: Expression  # the same, added up from the terms of blocks

    def values(self) -> dict[str, Any]:
        symbols = WHERE[self.where]
        printed, corrected = self.as_printed(**symbols), self.as_corrected(**symbols)
        return {
            "equation": self.number,
            "what": self.what,
            "printed": self.printed,
            "corrected": self.corrected or "(right as printed)",
            "at": self.where,
            "printed_flops": int(printed),
            "corrected_flops": int(corrected),
            "counted_flops": int(self.as_terms(**symbols)),
            "error_percent": 100 * (printed / corrected - 1),
        }


def rows() -> list[dict[str, Any]]:
    return [equation.values() for equation in EQUATIONS]


def matrix_terms(terms) -> Any:
    """What the paper's formulas speak of: attention and FFN, without the norms."""
    return sum(term.flops for term in terms if term.kind != "norms")


def attention(terms) -> Any:
    return sum(term.flops for term in terms if term.kind.startswith("attention"))


def only_ffn(terms) -> Any:
    return sum(term.flops for term in terms if term.kind == "FFN")


def _block(C, Q, K=None, per_query=None) -> list[Term]:
    return [*block("", "", C, Q, K, per_query=per_query, normed=0)]


def _stgm(layers: int, M, N, C) -> list[Term]:
    return [*stgm([""] * layers, M, N, C)]


def _whole_stvit(N, M, C) -> list[Term]:
    return 4 * _block(C, N) + _stgm(2, M, N, C) + 6 * _block(C, M)


def _local_stgm(N, M, C, W, K, once: bool) -> list[Term]:
    """One layer over K keys a window; they are projected once, or window by window."""
    return _block(C, N / W * M, N if once else N / W * K, per_query=K)


def _both_local_layers(N, M, C, W, K) -> list[Term]:
    semantic = N / W * M
    return _local_stgm(N, M, C, W, K, once=False) + _block(C, semantic, N + semantic)


def _same(text: str, number: str, what: str, where: str, formula: Expression, terms: Expression) -> Equation:
    return Equation(number, what, where, text, "", formula, formula, terms)


D, S = WHERE  # the two settings, by name
EQUATIONS = [
    _same("4NC² + 2N²C", "7", "MHA, image tokens", D,
          lambda N, C, **_: 4 * N * C**2 + 2 * N**2 * C,
          lambda N, C, **_: attention(_block(C, N))),
    _same("8NC²", "7", "FFN, image tokens", D,
          lambda N, C, **_: 8 * N * C**2,
          lambda N, C, **_: only_ffn(_block(C, N))),
    _same("4MC² + 2M²C", "8", "MHA, semantic tokens", D,
          lambda M, C, **_: 4 * M * C**2 + 2 * M**2 * C,
          lambda M, C, **_: attention(_block(C, M))),
    _same("8MC²", "8", "FFN, semantic tokens", D,
          lambda M, C, **_: 8 * M * C**2,
          lambda M, C, **_: only_ffn(_block(C, M))),
    _same("2MC² + 2NC² + 2MNC", "9", "STGM: the attention of its first layer alone", D,
          lambda N, M, C, **_: 2 * M * C**2 + 2 * N * C**2 + 2 * M * N * C,
          lambda N, M, C, **_: attention(_stgm(1, M, N, C))),
    Equation("9", "STGM: both layers with their FFNs", D, "2MC² + 2NC² + 2MNC", "22MC² + 4NC² + 4MNC + 2M²C",
             lambda N, M, C, **_: 2 * M * C**2 + 2 * N * C**2 + 2 * M * N * C,
             lambda N, M, C, **_: 22 * M * C**2 + 4 * N * C**2 + 4 * M * N * C + 2 * M**2 * C,
             lambda N, M, C, **_: matrix_terms(_stgm(2, M, N, C))),
    _same("144NC² + 24N²C", "10", "DeiT, 12 layers", D,
          lambda N, C, **_: 144 * N * C**2 + 24 * N**2 * C,
          lambda N, C, **_: matrix_terms(12 * _block(C, N))),
    Equation("10", "STViT-DeiT, 12 layers", D,
             "52NC² + 12M²C + 76MC² + 8N²C + 4MNC", "52NC² + 14M²C + 94MC² + 8N²C + 4MNC",
             lambda N, M, C, **_: 52 * N * C**2 + 12 * M**2 * C + 76 * M * C**2 + 8 * N**2 * C + 4 * M * N * C,
             lambda N, M, C, **_: 52 * N * C**2 + 14 * M**2 * C + 94 * M * C**2 + 8 * N**2 * C + 4 * M * N * C,
             lambda N, M, C, **_: matrix_terms(_whole_stvit(N, M, C))),
    Equation("11", "MHA, image tokens in windows", S, "4NC² + 2W²NC", "4NC² + 2WNC",
             lambda N, C, W, **_: 4 * N * C**2 + 2 * W**2 * N * C,
             lambda N, C, W, **_: 4 * N * C**2 + 2 * W * N * C,
             lambda N, C, W, **_: attention(_block(C, N, per_query=W))),
    _same("8NC²", "11", "FFN, image tokens in windows", S,
          lambda N, C, **_: 8 * N * C**2,
          lambda N, C, W, **_: only_ffn(_block(C, N, per_query=W))),
    _same("4(N/W)MC² + 2M²(N/W)C", "12", "MHA, semantic tokens, a local layer", S,
          lambda N, M, C, W, **_: 4 * (N / W) * M * C**2 + 2 * M**2 * (N / W) * C,
          lambda N, M, C, W, **_: attention(_block(C, N / W * M, per_query=M))),
    Equation("12", "MHA, semantic tokens, a global layer", S, "4(N/W)MC² + 2M²(N/W)C", "4(N/W)MC² + 2(NM/W)²C",
             lambda N, M, C, W, **_: 4 * (N / W) * M * C**2 + 2 * M**2 * (N / W) * C,
             lambda N, M, C, W, **_: 4 * (N / W) * M * C**2 + 2 * (N * M / W) ** 2 * C,
             lambda N, M, C, W, **_: attention(_block(C, N / W * M))),
    Equation("12", "FFN, semantic tokens", S, "8MC²", "8(N/W)MC²",
             lambda M, C, **_: 8 * M * C**2,
             lambda N, M, C, W, **_: 8 * (N / W) * M * C**2,
             lambda N, M, C, W, **_: only_ffn(_block(C, N / W * M))),
    Equation("13", "STGM: one layer, keys projected once", S,
             "2(N/W)MC² + 2NC² + 2(N/W)M²C", "10(N/W)MC² + 2NC² + 2(N/W)MKC",
             lambda N, M, C, W, **_: 2 * (N / W) * M * C**2 + 2 * N * C**2 + 2 * (N / W) * M**2 * C,
             lambda N, M, C, W, K: 10 * (N / W) * M * C**2 + 2 * N * C**2 + 2 * (N / W) * M * K * C,
             lambda N, M, C, W, K: matrix_terms(_local_stgm(N, M, C, W, K, once=True))),
    Equation("13", "STGM: one layer, keys projected window by window", S,
             "2(N/W)MC² + 2NC² + 2(N/W)M²C", "10(N/W)MC² + 2(N/W)KC² + 2(N/W)MKC",
             lambda N, M, C, W, **_: 2 * (N / W) * M * C**2 + 2 * N * C**2 + 2 * (N / W) * M**2 * C,
             lambda N, M, C, W, K: (N / W) * (10 * M * C**2 + 2 * K * C**2 + 2 * M * K * C),
             lambda N, M, C, W, K: matrix_terms(_local_stgm(N, M, C, W, K, once=False))),
    Equation("13", "STGM: both layers, the second global", S,
             "2(N/W)MC² + 2NC² + 2(N/W)M²C",
             "22SC² + 2(N/W)KC² + 2NC² + 2SKC + 2S(N + S)C, with S = NM/W",
             lambda N, M, C, W, **_: 2 * (N / W) * M * C**2 + 2 * N * C**2 + 2 * (N / W) * M**2 * C,
             lambda N, M, C, W, K: (22 * (N / W) * M * C**2 + 2 * (N / W) * K * C**2 + 2 * N * C**2
                                    + 2 * (N / W) * M * K * C + 2 * (N / W) * M * (N + (N / W) * M) * C),
             lambda N, M, C, W, K: matrix_terms(_both_local_layers(N, M, C, W, K))),
]  # fmt: skip
