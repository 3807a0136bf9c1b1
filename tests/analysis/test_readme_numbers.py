"""README's figures are those of the records."""

import re
from pathlib import Path

import pandas as pd

from analysis.cluster_sim.errata import LINES
from analysis.complexity import default_reading, errata

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
    evidence = " ".join(found.evidence)
    for row, (gap, half) in {
        "36 tokens − 16 tokens": (9.7, 4.8),
        "density_peaks − convolution": (3.2, 2.7),
    }.items():
        mean, width = map(float, re.search(rf"{row}: (-?[\d.]+) ± ([\d.]+)", evidence).groups())
        assert (round(-mean, 1), round(width, 1)) == (gap, half)
        assert f"{gap} ± {half} points" in TEXT
    claims = results("attention_maps/claims.csv")
    assert (claims[claims.claim == "maps stay with their windows"].holds_here == "no").all()
