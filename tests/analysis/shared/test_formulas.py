"""The closed forms: terms add up, blocks follow the papers' equations, corrected formulas equal the terms."""

import pytest
import sympy

from analysis.complexity import appendix
from analysis.shared.flops.closed_global import deit, lvvit, squarest, stgm, stvit_deit, window_of
from analysis.shared.flops.closed_local import SWIN, swin, swin_own_counter
from analysis.shared.flops.closed_reduced import bat, dynamic_vit, evit, kept, reduced_lvvit, reduced_vit
from analysis.shared.flops.closed_semantic import stvit_r_swin, stvit_swin, stvit_video_swin, without_units
from analysis.shared.flops.formulas import TERM_KINDS, Term, block, ffn, products, projections
from analysis.shared.flops.readings import readings

READINGS = list(readings().items())
NAMES = [" ".join(key) for key, _ in READINGS]


def test_a_block_is_eq_7_and_eq_8_for_all_n_and_c():
    N, C = sympy.symbols("N C", positive=True)
    terms = {term.kind: term.flops for term in block("", "", C, N)}
    attention = terms["attention projections"] + terms["attention products"]
    assert sympy.expand(attention - (4 * N * C**2 + 2 * N**2 * C)) == 0
    assert terms["FFN"] == 8 * N * C**2
    assert terms["norms"] == 10 * N * C


@pytest.mark.parametrize("equation", appendix.EQUATIONS, ids=lambda e: f"{e.number} {e.what}")
def test_each_corrected_formula_equals_the_sum_of_terms_for_all_symbols(equation):
    symbols = dict(zip("NMCWK", sympy.symbols("N M C W K", positive=True), strict=True))
    assert sympy.expand(equation.as_corrected(**symbols) - equation.as_terms(**symbols)) == 0


@pytest.mark.parametrize("equation", appendix.EQUATIONS, ids=lambda e: f"{e.number} {e.what}")
def test_printed_and_corrected_differ_exactly_where_the_table_says_so(equation):
    values = equation.values()
    assert (values["error_percent"] == 0) == (not equation.corrected)


def test_the_sum_of_eq_10_is_part_of_the_whole_model():
    """Eq. 10 leaves out embedding, pooling, norms and head: the rest of the model is nothing else."""
    N, M, C = (appendix.DEIT_S[name] for name in "NMC")
    kinds = ("attention projections", "attention products", "FFN")
    terms = stvit_deit(C, M).by("kind")
    eq10 = next(e for e in appendix.EQUATIONS if e.number == "10" and e.corrected)
    assert sum(terms[kind] for kind in kinds) == eq10.as_corrected(N=N, M=M, C=C, W=N, K=N)


@pytest.mark.parametrize("reading", [reading for _, reading in READINGS], ids=NAMES)
def test_terms_are_whole_named_and_add_up(reading):
    cost = reading.cost()
    assert all(type(term.flops) is int and term.flops >= 0 for term in cost)
    assert {term.kind for term in cost} <= set(TERM_KINDS)
    for field in ("part", "layer", "kind"):
        assert sum(cost.by(field).values()) == cost.total
    assert cost.values > 0 and all(type(term.values) is int for term in cost)


def test_stgm_parts_are_named_by_layer():
    parts = stvit_deit(384, 16, stgm_layers=3).by("part")
    assert list(parts) == ["stem", "base", "pooling", "STGM 1", "STGM 2", "STGM 3", "semantic", "head"]
    assert parts["STGM 2"] == parts["STGM 3"] > parts["STGM 1"]


def test_an_stgm_over_its_own_tokens_alone_is_a_block_but_for_the_norm_of_the_keys():
    (first, *_), plain = list(stgm(["a"], 16, 16, 64)), list(block("", "", 64, 16))
    assert isinstance(first, Term)
    generated = {term.kind: term.flops for term in stgm(["a"], 16, 16, 64)}
    expected = {term.kind: term.flops for term in plain}
    assert generated.pop("norms") == expected.pop("norms") + 5 * 16 * 64
    assert generated == expected


def test_a_class_token_is_one_token_more_in_every_block():
    C = 192
    with_token, without = deit(C).by("kind"), deit(C, class_token=False).by("kind")
    assert with_token["FFN"] - without["FFN"] == 12 * ffn(1, C)
    assert with_token["attention projections"] - without["attention projections"] == 12 * projections(1, 1, C)
    gained = with_token["attention products"] - without["attention products"]
    assert gained == 12 * (products(197, 197, C) - products(196, 196, C))


