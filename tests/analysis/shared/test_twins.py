"""Every row of every grid is a model of its own: by architecture, by function, and by its answers."""

import json
from functools import cache

import pytest
import timm
import torch

import stvit  # noqa: F401 (registers the models)
from analysis.ablations import report
from analysis.ablations.cells import AblationCell
from analysis.ablations.design import TABLES, Row
from analysis.dense.cells import ROWS as DENSE_ROWS
from analysis.shared import twins
from analysis.shared.counting import count
from analysis.video.cells import MODELS as VIDEO_MODELS
from tests.helpers.fill_rule import fill_state

GRIDS = {
    **{table.name: table.rows for table in TABLES},
    "dense": DENSE_ROWS,
    "video": [Row(name, model) for model, name in VIDEO_MODELS.items()],
}


def build(model: str, options: str):
    return fill_state(timm.create_model(model, num_classes=7, **json.loads(options)))


@cache
def facts(model: str, options: str) -> tuple[str, torch.Tensor]:
    """Fingerprint, and answers with weights that follow from names alone."""
    net = build(model, options)
    _, *sides = net.pretrained_cfg["input_size"]
    images = torch.randn(8, 3, *sides, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return twins.fingerprint(net), net(images)


def of(row) -> tuple[str, torch.Tensor]:
    return facts(row.model, json.dumps(row.args, sort_keys=True))


def cost(row) -> int:
    net = build(row.model, json.dumps(row.args)).requires_grad_(False)
    return int(count(net, (1, *net.pretrained_cfg["input_size"])).total)


@pytest.mark.parametrize("grid", GRIDS)
def test_rows_are_different_models(grid):
    rows = GRIDS[grid]
    found = [of(row) for row in rows]
    for i, row in enumerate(rows):
        for j in range(i):
            assert found[i][0] != found[j][0], f"{row.name!r} has the architecture of {rows[j].name!r}"
            assert not torch.allclose(found[i][1], found[j][1], atol=1e-4), (
                f"{row.name!r} computes what {rows[j].name!r} computes"
            )


@pytest.mark.parametrize("grid", ["bat_table3_keep70", "bat_table3_keep50"])
def test_each_step_of_bat_costs_what_it_adds(grid):
    """Dropping tokens is cheapest; packing costs a weighted sum, clustering distances, matching similarities."""
    dense, kept, packed, clustered, matched = map(cost, GRIDS[grid])
    assert kept < packed < clustered < matched < dense


def test_none_would_be_found():
    """What happened once: merger=None, dropped by timm, is the model of the next row but one."""
    with_none, clustering = dict(keep_rate=0.5, pairs=0, merger=None), dict(keep_rate=0.5, pairs=0)
    assert facts("micro_bat", json.dumps(with_none))[0] == facts("micro_bat", json.dumps(clustering))[0]


def record(folder, row, seed: int, right: int) -> None:
    cell = AblationCell(row, seed)
    found = {
        "address": cell.address, "multiply_adds": 1, "seconds": {"training_cpu": 1.0}, "assignment": None,
        "test": {"images": 1000, "right": right, "small": {"images": 9, "right": 5}},
    }  # fmt: skip
    (folder / f"{cell.address}.json").write_text(json.dumps(found))


def test_a_report_refuses_rows_with_equal_answers(tmp_path):
    table = next(table for table in TABLES if table.name == "bat_table3_keep50")
    for seed in range(3):
        record(tmp_path, table.rows[1], seed, 500 + seed)
        record(tmp_path, table.rows[3], seed, 500 + seed + (seed == 2))
    report.derived(tmp_path)  # one seed differs
    record(tmp_path, table.rows[3], 2, 502)
    with pytest.raises(
        twins.TwinRows, match="'attentive token preservation' and '. inattentive token clustering'"
    ):
        report.derived(tmp_path)


def test_one_seed_proves_nothing():
    assert not twins.equal_rows({"a": {0: 50}, "b": {0: 50}})
    assert twins.equal_rows({"a": {0: 50, 1: 51}, "b": {0: 50, 1: 51, 2: 9}, "c": {}}) == [("a", "b")]
