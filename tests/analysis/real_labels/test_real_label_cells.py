"""Cells on real labels: addresses that stay, records that say which images were right, rows that differ."""

import json

import numpy as np
import pytest
import torch
from small_sets import write_mnist

from analysis.real_labels import cells, design, pilot
from analysis.real_labels.cells import CELLS, RealLabelCell, pack, plan, record_of, unpack
from analysis.real_labels.design import CLAIMS, SEEDS, TABLES
from analysis.shared import records, twins, verdicts
from analysis.shared.rows import Row
from stvit.training.build import build_model

TINY = Row("tiny", "micro_stvit", dict(embed_dim=16, depth=4, num_heads=2, num_semantic_tokens=4))


def test_addresses_are_what_they_were():
    """Finished cells stand under these: what changes them orphans the records."""
    assert RealLabelCell(TABLES[0].rows[0], 0).address == "2a21dede4fcc"
    assert len({cell.address for cell in plan()}) == len(plan()) == 24 * len(SEEDS)


def test_a_stopped_grid_has_as_many_seeds_in_every_row():
    seeds = [cell.seed for cell in plan()]
    assert seeds == sorted(seeds)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_rows_of_a_table_are_different_models(table):
    with torch.device("meta"):
        found = {row.name: fingerprint(row) for row in table.rows}
    twins.refuse_one_architecture([(table.name, found)])


def fingerprint(row: Row) -> str:
    return twins.fingerprint(build_model(RealLabelCell(row, 0).config(), cells.CLASSES))


def test_two_rows_of_one_architecture_are_refused():
    with pytest.raises(twins.TwinRows, match="'a' and 'b' are one architecture"):
        twins.refuse_one_architecture([("table", {"a": "1", "c": "2", "b": "1"})])


def test_methods_stand_at_like_cost():
    table = next(table for table in TABLES if table.name == "stvit_table4")
    costs = [cells.facts(RealLabelCell(row, 0))["multiply_adds"] for row in table.rows[1:]]
    assert max(costs) / min(costs) < 1.05


def test_right_answers_are_packed_and_unpacked():
    right = torch.rand(10_001, generator=torch.Generator().manual_seed(0)) < 0.9
    assert (unpack(pack(right), len(right)) == right.numpy()).all()
    assert len(pack(right)) < 1_700


def test_claims_speak_of_rows_that_exist():
    rows = {table.name: {row.name for row in table.rows} for table in TABLES}
    assert {claim.table for claim in CLAIMS} == set(rows)
    for claim in CLAIMS:
        for one, relation, other in claim.comparisons:
            assert {one, other} <= rows[claim.table]
            verdicts.judge(relation, [0.0, 0.0, 0.0])


def test_a_cell_from_training_to_record(tmp_path, monkeypatch):
    write_mnist(tmp_path / "data" / "FashionMNIST" / "raw")  # 40 training and 20 test images
    monkeypatch.chdir(tmp_path)  # data sets are looked for in ./data
    for name, value in dict(epochs=2, batch_size=16, log_every=1).items():
        monkeypatch.setitem(design.TRAINING, name, value)
    cell = RealLabelCell(TINY, 0)
    record = cells.run_cell(cell, tmp_path / "cells", tmp_path / "scratch", device="auto")
    assert record_of(cell, tmp_path / "cells") == json.loads(json.dumps(record))
    assert record["images"] == 2 * 32 and len(record["curve"]) == 4
    each = unpack(record["test"]["each"], record["test"]["images"])
    assert len(each) == 20 and each.sum() == record["test"]["right"]
    assert record["fingerprint"] == fingerprint(TINY) and record["multiply_adds"] > 1e5
    assert record["device"] in ("cpu", "cuda") and record["versions"]["torch"]


def test_another_budget_is_another_cell():
    cell = RealLabelCell(TINY, 0)
    longer = cell.trained_otherwise(dict(epochs=20))
    assert longer.config().epochs == 20 and longer.address != cell.address and longer.row.name == TINY.name
    assert cell.trained_otherwise({}).address == cell.address


def test_the_command_trains_what_is_missing(tmp_path, monkeypatch, capsys):
    from analysis.real_labels.__main__ import main

    write_mnist(tmp_path / "data" / "FashionMNIST" / "raw")
    monkeypatch.chdir(tmp_path)
    words = ["run", "--rows", "9 tokens", "--seeds", "2", "--cells", "out/cells", "--training"]
    assert main([*words, "epochs=1", "batch_size=20"]) == 0
    assert "0 of 2 cells are finished, 2 to run" in capsys.readouterr().out
    assert len(list((tmp_path / "out" / "cells").glob("*.json"))) == 2
    assert main([*words, "epochs=1", "batch_size=20"]) == 0
    assert "2 of 2 cells are finished, 0 to run" in capsys.readouterr().out


def test_a_pilot_looks_at_no_test_image(tmp_path, monkeypatch):
    from stvit.data.small_sets import read_small_set

    content = write_mnist(tmp_path / "data" / "FashionMNIST" / "raw")
    monkeypatch.chdir(tmp_path)
    pilot.write_split(tmp_path / "pilot", learnt=30)
    learnt, held_out = (
        read_small_set("fashion_mnist", str(tmp_path / "pilot"), training, 28) for training in (True, False)
    )
    images, labels = (content[f"train-{name}"] for name in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    for (found, classes, _), part in ((learnt, slice(30)), (held_out, slice(30, 40))):
        assert (found[:, 0].numpy() == images[part]).all() and (classes.numpy() == labels[part]).all()
    monkeypatch.setattr(
        pilot, "DENSE_ROW", Row("tiny", "micro_deit", dict(embed_dim=16, depth=1, num_heads=2))
    )
    scores = pilot.run(dict(epochs=1, batch_size=10, lr=0.02), scratch=tmp_path)
    assert scores["images"] == 10
    with pytest.raises(ValueError, match="unknown option 'learning_rate'"):
        pilot.run(dict(learning_rate=0.02), scratch=tmp_path)


def test_records_in_the_repository_are_whole():
    planned = {cell.address: cell for cell in plan()}
    for address, record in records.read_all(CELLS).items():
        assert record["address"] == address and address in planned
        each = unpack(record["test"]["each"], record["test"]["images"])
        assert len(each) == 10_000 and np.count_nonzero(each) == record["test"]["right"]
        assert record["seconds"]["threads"] == 1 and record["curve"][-1][1] < 1
