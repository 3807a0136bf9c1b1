"""The picture of the README: its numbers are the model's."""

import pytest

from analysis import overview


@pytest.fixture(scope="module")
def frame():
    return overview.compute()


def test_parts_add_up_to_the_printed_totals(frame):
    totals = frame.groupby("model").flops.sum() / 1e9
    assert f"{totals['dense']:.2f}" == "4.58" and f"{totals['stvit']:.2f}" == "1.91"


def test_base_layers_cost_the_same_and_late_layers_almost_nothing(frame):
    table = frame.pivot(index="part", columns="model", values="flops")
    assert (table.loc[["patches", "1", "4"], "dense"] == table.loc[["patches", "1", "4"], "stvit"]).all()
    assert (table.loc["12", "stvit"] / table.loc["12", "dense"]) == pytest.approx(16 / 196, rel=0.1)


def test_picture_shows_every_part(frame, tmp_path):
    paths = overview.style.save(overview.plot(frame), tmp_path / "overview")
    svg = paths[0].read_text()
    assert all(
        word in svg for word in ("pooling", "STViT-DeiT-S, 16 tokens: 1.91 G", "Layers 7-12", "multiply-adds")
    )
