"""README's figures are those of the records."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd

from analysis.cluster_sim.errata import LINES
from analysis.complexity import default_reading, errata
from analysis.real_labels.cells import SEEDS, plan, record_of
from stvit.pretrained import distilled

ROOT = Path(__file__).resolve().parents[2]
TEXT = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def results(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "results" / name)


def test_flops_cells_and_their_readings():
    fitted, one, *_ = default_reading.rows()
    assert f"{fitted['come_out']} of the {fitted['cells']} cells" in TEXT
    assert f"{one['come_out']} of {one['cells']} under one reading" in TEXT


def test_kinds_of_errata():
    kinds = pd.Series([row["kind"] for row in errata.rows()]).value_counts()
    assert f"{kinds.sum()} errata of both papers" in TEXT
    words = "{error} errors, {inconsistency} inconsistencies, {convention} conventions, {doubt} doubts"
    assert words.format(**kinds) in TEXT
    proof = pd.Series([line.kind for line in LINES]).value_counts()
    assert f"{proof.sum()} errata of the proof: {proof['error']} errors" in TEXT
    assert f"{proof['not sharp']} lines not sharp, {proof['assumption']} assumptions" in TEXT


def test_settings_of_the_theorem():
    grid = results("cluster_sim/grid.csv").set_index("regime")
    total, inside, right = map(
        int, re.search(r"of (\d+) settings (\d+) have .*? simulation on (\d+)", TEXT).groups()
    )
    assert total == grid.settings["all"] and abs(inside - grid.settings["Gaussian"]) <= 2 and right == inside
    assert grid["worst |ratio − 1|"]["Gaussian"] < 0.05
    assert f"up to {grid['worst |ratio − 1|']['heavy tails']:.0%}".replace("%", " %") in TEXT
    vacuous, stated = grid["certified vacuous"]["all"].split(" of ")
    assert f"says nothing on {vacuous} of the {stated} settings" in TEXT


def test_what_contradicts_the_papers():
    found = results("ablations/conclusions.csv")
    failed = found[(found.verdict == "does not hold")].conclusion.tolist()
    assert failed == [
        "Accuracy grows with the number of semantic tokens",
        "Density peaks merge better than pooling and sub-sampling",
    ]
    assert set(found.corrected) == {"cannot tell at this size"}
    assert "none of the ablations' conclusions is left once all comparisons are corrected for" in TEXT
    claims = results("attention_maps/claims.csv")
    assert (claims[claims.claim == "maps stay with their windows"].holds_here == "no").all()


def test_semantic_tokens_of_a_real_model():
    claims = results("attention_maps/student_claims.csv").set_index("claim").verdict
    means = 100 * results("attention_maps/student_means.csv").set_index("measure")
    own, alone = means.columns
    inside, even = (means[own].filter(like=part).iloc[0] for part in ("own window", "even map"))
    assert claims["a semantic token looks at its own window, more than an even map does"] == "holds"
    assert f"Figure 3; {inside:.0f} % of a map, {even:.0f} % of an even one)" in TEXT
    overlap = means.filter(like="overlap", axis=0).iloc[0]
    assert (claims.filter(like="global initialization alone") == "holds").all()
    assert f"maps overlap by {overlap[alone]:.0f} %, beside {overlap[own]:.0f} %)" in TEXT
    usual = means[own].filter(like="usual token")
    assert (claims.filter(like="in nearly all images") == "no difference").all()
    assert f"so in {usual.iloc[0]:.0f} and {usual.iloc[1]:.0f} % of the crops" in TEXT


def told(claim: str, rate: float, table: str = "claims") -> pd.Series:
    found = results(f"offtheshelf/{table}.csv")
    (_, row), *_ = found[found.claim.str.contains(claim, regex=False) & (found.keep_rate == rate)].iterrows()
    return row


def test_what_the_real_model_says():
    layers = 100 * results("attention_maps/real_layers.csv").top_columns
    low, high = layers[8:].min(), layers[8:].max()
    assert f"{layers[0]:.0f} % of the attention there and {low:.0f} to {high:.0f} % in layers 9 to 12" in TEXT
    both = told("are above diversity alone", 0.5)
    assert (
        both.verdict == "cannot tell"
        and f"cosine {both.value:.2f} beside {both.beside:.2f} at keep rate" in TEXT
    )
    importance = told("are above importance alone", 0.5)
    assert importance.verdict == "holds" and f"importance alone ({importance.beside:.2f})" in TEXT
    tome = told("ToMe is above BAT", 0.5)
    assert tome.verdict == "holds" and f"multiply-adds: {tome.value:.2f} beside {tome.beside:.2f}" in TEXT
    dense = told("merged background", 0.7)
    assert dense.verdict == "holds" and f"BAT {dense.value:.2f}, top-k {dense.beside:.2f}" in TEXT
    assert {told("more diverse than EViT", rate, "captions").verdict for rate in (0.3, 0.5)} == {"reversed"}
    assert {told("BAT is above EViT", rate).verdict for rate in (0.7, 0.85)} == {"holds"}
    assert {told("top-k is above random", rate).verdict for rate in (0.3, 0.5, 0.7, 0.85)} == {"holds"}


def test_what_its_probe_says_of_labels():
    table, probe = "labels_claims_fashion_mnist", results("offtheshelf/labels_fashion_mnist.csv")
    dense = probe[probe.row == "dense"].linear.item()
    both = told("are above diversity alone", 0.7, table)
    assert both.verdict == "reversed" and f"({both.value} beside {both.beside} % at keep rate 0.7" in TEXT
    assert f"dense: {dense} %" in TEXT
    guide = told("top-k is above random", 0.7, table)
    assert guide.verdict == "cannot tell" and f"({guide.value} beside {guide.beside} % at" in TEXT
    tome = told("ToMe is above BAT", 0.5, table)
    assert tome.verdict == "holds" and f"and {tome.value} beside {tome.beside} % on Fashion-MNIST" in TEXT


def test_real_labels():
    tokens = results("real_labels/stvit_table1.csv").set_index("row")
    dense, four, sixteen = (tokens.loc[name] for name in ("dense", "4 tokens", "16 tokens"))
    assert dense.seeds == 5 and f"the dense one to {dense.top1:.2f} ± {dense.sd:.2f} %" in TEXT
    finished = Counter(replace(cell, seed=0).address for cell in plan() if record_of(cell))
    complete = sum(seeds == len(SEEDS) for seeds in finished.values())
    assert f"{complete} of {len(plan()) // len(SEEDS)} models, five seeds each" in TEXT
    assert f"{four.top1:.2f} % beside the dense model's {dense.top1:.2f} %" in TEXT
    cost = f"at {four.mflops / dense.mflops:.0%}".replace("%", " %")
    assert (
        f"a difference of {four.difference:.2f} ± {four.half_width:.2f} {cost} of its multiply-adds" in TEXT
    )
    assert f"above the dense model by {sixteen.difference:.2f} ± {sixteen.half_width:.2f}," in TEXT
    kept = results("real_labels/bat_keep_rates.csv").set_index("row").loc["keep rate 0.7"]
    assert f"of its own dense model ({kept.difference:+.2f} ± {kept.half_width:.2f})" in TEXT
    found = results("real_labels/conclusions.csv")
    evidence = " ".join(found.evidence)
    assert f"it is {told_of('intra and inter-window − adaptive', evidence)} above intra" in TEXT
    assert f"they are {told_of('spatial and global − spatial', evidence)} above." in TEXT
    assert f"do not help, {told_of('overlapping windows − adaptive', evidence)} below adaptive" in TEXT
    by_itself = found.set_index("conclusion").alone
    assert by_itself["More semantic tokens than the fewest beat the dense model"] == "holds"
    assert by_itself["BAT at keep rate 0.7 stays within half a point of the dense model"] == "holds"
    alone = found[found.alone == "does not hold"]
    assert len(alone) == 2 and set(alone.verdict) == {"cannot tell at this size"}
    assert found[found.verdict == "holds"].conclusion.tolist() == [
        "The fewest semantic tokens cost no accuracy",
        "Overlap does not help",
    ]


def told_of(pair: str, evidence: str) -> str:
    """The size of a difference and half its interval; README says by words which of the two is higher."""
    return re.search(rf"{pair}: -([\d.]+ ± [\d.]+)", evidence).group(1)


def test_distilled_students():
    found = results("distilled/conclusions.csv")
    evidence = " ".join(found.evidence)
    for pair, said in {
        "spatial − global": "57.0 ± 2.3 below",
        "16 tokens − EViT": "Table 4) by 6.2 ± 2.0",
        "16 tokens − DynamicViT": "DynamicViT is 9.4 ± 2.4 below",
        "STGM at layer 9 − STViT, 16 tokens": "above layer 5 by 16.5 ± 0.4",
        "average pooling alone, 16 tokens": "average pooling alone by 14.4 ± 2.6",
        "25 tokens − 25 tokens, adaptive pooling": "adaptive pooling by 9.7 ± 2.2",
        "25 tokens − STViT, 16 tokens": "25 above 16 by 8.8 ± 0.8",
        "36 tokens − 25 tokens": "36 above 25 by 4.4 ± 1.2",
        "STViT-R − one long unit": "dense one's by 14.7 ± 2.5",
    }.items():
        mean, half = map(float, re.search(rf"{pair}: [+-]([\d.]+) ± ([\d.]+)", evidence).groups())
        assert f"{mean:.1f} ± {half:.1f}" in said and said in TEXT
    assert "STViT, 16 tokens and spatial" in " ".join(found.equal.dropna())
    asked = found[found.verdict != "cannot be asked of distilled students"].verdict.value_counts()
    counts = [asked.get(verdict, 0) for verdict in ("holds", "does not hold", "cannot tell at this size")]
    assert (
        "of {} conclusions that can be asked there {} hold, {} do not, {} cannot".format(sum(counts), *counts)
        in TEXT
    )
    chance = results("distilled/stvit_table4.csv").set_index("row").loc["random"]
    assert f"at random, by {chance.difference:.1f} ± {chance.half_width:.1f} (this pair alone" in TEXT
    probes = results("distilled/probes.csv").set_index("model").top1
    said = "names {:.1f} % rightly from STViT with 16 tokens, {:.1f} % from the dense model, {:.1f} % from EViT, "
    names = (
        "stvit_dinov2_small_16",
        "dense",
        "evit_dinov2_small_47",
        "bat_dinov2_small_47",
        "ToMe, off the shelf",
    )
    assert (said + "{:.1f} % from BAT and {:.1f} % from ToMe off the shelf").format(
        *probes[list(names)]
    ) in TEXT
    curve = results("distilled/curve.csv")
    shelf = curve[curve.crops == 0].set_index("row").cosine / 100
    words = "untrained {:.3f}; off the shelf at like FLOPs EViT {:.3f}, BAT {:.3f}, and ToMe {:.3f}"
    assert words.format(*shelf[["STViT, 16 tokens", "EViT", "BAT", "ToMe"]]) in TEXT
    shipped = json.loads(
        (ROOT / "results" / "distilled" / "shipped" / "stvit_dinov2_small_16.json").read_text(
            encoding="utf-8"
        )
    )
    others = results("distilled/shipped.csv").set_index("name")
    value, cost = others.cosine / 100, others.mflops / others.mflops["stvit_dinov2_small_16"]
    assert (
        f"36 tokens {value['stvit_dinov2_small_36']:.3f} (at {cost['stvit_dinov2_small_36']:.2f} times"
        in TEXT
    )
    words = f"BAT {value['bat_dinov2_small_47']:.3f} and EViT {value['evit_dinov2_small_47']:.3f} at keep rate 0.47"
    assert words in TEXT and set(others.index) == set(distilled())
    saliency = others.correlation["stvit_r_dinov2_small_16"] / 100
    assert f"correlates with the dense one by {saliency:.3f}" in TEXT
    small = others.kilobytes.drop("stvit_dinov2_small_16") / 1000
    assert f"in {small.min():.1f} to {small.max():.1f} MB each" in TEXT
    assert f"{shipped['bytes'] / 1e6:.1f} MB" in TEXT and f"photographs: {shipped['cosine']:.3f};" in TEXT
