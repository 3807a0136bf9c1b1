"""Distilled students: rows are models of their own, verdicts follow from differences, cells are trained once."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import timm
import torch

from analysis.distilled import cells, claims, curve, maps, probes, report, tables
from analysis.distilled.cells import Cell, World
from analysis.distilled.claims import CLAIMS, UNASKED, StudentClaim, above, decide
from analysis.distilled.design import BASE, GRID, LOOKED_AT_TWICE, ROWS, SEEDS, TABLES, TIERS, seeds_of
from analysis.results import RESULTS
from analysis.shared import twins
from analysis.shared.statistics import paired
from analysis.shared.verdicts import FAILS, HOLDS, NOT_RUN, OPEN, strongest
from stvit.training.taught import ask


@pytest.fixture(scope="module")
def teacher():
    """The teacher's shape in depth and tokens, narrow and untrained."""
    torch.manual_seed(0)
    return timm.create_model(
        "vit_small_patch14_dinov2", img_size=126, embed_dim=48, num_heads=3, init_values=1.0
    ).eval()


def test_no_two_rows_of_a_table_are_one_model(teacher):
    marks = {name: twins.fingerprint(cells.build(row, teacher, 0)) for name, row in ROWS.items()}
    for table in TABLES:
        own = [marks[name] for name in table.rows]
        assert len(set(own)) == len(own), table.name


def test_students_read_the_teacher_where_it_was_asked(teacher):
    from analysis.distilled.design import LAYERS
    from stvit.training.late_layers import layers_kept

    assert {layers_kept(cells.build(row, teacher, 0)) for row in ROWS.values()} <= set(LAYERS)


def test_conclusions_are_those_of_the_ablations_table():
    pd = pytest.importorskip("pandas")
    before = pd.read_csv(RESULTS / "ablations" / "conclusions.csv")
    assert {(c.table, c.words) for c in CLAIMS} == set(zip(before.table, before.conclusion, strict=True))
    assert all(bool(c.comparisons) != bool(c.reason) for c in CLAIMS)
    rows = {name for c in CLAIMS for one in c.comparisons for name in (one[0], one[2])}
    assert rows <= set(ROWS) and {name for table in TABLES for name in table.rows} <= set(ROWS)
    assert sum(len(tier) for tier in TIERS) == len(ROWS)  # no name twice


def row(mean: float, *noise: float) -> dict[int, float]:
    return {seed: mean + value for seed, value in enumerate(noise)}


FOUND = {
    "a": row(50, 0.1, -0.1, 0.0, 0.05, -0.05),
    "b": row(45, -0.1, 0.1, 0.0, -0.05, 0.05),
    "c": row(45.1, 0.1, 0.0, -0.1, 0.0, 0.0),
    "d": row(50.05, 0.0, -0.1, 0.1, 0.0, 0.0),
}
ASKED = (
    StudentClaim("t", "holds", above("a", "b")),
    StudentClaim("t", "fails", above("b", "a")),
    StudentClaim("t", "open", above("a", "d")),
    StudentClaim("t", "no better", (("d", "not above", "a"),)),
    StudentClaim("t", "better after all", (("a", "not above", "b"),)),
    StudentClaim("t", "one of two fails", above("a", "b") + above("c", "d")),
    StudentClaim("t", "not run", above("a", "e")),
    StudentClaim("t", "unasked", reason="why"),
)


@pytest.mark.parametrize("way", ["verdict", "one spread"])
def test_verdicts(way):
    found = claims.verdicts(FOUND, ASKED).set_index("conclusion")[way]
    assert found.to_dict() == {
        "holds": HOLDS, "fails": FAILS, "open": OPEN, "no better": HOLDS, "better after all": FAILS,
        "one of two fails": FAILS, "not run": NOT_RUN, "unasked": UNASKED,
    }  # fmt: skip


def test_rows_that_spread_alike_and_rows_that_do_not():
    """Twins within the margin: their own spread tells, one spread for all rows cannot, of which one is wild."""
    found = {
        "base": row(50, 0.1, -0.1, 0.0, 0.2, -0.2),
        "twin": row(50.01, 0.11, -0.1, 0.0, 0.2, -0.2),
        "wild": row(30, 9, -9, 4, -4, 0),
    }
    (one,) = claims.verdicts(found, (StudentClaim("t", "x", (("twin", "not above", "base"),)),)).to_dict(
        "records"
    )
    assert (one["verdict"], one["one spread"], one["alone"]) == (HOLDS, OPEN, HOLDS)
    assert one["equal"] == "twin and base"


