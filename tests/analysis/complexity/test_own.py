"""The cost of a model of one's own: what sparsify makes of it, counted, beside the model itself."""

import json

import pytest
import timm

import stvit
from analysis.complexity.__main__ import main
from analysis.complexity.own import counted
from analysis.complexity.whatif import BadInput, Request
from analysis.shared.counting import count

SHAPE = (1, 3, 96, 96)


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A checkpoint folder and the model in it."""
    small = dict(img_size=96, embed_dim=48, depth=4, num_heads=3, num_classes=5)
    model = timm.create_model("vit_tiny_patch16_224", **small).eval()
    return stvit.save_checkpoint(model, tmp_path_factory.mktemp("runs") / "mine"), model


@pytest.mark.parametrize(
    "choices",
    [dict(method="stvit", tokens=4, stgm_at=2), dict(method="bat", keep_rate=0.5), dict(method="tome")],
    ids=lambda choices: choices["method"],
)
def test_counts_before_and_after(mine, choices):
    folder, model = mine
    sparse, dense = counted(Request(str(folder), (96, 96), **choices))
    assert dense.total == count(model, SHAPE).total
    asked = {"at" if name == "stgm_at" else name: value for name, value in choices.items()}
    assert sparse.total == count(stvit.sparsify(model, **asked).eval(), SHAPE).total != dense.total


def test_as_a_command(mine, capsys):
    words = ["--model", str(mine[0]), "--tokens", "4", "--stgm-at", "2", "--image-size", "96"]
    assert main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (
        answer["modules"][0]["flops"] == answer["flops"]
        and answer["dense_flops"] == count(mine[1], SHAPE).total
    )
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "with tokens 4, stgm_at 2 at 96×96" in out and "saving" in out


def test_a_larger_image_costs_more(mine):
    costs = [counted(Request(str(mine[0]), (side, side), method="tome"))[1].total for side in (64, 128)]
    assert costs[0] < costs[1] / 3


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (dict(keep_rate=0.7), "takes no --keep-rate; name a --method"),
        (dict(method="bat", tokens=4), "bat has no choice"),
        (dict(method="magic"), "unknown method 'magic'"),
        (dict(method="stvit", tokens=400, stgm_at=2), "do not fit"),
    ],
)
def test_what_cannot_be_done_is_one_line(mine, choices, words):
    with pytest.raises(BadInput, match=words) as refused:
        counted(Request(str(mine[0]), (96, 96), **choices))
    assert "\n" not in str(refused.value)
