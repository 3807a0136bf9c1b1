"""The grid: addresses that stay, cells that run once, tables that come from records alone."""

import json
import math
from io import StringIO
from itertools import islice

import pandas as pd
import pytest
import torch

from analysis.ablations import advice, cells, claims, design, purity, report, shipped, tables
from analysis.ablations.__main__ import main
from analysis.ablations.cells import CELLS, AblationCell, plan, record_of
from analysis.ablations.design import SEEDS, TABLES, Row, Table
from analysis.results import PAPER, digest
from analysis.shared import records, statistics, verdicts

ROW, OTHER = Row("one", "micro_deit"), Row("two", "micro_stvit", dict(num_semantic_tokens=9))
TABLE = Table("example", "An example", (ROW, OTHER))


def write(folder, row: Row, seed: int, right: int, images: int = 1000) -> None:
    cell = AblationCell(row, seed)
    record = {
        "address": cell.address, "seed": seed, "multiply_adds": 20_000_000, "seconds": {"training_cpu": 60.0},
        "assignment": None,
        "test": {"images": images, "right": right, "small": {"images": 100, "right": 50}},
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / f"{cell.address}.json").write_text(json.dumps(record))


def test_addresses_are_what_they_were():
    """Finished cells stand under these: what changes them orphans the records."""
    assert AblationCell(TABLES[0].rows[0], 0).address == "a12cebfb2ae5"
    assert AblationCell(ROW, 0).address != AblationCell(ROW, 1).address != AblationCell(OTHER, 1).address


def test_addresses_follow_what_decides_the_outcome(monkeypatch):
    cell = AblationCell(OTHER, 0)
    before = cell.address
    assert AblationCell(Row("renamed", OTHER.model, OTHER.args), 0).address == before
    monkeypatch.setitem(design.TRAINING, "threads", 2)
    assert cell.address == before
    monkeypatch.setitem(design.TRAINING, "lr", 0.03)
    assert cell.address != before


def test_a_row_may_be_trained_otherwise():
    usual, larger = (
        AblationCell(ROW, 0),
        AblationCell(Row("one", "micro_swin", training=dict(recipe="micro_swin", image_size=64)), 0),
    )
    assert larger.content()["scenes"]["size"] == larger.config().image_size == 64
    assert usual.content()["scenes"]["size"] == usual.config().image_size == 48
    assert "depth" not in larger.config().model_args


def test_the_plan_has_every_cell_once_and_first_tables_first():
    planned = plan()
    addresses = [cell.address for cell in planned]
    assert len(set(addresses)) == len(addresses)
    first = [AblationCell(row, seed).address for row in TABLES[0].rows for seed in SEEDS]
    assert addresses[: len(first)] == first


def test_every_row_of_the_grid_builds():
    from stvit.training.build import build_model

    with torch.no_grad():
        for cell in plan(seeds=SEEDS[:1]):
            config = cell.config()
            model, side = build_model(config, 12).eval(), config.image_size
            assert model(torch.zeros(2, 3, side, side)).shape == (2, 12), cell.row.name
            assert model.pretrained_cfg["input_size"] == (3, side, side)  # whence it is tested