def test_more_comparisons_ask_for_more():
    """A difference that decides alone does not among forty others that say nothing (Holm)."""
    found = {"x": row(0.8, 0.3, -0.3, 0.0, 0.0, 0.0), "y": row(0, -0.3, 0.3, 0.0, 0.0, 0.0)}
    found |= {f"n{i}": row(0.0, *np.random.default_rng(i).normal(0, 0.3, 5)) for i in range(40)}
    alone = decide(found, (StudentClaim("t", "x", above("x", "y")),))
    others = tuple(StudentClaim("t", "n", above(f"n{i}", "n0")) for i in range(1, 40))
    many = decide(found, (StudentClaim("t", "x", above("x", "y")), *others))
    sigma, freedom = claims.pooled(found)
    assert alone[("x", "above", "y")] == HOLDS and freedom == 164 and 0.2 < sigma < 0.4
    strict = 2 * claims.chances("above", [1.4, 0.2, 0.8, 0.8, 0.8], sigma, freedom)[0] <= 0.05 / 40
    assert (many[("x", "above", "y")] == HOLDS) == strict


def test_the_spread_is_that_of_a_known_normal():
    noise = np.random.default_rng(0).normal(0, 0.5, (200, 5))
    found = {str(i): row(i, *values) for i, values in enumerate(noise)}
    assert abs(claims.pooled(found)[0] - 0.5) < 0.03
    assert abs(claims.half_width(found) - 1.96 * 0.5 * math.sqrt(2 / 5)) < 0.06


