"""Checkpoints of programs that name their parts otherwise: each a file filled by rule under the program's own names."""

import argparse

import pytest
import torch
from oracles import equal_logits, official_weights, oracle, outputs

import stvit
from stvit.checkpoints import CheckpointError
from stvit.convert.rival_weights import convert_rival

FILES = {
    "evovit": ("evovit_deit_small_r050", {}),
    "avit": ("avit_deit_small_s10_c30", dict(method="avit")),
    "spvit": ("spvit_deit_small_369", {}),
    "svite": ("svite_deit_small_tok100", dict(keep_rate=100 / 197)),
    "iared2": ("iared2_deit_small_g444", {}),
    "dge": ("dge_deit_small_s124_256", {}),
    "dynamicvit": ("dynamicvit_deit_small_r070", {}),
}


@pytest.mark.parametrize("method", FILES)
def test_a_file_is_read_by_its_names_and_every_weight_arrives(method, tmp_path):
    name, options = FILES[method]
    weights = official_weights(name)
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": weights, "args": argparse.Namespace(model=method), "epoch": 3}, path)
    model = stvit.load_released(path, **options)
    assert model.method == method and not model.training
    own = model.state_dict()
    if method != "dynamicvit":
        expected = convert_rival(weights, method, list(model.reductions))
        assert own.keys() == expected.keys() and all(own[key].equal(expected[key]) for key in own)
    if method in ("evovit", "dynamicvit"):
        equal_logits(outputs(model)[0], oracle(name))


def test_what_has_no_place_here_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pth"
    torch.save({**official_weights("evovit_deit_small_r050"), "qks.0.extra": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"qks\.0\.extra"):
        stvit.load_released(path)