def test_printed_values_are_those_of_the_papers():
    def printed(name: str, column: str = "top1", **where) -> list[float]:
        frame = pd.read_csv(PAPER / f"{name}.csv", keep_default_na=False)
        for key, value in where.items():
            frame = frame[frame[key] == value]
        return frame[column].astype(float).tolist()

    mine = {table.name: [row.printed for row in table.rows] for table in TABLES}
    for size in ("DeiT-T", "DeiT-S", "DeiT-B"):
        assert [p[size] for p in mine["stvit_table1"]] == printed("stvit_table1", backbone=size)
    spatial, alone, both, learned = printed("stvit_table7")
    assert [p["DeiT-S"] for p in mine["stvit_table7"]] == [both, spatial, alone, learned]
    assert [p["DeiT-S"] for p in mine["stvit_table8"]] == printed("stvit_table8")
    *positions, none = printed("stvit_table14", "deit_s_top1")
    assert [p["DeiT-S"] for p in mine["stvit_table14"]] == [none, *positions]
    overlap, scales, adaptive, ours = printed("stvit_table15")
    assert [p["DeiT-T"] for p in mine["stvit_table15"]] == [ours, overlap, scales, adaptive]
    by_depth = {depth: printed("stvit_table13", base_depth=depth)[0] for depth in (3, 4, 7, 8)}
    assert [p["DeiT-S"] for p in mine["stvit_table13"]] == [by_depth[depth] for depth in (4, 3, 7, 8)]
    swins = mine["stvit_table9"][1:4]  # between the dense model and STViT-Swin
    for column, words in (("box_ap", "box AP"), ("mask_ap", "mask AP")):
        assert [p[words] for p in swins] == printed("stvit_table9", column)
    for rate, name in ((0.7, "bat_table3_keep70"), (0.5, "bat_table3_keep50")):
        assert [p["DeiT-S"] for p in mine[name][1:]] == printed("bat_table3", keep_rate=rate)
    assert [p["DeiT-S"] for p in reversed(mine["bat_table4"])] == printed("bat_table4")


def test_a_finished_cell_never_runs_again(tmp_path, monkeypatch):
    ran = []

    def pretend(cell, folder, scratch):
        ran.append(cell.address)
        write(folder, cell.row, cell.seed, 500)
        return {"test": {"top1": 50.0}, "seconds": {"all": 1.0, "training_cpu": 1.0}}

    monkeypatch.setattr(cells, "run_cell", pretend)
    todo, folders = (
        [AblationCell(ROW, 0), AblationCell(OTHER, 0)],
        dict(folder=tmp_path / "cells", scratch=tmp_path / "scratch"),
    )
    assert cells.run(todo, **folders) == 2
    assert cells.run([*todo, AblationCell(ROW, 1)], **folders) == 1
    assert cells.run(todo, minutes=1e-9, **folders) == 0
    assert (
        cells.run([AblationCell(ROW, 2), AblationCell(OTHER, 2)], jobs=2, backend="threading", **folders) == 2
    )
    assert len(ran) == len(set(ran)) == 5


def test_tables_pair_by_seed(tmp_path):
    for seed, (one, two) in enumerate(((500, 510), (520, 528), (480, 486))):
        write(tmp_path, ROW, seed, one)
        write(tmp_path, OTHER, seed, two)
    frame = tables.tabulate(TABLE, folder=tmp_path).set_index("row")
    assert frame.top1.tolist() == [50.0, 50.8] and frame.seeds.tolist() == [3, 3]
    assert frame.difference["two"] == 0.8 and math.isnan(frame.difference["one"])
    assert frame.half_width["two"] == pytest.approx(4.303 * 0.2 / 3**0.5, abs=0.01)
    assert frame.sd["one"] == 2.0 and frame.small["one"] == 50.0


def test_rows_with_few_seeds_say_so(tmp_path):
    write(tmp_path, ROW, 0, 500)
    frame = tables.tabulate(TABLE, folder=tmp_path).set_index("row")
    assert frame.seeds.tolist() == [1, 0]
    assert pd.isna(frame.top1["two"]) and pd.isna(frame.sd["one"])
    assert tables.progress((TABLE,), folder=tmp_path).finished.tolist() == [1]


@pytest.mark.parametrize(
    ("relation", "differences", "verdict"),
    [
        ("above", [1.0, 1.1, 0.9], verdicts.HOLDS),
        ("above", [-1.0, -1.1, -0.9], verdicts.FAILS),
        ("above", [2.0, -1.0, 0.5], verdicts.OPEN),
        ("above", [1.0, 1.1], verdicts.NOT_RUN),
        ("below", [-1.0, -1.1, -0.9], verdicts.HOLDS),
        ("not above", [0.1, 0.0, -0.1], verdicts.HOLDS),
        ("not above", [1.0, 1.1, 0.9], verdicts.FAILS),
        ("not below", [0.1, 0.0, -0.1], verdicts.HOLDS),
        ("not below", [-1.0, -1.1, -0.9], verdicts.FAILS),
        ("not below", [-3.0, 3.0, 0.0], verdicts.OPEN),
    ],
)
def test_verdicts(relation, differences, verdict):
    assert verdicts.judge(relation, differences) == verdict