@pytest.fixture(scope="module")
def world(teacher):
    noise = torch.randint(
        0, 255, (60, 3, 126, 126), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    train, test = (ask(teacher, part, (3, 4, 5), maps=True) for part in (noise[:40], noise[40:]))
    return World(teacher, train, test, torch.arange(20) % 5, {})


def test_cells_are_trained_once_and_tables_follow(world, tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "GALLERY", 10)
    for name, value in dict(train_images=40, batch_size=20, precision="no").items():
        monkeypatch.setitem(GRID.training, name, value)
    names = (BASE, "global")
    for name in names:
        for seed in SEEDS:
            record = cells.run(Cell(ROWS[name], seed), world, tmp_path)
            assert record["frozen_layers"] == 4 and record["multiply_adds"] > 0
    values = record["by_photograph"]  # five, of four crops each
    assert len(values) == 5 and sum(values) / 5 == pytest.approx(record["cosine"], abs=2e-6)
    monkeypatch.setattr(cells, "trained", None)  # nothing is trained a second time
    assert cells.run(Cell(ROWS["global"], SEEDS[-1]), world, tmp_path)["address"] == record["address"]
    frame = tables.tabulate(TABLES[1], tmp_path)
    assert frame.seeds.tolist() == [5, 0, 5, 0] and frame.low[2] <= frame.difference[2] <= frame.high[2]
    assert report.write(tmp_path / "out", tmp_path) == 0
    blocks = json.loads((tmp_path / "out" / "record.json").read_text())["blocks"]
    assert "ImageNet accuracy" in blocks[0]["text"] and "conclusions" in {b.get("name") for b in blocks}


class Mean(torch.nn.Module):
    """A head that says how large a place's first channel is."""

    steps = 1

    def forward(self, maps, size):
        return torch.nn.functional.interpolate(maps[:, :1], size).squeeze(1)


def test_students_with_maps_are_compared_by_them(world, tmp_path, monkeypatch):
    monkeypatch.setattr("stvit.saliency_head", Mean)
    monkeypatch.setattr(cells, "GALLERY", 10)
    for name, value in dict(train_images=40, batch_size=20, precision="no").items():
        monkeypatch.setitem(GRID.training, name, value)
    (table,) = [table for table in TABLES if table.maps]
    for name in ("STViT-R", "one long unit"):
        for seed in SEEDS:
            cells.run(Cell(ROWS[name], seed), world, tmp_path)
    record = cells.read(Cell(ROWS["STViT-R"], 0), tmp_path)
    assert record["training"]["map_weight"] == 1 and record["frozen_layers"] == 3
    assert sum(record["correlation_by_photograph"]) / 5 == pytest.approx(record["correlation"], abs=2e-6)
    frame = tables.tabulate(table, tmp_path)
    assert frame.seeds.tolist() == [5, 5, 0, 0] and frame.low[1] <= frame.difference[1] <= frame.high[1]
    assert {"correlation", "places", "cosine"} <= set(frame) and frame.correlation.notna()[:2].all()
    told = claims.verdicts(tables.cosines(tmp_path)).set_index("conclusion")
    assert told.verdict["Dumbbell units beat one long unit (printed: detection)"] != NOT_RUN
    assert report.write(tmp_path / "out", tmp_path) == 0


def test_the_teachers_own_map_is_like_itself(world, monkeypatch):
    monkeypatch.setattr("stvit.saliency_head", Mean)
    taught = world.train[4], world.test[4], world.saliency, world.owner
    own = maps.fidelity(world.test[4].maps.float(), *taught)
    assert own["correlation"] == pytest.approx(1) and own["places"] == pytest.approx(1)
    other = maps.fidelity(world.test[4].maps.float().roll(1, 0), *taught)
    assert other["correlation"] < 0.99 and other["places"] < 0.99


def test_rows_that_were_looked_at_twice():
    twice = {name: seeds_of(name) for name in LOOKED_AT_TWICE}
    assert all(seeds == tuple(range(10)) for seeds in twice.values()) and seeds_of("EViT") == SEEDS
    noise = np.tile([1.0, -1.0], 5)
    ten = {"x": row(0.8, *noise), "y": row(0, *np.zeros(10))}
    five = {name: {seed: values[seed] for seed in SEEDS} for name, values in ten.items()}
    claim = (StudentClaim("t", "x", above("x", "y")),)
    one, two = (claims.verdicts(found, claim) for found in (five, ten))
    p, _ = strongest("above", paired(ten["x"], ten["y"]))
    assert 0.025 < p < 0.05, "alone it would be told, for the second look it is not"
    assert two.alone[0] == HOLDS and two.verdict[0] == OPEN and one.verdict[0] == OPEN


def test_probes_of_features_that_know_the_class_and_of_those_that_do_not(teacher, tmp_path, monkeypatch):
    """Images of one colour a class; a student off the shelf reads the teacher's tokens."""
    shades = torch.linspace(0, 255, 4).to(torch.uint8)
    sets = {training: torch.arange(count) % 4 for training, count in ((True, 40), (False, 20))}

    def images(name, folder, training, size):
        return (
            shades[sets[training]][:, None, None, None].expand(-1, 1, size, size),
            sets[training],
            list("abcd"),
        )

    monkeypatch.setattr("stvit.data.small_sets.read_small_set", images)
    for name, value in dict(TRAIN=40, TEST=20).items():
        monkeypatch.setattr(probes, name, value)
    models = {name: cells.build(ROWS[name], teacher, 0) for name in ("EViT", BASE)}
    dense, *others = probes.probed(teacher, models, tmp_path)
    assert [row["top1"] for row in (dense, *others)] == [100, 100, 100]
    assert all(row["difference"] == 0 and row["mflops"] < dense["mflops"] for row in others)
    noise = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    assert probes.rightly(noise, torch.cat(list(sets.values()))).double().mean() < 0.7


def test_budgets_of_the_curve_are_cells_of_their_own():
    addresses = [cell.address for cell in (*curve.untrained(), *curve.trained())]
    assert len(set(addresses)) == len(addresses)
    assert Cell(ROWS[BASE], 0).address in addresses  # the grid's own budget is a point of the curve


def test_the_budget_that_a_known_power_law_asks_for():
    crops = np.array([500, 1000, 2500, 5000])
    frame = pd.DataFrame({"row": BASE, "crops": crops, "passes": 1, "cosine": 100 - 80 * crops**-0.25})
    likely, least, most = curve.needed(frame, 100 - 80 * 40_000**-0.25)
    assert likely == pytest.approx(40_000) and least == pytest.approx(40_000) == pytest.approx(most)
    assert curve.expected(frame, 40_000) == pytest.approx(100 - 80 * 40_000**-0.25)
    worn = pd.concat([frame, frame[-1:].assign(passes=8, cosine=10)])  # more passes are not in the law
    assert curve.needed(worn, 100 - 80 * 40_000**-0.25)[0] == pytest.approx(40_000)
    assert curve.needed(frame[:3], 90) is None
    bent = frame.assign(cosine=np.add(frame.cosine, [0, 0.5, -0.5, 0]))
    likely, least, most = curve.needed(bent, 100 - 80 * 40_000**-0.25)
    assert 5000 < least < likely < most


def test_retrieval_of_equal_and_of_shuffled_features():
    features = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    assert cells.retrieved(features, features, gallery=20) == 1
    assert cells.retrieved(features.roll(1, 0), features, gallery=20) < 0.2
