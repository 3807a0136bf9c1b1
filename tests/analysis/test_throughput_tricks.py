"""What each optimisation pays: the changes are those that they say, and the arithmetic is right."""

import json

import pytest
import timm
import torch

from analysis.throughput import tricks
from stvit.fast import absorbed, groups
from stvit.fast.token_linear import TokenLinear
from stvit.optimize import PackedLinear


@pytest.fixture(scope="module")
def found():
    model = timm.create_model("micro_stvit").eval()
    torch.nn.init.normal_(model.blocks[model.stgm.stop - 1].centers.weight)  # G that matters
    return tricks.variants(model)


def test_all_but_the_bounds_are_the_same_function(found):
    images = torch.randn(2, 3, 48, 48)
    with torch.inference_mode():
        out = {name: run(images) for name, run in found.items()}
    base = out[tricks.AS_IT_IS]
    for name, logits in out.items():
        same = torch.allclose(logits, base, atol=1e-5)
        assert same != (name == "bound: without G"), name  # without G it is another function


def test_changes_are_what_they_say(found, monkeypatch):
    plain = found["without the transposed product"]
    assert not any(isinstance(layer, TokenLinear) for layer in plain.modules())
    assert any(isinstance(layer, TokenLinear) for layer in found[tricks.AS_IT_IS].modules())
    assert any(isinstance(layer, PackedLinear) for layer in found["with packed weights"].modules())
    usual, asked = absorbed.applies, []
    monkeypatch.setattr(absorbed, "applies", lambda *sources: asked.append(1) or usual(*sources))
    found["with projected keys and values"](torch.randn(1, 3, 48, 48))
    assert not asked and absorbed.applies is not usual  # as it was before the call
    affine = found["bound: norms without scale and shift"]
    assert all(m.weight is None for m in affine.modules() if isinstance(m, torch.nn.LayerNorm))
    size = groups.GROUP
    with tricks.whole_batches():
        assert groups.GROUP > 2**60
    assert size == groups.GROUP


def test_row_is_the_median_of_pairs():
    row = tricks.row("m", 8, "with a", [1.0, 2.0, 9.0], [2.0, 2.0, 10.0])
    assert row["time %"] == pytest.approx(90) and row["q1"] == pytest.approx(50)


def test_command(capsys):
    words = "--model micro_stvit_r_swin --batch 2 --rounds 2 --seconds 0 --threads 1 --json -"
    assert tricks.main(words.split()) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 7 and {row["rounds"] for row in rows} == {2}