def test_the_pooled_spread_is_that_of_a_fit_of_rows_and_seeds():
    import numpy as np

    values = np.random.default_rng(0).normal(size=(4, 3)).round(3)
    rows, seeds = (index.flatten() for index in np.indices(values.shape))
    design_matrix = np.concatenate([np.eye(4)[rows], np.eye(3)[seeds]], axis=1)
    fit, _, rank, _ = np.linalg.lstsq(design_matrix, values.flatten(), rcond=None)
    left = values.flatten() - design_matrix @ fit
    sigma, freedom = statistics.residual_spread(values.tolist())
    assert freedom == values.size - rank == 6
    assert sigma == pytest.approx(math.sqrt((left**2).sum() / freedom))
    found = {str(i): dict(enumerate(row)) for i, row in enumerate(values.tolist())}
    half = 2.4469 * sigma * math.sqrt(2 / 3)  # Student's t of 6 degrees of freedom
    assert statistics.pooled_half_width(found, SEEDS) == pytest.approx(half, rel=1e-4)
    assert statistics.pooled_half_width({**found, "begun": {0: 50.0}}, SEEDS) == pytest.approx(half, rel=1e-4)
    assert statistics.pooled_half_width({"0": found["0"]}, SEEDS) is None


def test_advice_names_the_best_row_and_what_is_told_from_it(tmp_path, monkeypatch):
    rows = [
        Row(name, "micro_stvit", dict(num_semantic_tokens=n)) for name, n in (("a", 4), ("b", 9), ("c", 16))
    ]
    begun = Row("two", "micro_deit")
    monkeypatch.setattr(advice, "TABLES", (Table("example", "An example", (*rows, begun)),))
    for row, scores in zip(rows, ((900, 910, 905), (896, 912, 900), (700, 712, 704)), strict=True):
        for seed, right in enumerate(scores):
            write(tmp_path, row, seed, right)
    write(tmp_path, begun, 0, 900)
    found = advice.answer("How many", "example", folder=tmp_path)
    assert (found.alike, found.missing) == (["a", "b"], ["two"])
    ((row, gap),) = found.worse
    assert row == "c" and gap == pytest.approx(-19.97, abs=0.01) and found.reach < 2
    assert "*c* (−20.0); not told apart: *a*, *b*" in advice.sentence(found)
    assert advice.answer("How many", "example", folder=tmp_path / "none") is None


def test_no_advice_follows_from_a_ranking_within_chance(tmp_path, monkeypatch):
    rows = [Row(name, "micro_stvit", dict(num_semantic_tokens=n)) for name, n in (("a", 4), ("b", 9))]
    monkeypatch.setattr(advice, "TABLES", (Table("example", "An example", tuple(rows)),))
    monkeypatch.setattr(advice, "QUESTIONS", (("How many", "example"),))
    for row, scores in zip(rows, ((900, 800, 850), (880, 830, 790)), strict=True):
        for seed, right in enumerate(scores):
            write(tmp_path, row, seed, right)
    assert advice.advice(folder=tmp_path) == "- **No advice**, since no row is told from another: How many."


def test_two_rows_need_as_much_as_student_asks():
    """Tukey's range of two rows is Student's interval of their difference."""
    rows = {"a": {0: 90.0, 1: 91.0, 2: 89.5}, "b": {0: 80.0, 1: 84.0, 2: 79.0}}
    assert advice.tukey_range(rows) == pytest.approx(statistics.pooled_half_width(rows, (0, 1, 2)), rel=1e-6)


def test_advice_asks_about_tables_that_exist():
    assert {name for _, name in advice.QUESTIONS} <= {table.name for table in TABLES}
    assert advice.advice()


