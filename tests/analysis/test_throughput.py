"""The benchmark's numbers are consistent; how fast anything is, no test says."""

import json

import pytest

from analysis import throughput

PAIR = ("micro_deit", "micro_stvit")


def test_rows_of_two_models_side_by_side(capsys):
    size = ["--batch-size", "2", "--image-size", "48", "--threads", "1", "--rounds", "3"]
    throughput.main(["--models", ",".join(PAIR), *size, "--json", "-"])
    base, sparse = json.loads(capsys.readouterr().out)
    assert (base["model"], sparse["model"]) == PAIR
    assert base["ratio"] == base["flops_ratio"] == 1 and base["realised"] is None
    assert 0 < sparse["flops_ratio"] < 1 and sparse["ratio_q1"] <= sparse["ratio"] <= sparse["ratio_q3"]
    assert sparse["realised"] == pytest.approx((1 - sparse["ratio"]) / (1 - sparse["flops_ratio"]))


def test_profile_accounts_for_all_time_and_flops():
    spec = "stvit_swin_tiny_patch4_window7_224:embed_dim=16:num_heads=(1,2,4,8):depths=(2,2,6,2)"
    frame = throughput.profile(spec, 1, (224, 224), threads=1, rounds=1, dense=False)
    assert frame.time_share.sum() == pytest.approx(1) and frame.flops_share.sum() == pytest.approx(1)
    assert {"patch_embed", "layers.2 attn", "layers.2.initial", "the rest"} <= set(frame.part)


def test_options_of_a_model():
    spec = "name:semantic_window=2:pooling=max"
    assert throughput.split(spec) == ("name", {"semantic_window": 2, "pooling": "max"})
    with pytest.raises(ValueError, match="no option=value"):
        throughput.split("name:fast")
    with pytest.raises(SystemExit):
        throughput.main(["--models", "no_such_model"])
