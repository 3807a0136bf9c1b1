"""The shelf: a finished cell's model is copied once, in half precision, and scored again on demand."""

import json

import pytest
import timm
import torch

import stvit
from analysis.results import digest
from analysis.shared.shelf import Shelf, recounted

RECORD = {"address": "abc", "test": {"top1": 50.0}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.manual_seed(0)
    model = timm.create_model("micro_deit", embed_dim=16, depth=2, num_heads=2)
    return stvit.save_checkpoint(model, tmp_path_factory.mktemp("trained") / "model")


def score(name: str, model) -> dict:
    return {"name": name, "weights": sum(p.numel() for p in model.parameters()), "training": model.training}


def test_a_finished_model_is_copied_once(tmp_path, trained):
    shelf = Shelf(tmp_path, score)
    assert shelf.available() == [] and not shelf.ship("one", None, trained)
    assert not shelf.ship("one", RECORD, trained / "none")
    assert shelf.ship("one", RECORD, trained) and not shelf.ship("one", RECORD, trained)
    record = shelf.record("one")
    assert record["test"] == RECORD["test"] and record["weights"] == digest(
        tmp_path / "one" / "model.safetensors"
    )
    assert record["shipped"] == score("one", shelf.open("one")) and not record["shipped"]["training"]
    assert shelf.kilobytes("one") < 0.6 * (trained / "model.safetensors").stat().st_size / 1000
    assert (
        shelf.ship("one", {**RECORD, "address": "another"}, trained)
        and shelf.record("one")["address"] == "another"
    )


def test_models_are_counted_again_in_the_order_asked_for(tmp_path, trained):
    shelf = Shelf(tmp_path, score)
    for name in ("a", "b"):
        shelf.ship(name, RECORD, trained)
    assert shelf.available() == ["a", "b"] and shelf.available(["b", "c", "a"]) == ["b", "a"]
    found = shelf.recount(
        ["b", "c", "a"], lambda name, record, now: {"name": name, "same": record["shipped"] == now}
    )
    assert found.to_dict("list") == {"name": ["b", "a"], "same": [True, True]}


def test_a_new_score_is_recorded(tmp_path, trained):
    Shelf(tmp_path, lambda name, model: {"right": 1}).ship("one", RECORD, trained)
    assert Shelf(tmp_path, lambda name, model: {"right": 2}).rescore("one") == {"right": 2}
    record = json.loads((tmp_path / "one" / "record.json").read_text())
    assert record["shipped"] == {"right": 2} and record["tested_at"] and record["address"] == "abc"


def test_rounding_may_turn_a_few_items():
    test = {"top1": 50.0, "half_width": 1.0}
    row = recounted(test, {"right": 10}, {"clips": 20, "right": 12}, "clips", tolerance=2)
    assert (row["clips"], row["recorded"], row["recounted"]) == (20, 10, 12)
    assert row["within_rounding"] and not row["equal"]
    assert not recounted(test, {"right": 10}, {"clips": 20, "right": 13}, "clips", tolerance=2)[
        "within_rounding"
    ]