def test_a_conclusion_is_as_good_as_its_weakest_part():
    assert verdicts.combine([verdicts.HOLDS, verdicts.HOLDS]) == verdicts.HOLDS
    assert verdicts.combine([verdicts.HOLDS, verdicts.OPEN]) == verdicts.OPEN
    assert verdicts.combine([verdicts.OPEN, verdicts.NOT_RUN, verdicts.FAILS]) == verdicts.FAILS


def test_every_printed_table_is_judged():
    assert {claim.table for claim in claims.CLAIMS} == {table.name for table in TABLES}


def test_claims_speak_of_rows_that_exist():
    rows = {table.name: {row.name for row in table.rows} for table in TABLES}
    for claim in claims.CLAIMS:
        for one, relation, other in claim.comparisons:
            assert {one, other} <= rows[claim.table]
            verdicts.judge(relation, [0.0, 0.0, 0.0])


def test_purity_of_known_clusterings():
    owner = torch.tensor([[0, 0, 1, 1, 2, 2, 0, 0]])
    radii = torch.tensor([[4.0, 8.0]])
    perfect = purity.scores(owner, owner, radii, 3)
    assert perfect == {"purity": 1.0, "recall": 1.0, "recall_small": 1.0}
    lumped = purity.scores(torch.zeros_like(owner), owner, radii, 3)
    assert lumped == {"purity": 0.5, "recall": 0.0, "recall_small": 0.0}
    mixed = purity.scores(torch.tensor([[0, 0, 1, 1, 0, 0, 0, 0]]), owner, radii, 2)
    assert mixed["recall"] == 0.5 and mixed["recall_small"] == 1.0


def test_owners_of_patches_are_majorities():
    instances = torch.zeros(1, 4, 4, dtype=torch.uint8)
    instances[0, :2, :2] = 2
    instances[0, 3, 3] = 1
    assert purity.token_owners(instances, 2, 3).tolist() == [[2, 0, 0, 0]]


def test_small_objects_of_larger_images_are_those_of_small_ones():
    from stvit.data.scenes import SMALL, SceneConfig, draw_scenes, sized

    small, large = SceneConfig(), sized(SceneConfig(), 64)
    assert purity.small_radius(small) == SMALL
    first, second = (draw_scenes(config, torch.arange(64), "test") for config in (small, large))
    same = (first.radii < purity.small_radius(small)) == (second.radii < purity.small_radius(large))
    assert same.all()


@pytest.mark.parametrize("name", ["micro_stvit_swin", "micro_stvit_r_swin"])
def test_assignments_of_swins_are_those_of_stage_three(name):
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, depths=(1, 1, 6, 1)).eval()
    assert purity.subject(model) == purity.TokenSource((8, 8), (4, 4), 16, "layers.2.blocks.")
    found = purity.measure(model, 8)
    first = model.layers[2].units[0].image + 1
    assert list(found) == [f"layer {first}", f"layer {first + 1}", "windows"]
    assert all(row["purity"] >= 1 / 7 and max(row.values()) <= 1 for row in found.values())  # of 7 kinds
    assert found["windows"]["purity"] > found["windows"]["recall_small"] > 0