def test_keeping_all_tokens_costs_what_the_dense_model_costs():
    for method in ("evit", "bat"):
        cost = reduced_vit(192, method, keep_rate=1.0)
        assert cost.total - cost.by("part").get("reduction", 0) == deit(192).total
        cost = reduced_lvvit(method=method, keep_rate=1.0)
        assert cost.total - cost.by("part").get("reduction", 0) == lvvit().total
    assert dynamic_vit(192, 1.0).total == deit(192).total


def test_counts_of_tokens_that_stay():
    assert kept(10, 0.7) == 7  # and not 8, which 0.7 · 10 in binary would give
    for method in (evit, bat):
        tokens, left = 196, []
        for _ in range(3):
            tokens = method(tokens, 384, keep_rate=0.7).tokens
            left.append(tokens)
        assert left == [139, 99, 71]


def test_semantic_grids_and_windows():
    assert [squarest(M) for M in (16, 36, 15, 7, (2, 8))] == [(4, 4), (6, 6), (3, 5), (1, 7), (2, 8)]
    assert [window_of((14, 14), squarest(M)) for M in (16, 36, 64, 100, 49)] == [16, 9, 4, 4, 4]


def test_padding_costs_attention_but_neither_norms_nor_ffn():
    exact, padded = (swin(*SWIN["tiny"], grid=(side, side)).by("kind") for side in (56, 64))
    assert padded["FFN"] * 49 == exact["FFN"] * 64
    assert padded["norms"] * 49 == exact["norms"] * 64
    assert padded["attention products"] * 49 > exact["attention products"] * 64


def test_the_swin_papers_counter_differs_by_the_norms_alone():
    for C, depths in SWIN.values():
        ours, theirs = swin(C, depths), swin_own_counter(C, depths)
        assert ours.total - theirs.total == 4 * theirs.by("kind")["norms"]


# Values that stand apart from this code: they were derived from the papers' cells by another program.
ELSEWHERE = {
    "swin": [(swin, {}, "4.5092 8.7685 15.4678")],
    "own counter": [(swin_own_counter, {}, "4.4943 8.7464 15.4383")],
    "video": [(swin, {"frames": 16, "span": 8, "taps": 32, "classes": 400}, "88.0622 166.1248")],
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_swin_totals(name):
    for function, options, expected in ELSEWHERE[name]:
        for size, value in zip(SWIN, expected.split(), strict=False):
            assert f"{function(*SWIN[size], **options).total / 1e9:.4f}" == value


def test_local_models_come_out_at_four_decimals():
    """With norms counted as the authors' program has them, apart for queries and keys."""
    apart = {"apart": (True, True), "pooling": "max"}
    table_2 = {
        "tiny": "2 3.1416@1 2.9912 3.4325 4.0570",
        "small": "10 5.9491@8 5.9448 6.5300 7.3586",
        "base": "10 10.4835@8 10.4751 11.5097 12.9704",
    }
    options = {**apart, "once": False, "bn_training": True}
    for size, text in table_2.items():
        base, moved, *others = text.split()
        value, at = moved.split("@")
        assert f"{stvit_swin(*SWIN[size], int(at), 3, **options).total / 1e9:.4f}" == value
        for w, value in zip((2, 3, 4), others, strict=True):
            assert f"{stvit_swin(*SWIN[size], int(base), w, **options).total / 1e9:.4f}" == value
    for size, values in (("small", "5.8263 134.4612 34.3654"), ("base", "10.2641 232.6086 59.5577")):
        image, large, middle = values.split()
        assert f"{stvit_r_swin(*SWIN[size], **options).total / 1e9:.4f}" == image
        for grid, value in (((200, 334), large), ((128, 128), middle)):
            cost = stvit_r_swin(*SWIN[size], grid=grid, dense=True, bordered=True, **apart)
            assert f"{cost.total / 1e9:.4f}" == value
    assert f"{without_units(*SWIN['small'], base=5, apart=(True, True)).total / 1e9:.4f}" == "5.5541"
    for size, base, value in (("tiny", 2, "64.3658"), ("small", 10, "120.5331")):
        assert f"{stvit_video_swin(*SWIN[size], base, apart=(True, False)).total / 1e9:.4f}" == value


def test_keys_projected_once_cost_less_than_window_by_window():
    once, each = (stvit_swin(*SWIN["small"], 10, once=once).by("part") for once in (True, False))
    assert once.pop("STGM 1") < each.pop("STGM 1") and once == each


def test_a_recovery_layer_costs_its_ffn_on_all_image_tokens():
    parts = stvit_r_swin(*SWIN["small"]).by("part")
    N, S, C = 196, 36, 384
    layer = projections(N, S, C) + products(N, S, C) + ffn(N, C) + 5 * C * (2 * N + S)
    assert parts["recovery"] == 3 * layer
