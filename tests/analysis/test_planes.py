"""The planes: printed points are those of analysis/paper, ours stay apart."""

import json

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from analysis import planes
from analysis.results import PAPER


@pytest.fixture(scope="module")
def points():
    return planes.printed()


def test_every_printed_row_is_a_point(points):
    rows = sum(len(pd.read_csv(PAPER / f"{file}.csv")) for file in planes.PRINTED_SOURCES)
    assert len(points) == rows and points[["source", "method", "top1", "gflops"]].notna().all().all()


def test_figure_6_shows_every_point_inside_its_frame(points):
    fig = planes.plot_figure_6(points)
    ax = fig.axes[0]
    part = points[points.source == "BAT, Figure 6"]
    drawn = {
        (x, y)
        for line in ax.lines
        for x, y in zip(*line.get_data(), strict=True)
        if len(line.get_xdata()) == 6
    }
    assert drawn == set(zip(part.gflops, part.top1, strict=True))
    low, high = sorted(ax.get_xlim())
    bottom, top = ax.get_ylim()
    assert part.gflops.between(low, high).all() and part.top1.between(bottom, top).all()
    plt.close(fig)


def test_planes_show_every_point_inside_their_frames(points):
    panels = (("a", ("STViT, Table 1", "STViT, Table 4")), ("b", ("BAT, Table 1", "BAT, Figure 6")))
    fig = planes.plot_plane(points, panels, "gflops", "FLOPs")
    for ax, (_, sources) in zip(fig.axes, panels, strict=True):
        part = points[points.source.isin(sources) & points.backbone.isin(planes.BACKBONES)]
        assert part.gflops.between(*ax.get_xlim()).all() and part.top1.between(*ax.get_ylim()).all()
    plt.close(fig)


def test_claims_come_from_the_tables(points):
    claims = planes.claims(points).set_index(["source", "claim"])
    assert claims.loc[("BAT, Figure 6", "best at every keep rate"), "value"] == pytest.approx(0.2)
    fewest = claims.loc[("STViT, Table 4", "DeiT-S: fewest FLOPs"), "printed_numbers_agree"]
    assert fewest  # TokenLearner prints 1.9 G, but starts from another model
    speed = claims.loc[("STViT, Table 1", "DeiT-S: twice as fast at the same accuracy"), "value"]
    assert speed == pytest.approx(2891 / 1408)


def test_our_points_are_means_over_seeds(tmp_path):
    for seed, (top1, size) in enumerate(((80.0, 48), (82.0, 48), (90.0, 64))):  # the last: other scenes
        training = dict(model="micro_stvit", model_args=dict(num_semantic_tokens=9))
        test = dict(top1=top1, half_width=0.3)
        record = dict(scenes=dict(size=size), training=training, test=test, multiply_adds=17_000_000)
        (tmp_path / f"{seed}.json").write_text(json.dumps(record))
    (row,) = planes.ours(tmp_path).to_dict("records")
    assert (row["method"], row["top1"], row["seeds"], row["million_multiply_adds"]) == (
        "STViT",
        81.0,
        2,
        17.0,
    )
    assert planes.ours(tmp_path / "nothing").empty
    trained = len(list(planes.records.read_all(planes.CELLS)))
    assert 100 < planes.ours().seeds.sum() <= trained, "the shipped cells are in one file of lines"
    fig = planes.plot_ours(planes.ours(tmp_path))
    plt.close(fig)


def test_report_mixes_no_series(tmp_path):
    planes.report(tmp_path)
    record = json.loads((tmp_path / "record.json").read_text())
    printed = pd.read_csv(tmp_path / "printed.csv")
    assert not {"micro_stvit", "scenes"} & set(printed.source)
    assert {"figure6", "flops", "throughput"} <= {block.get("name") for block in record["blocks"]}


def test_command_line(capsys):
    assert planes.main(["--csv"]) == 0
    assert capsys.readouterr().out.startswith("source,backbone,method")