def test_windows_partition_the_map():
    assert purity.windows((2, 2), (4, 4)).reshape(4, 4).tolist() == [[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2


def test_a_cell_from_training_to_table(tmp_path, monkeypatch):
    for name, value in dict(train_images=64, eval_images=32, log_every=1).items():
        monkeypatch.setitem(design.TRAINING, name, value)
    monkeypatch.setattr(cells, "CACHE", tmp_path / "scenes")
    monkeypatch.setattr(cells, "PURITY_IMAGES", 16)
    monkeypatch.setattr(cells.test, "__defaults__", (64,))
    cell = AblationCell(Row("tiny", "micro_stvit", dict(embed_dim=16, depth=4, num_heads=2)), 0)
    record = cells.run_cell(cell, tmp_path / "cells", tmp_path / "scratch")
    assert record_of(cell, tmp_path / "cells") == json.loads(json.dumps(record))
    assert record["test"]["images"] == 64 and len(record["curve"]) == 1
    assert set(record["assignment"]) == {"layer 3", "layer 4", "windows"}
    assert record["device"] == "cpu" and record["versions"]["torch"]


class DrawnWhenAsked:
    """Scenes of which a test needs the first few of a shuffled many."""

    classes = tuple(range(12))

    def __init__(self, config, split, count, cache=None):
        self.config, self.split, self.count = config, split, count

    def __len__(self):
        return self.count

    def __getitems__(self, indices):
        from stvit.data.scenes import draw_scenes

        scenes = draw_scenes(self.config, indices, self.split)
        return scenes.images, scenes.labels


@pytest.mark.slow
def test_a_training_begins_as_its_record_says(tmp_path, monkeypatch):
    """What changed the outcome of finished cells would show in the mean loss of their first 32 steps."""
    from stvit.train import Trainer

    monkeypatch.setattr("stvit.data.drawn.Scenes", DrawnWhenAsked)
    cell = AblationCell(TABLES[0].rows[1], 0)
    step, recorded = record_of(cell)["curve"][0]
    trainer = Trainer(cell.config(out=str(tmp_path)))
    trainer.begin_epoch()
    trainer.model.train()
    losses = [float(trainer.train_step(*batch)) for batch in islice(trainer.source.train(0), step)]
    assert sum(losses) / step == pytest.approx(recorded, abs=2e-3)


def test_records_in_the_repository_are_whole():
    planned = {cell.address for cell in plan()}
    for address, record in records.read_all(CELLS).items():
        assert record["address"] == address and address in planned
        assert record["test"]["images"] >= 20_000 and record["device"] == "cpu"


def test_check_derives_the_tables_byte_for_byte(capsys):
    assert main(["--check"]) == 0
    assert "as on disk" in capsys.readouterr().out


def test_check_sees_a_changed_table_and_a_changed_record(tmp_path, capsys):
    folder, out = tmp_path / "cells", tmp_path / "out"
    out.mkdir()
    row = TABLES[0].rows[0]
    write(folder, row, 0, 500)
    path = folder / f"{AblationCell(row, 0).address}.json"
    (out / "record.json").write_text(json.dumps({"inputs": {path.name: digest(path)}}))
    for name, (frame, _) in report.derived(folder).items():
        (out / f"{name}.csv").write_bytes(report.csv(frame).encode())
    assert report.check(out, folder) == 0
    write(folder, row, 1, 510)
    assert report.check(out, folder) == 0
    assert "1 cells were finished since" in capsys.readouterr().out
    (out / "progress.csv").write_text("table\n")
    assert report.check(out, folder) == 1
    assert "progress.csv is not what the records give" in capsys.readouterr().err
    write(folder, row, 0, 501)
    assert report.check(out, folder) == 1
    assert "is not the record that the tables were made from" in capsys.readouterr().err


def test_shipped_checkpoints_count_as_recorded():
    """The smallest share of what ``--report`` counts: the right answers are a subset of those recorded."""
    folders = sorted(shipped.CHECKPOINTS.glob("*/record.json"))
    size = sum(file.stat().st_size for file in shipped.CHECKPOINTS.rglob("*") if file.is_file())
    assert size < 40e6
    for path in folders:
        record = json.loads(path.read_text(encoding="utf-8"))
        assert record["weights"] == digest(path.parent / "model.safetensors")
        assert record["address"] == shipped.cell_of(path.parent.name).address


def test_the_command_line_lists_and_tabulates(capsys):
    assert main([]) == 0 and main(["list", "--table", "stvit_table1"]) == 0
    assert "stvit_table1" in capsys.readouterr().out
    assert main(["tabulate", "--table", "stvit_table7", "--csv"]) == 0
    assert isinstance(pd.read_csv(StringIO(capsys.readouterr().out)), pd.DataFrame)
    with pytest.raises(SystemExit) as ended:
        main(["list", "--table", "nine"])
    assert ended.value.code == 2 and "unknown table 'nine'" in capsys.readouterr().err
