"""Rivals' checkpoints by their programs' names: each a file filled by rule, and the program's own logits."""

import argparse
import json

import pytest
import torch
from fill_rule import draw
from oracles import ORACLES, equal_logits, oracle, outputs

import stvit
from stvit.checkpoints import CheckpointError
from stvit.convert.rivals import keep_rate_of
from stvit.reduce.diffrate import SCHEDULES, read_schedules

KEYS = json.loads((ORACLES / "rivals_keys.json").read_text())


def weights(method: str) -> dict[str, torch.Tensor]:
    """In the program's names; of plain ViTs where a method learns nothing beside the trunk."""
    shapes = {**dict(KEYS["plain"]), **dict(KEYS.get(method, []))}
    return {key: draw(key, torch.empty(shape)) for key, shape in shapes.items()}


@pytest.mark.parametrize(
    ("method", "file", "options"),
    [
        ("patchmerger", "patchmerger_deit_small_kr070", {}),
        ("sinkhorn", "sinkhorn_deit_small_kr070", {}),
        ("sit", "sit_deit_small_kr070", {}),
        ("dtem", "dtem_deit_small_r16", {}),
        ("mctf", "mctf_deit_small_r16", dict(method="mctf")),
        ("ats", "ats_deit_small_kr070", dict(method="ats", keep_rate=0.7)),
        ("atc", "atc_deit_small_kr070_average_prop", dict(method="atc")),
    ],
)
def test_a_file_gives_the_programs_logits(method, file, options, tmp_path):
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": weights(method), "args": argparse.Namespace(model=method), "epoch": 3}, path)
    model = stvit.load_released(path, **options)
    assert model.method == method
    equal_logits(outputs(model)[0], oracle(file))


def test_what_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pth"
    torch.save(weights("ats"), path)
    with pytest.raises(CheckpointError, match="say which method"):
        stvit.load_released(path)
    torch.save(weights("sit"), path)
    with pytest.raises(CheckpointError, match="holds sit, not ats"):
        stvit.load_released(path, method="ats")
    surplus = {**weights("sit"), "cluster_layers.0.extra": torch.zeros(1)}
    torch.save(surplus, path)
    with pytest.raises(CheckpointError, match=r"cluster_layers\.0\.extra"):
        stvit.load_released(path)


def test_keep_rates_are_found_from_the_numbers_of_tokens():
    assert keep_rate_of([137, 96, 67], 196, "x") == 0.7
    assert keep_rate_of([49, 12, 3], 196, "x") == 0.25
    with pytest.raises(CheckpointError, match="no keep rate gives"):
        keep_rate_of([137, 137], 196, "x")


def test_diffrates_file(tmp_path):
    path = tmp_path / "compression_rate.json"
    prune, merge = (json.dumps(list(numbers)) for numbers in SCHEDULES["deit_small 2.7"])
    content = {
        "ViT-S-DeiT": {"2.7": {"prune_kept_num": prune, "merge_kept_num": merge}},
        "CAFormer-S36": {"5.2": {"prune_kept_num": "None", "merge_kept_num": merge}},
    }
    path.write_text(json.dumps(content))
    assert read_schedules(path) == {"ViT-S-DeiT 2.7": SCHEDULES["deit_small 2.7"]}
