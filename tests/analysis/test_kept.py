"""A run that gives the same results changes no tracked file; one that gives others changes those."""

import io
import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis import kept, style
from analysis.results import LARGEST_PNG, LARGEST_SVG, Report

FRAME = pd.DataFrame({"model": ["a", "b"], "flops": [4583000000, 7], "error": [0.123456789, -2e-7]})


def write(folder, frame=FRAME, height=4, seed=0, points=3):
    with Report("first", "A section", "python -m analysis.first", {"M": 16}, seed, out=folder) as report:
        report.table("numbers", frame, "All numbers.")
        with style.house_style():
            fig, axes = style.figure()
            axes.plot(np.arange(points), np.linspace(3, height, points))
        report.figure("line", fig, "A line.", alt="a rising line")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.json"}


def test_again_without_a_change(tmp_path, monkeypatch):
    write(tmp_path)
    before = contents(tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["reproduced"] is False
    monkeypatch.setattr("analysis.results.commit", lambda: "another commit")
    monkeypatch.setattr("analysis.results._processor", lambda: "another processor")
    write(tmp_path, FRAME.assign(error=FRAME.error * (1 + 1e-9)))  # another processor rounds otherwise
    assert contents(tmp_path) == before
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["reproduced"] is True and run["commit"] == "another commit"
    assert run.keys() == set(kept.CIRCUMSTANCES) | {"reproduced"}


@pytest.mark.parametrize(
    ("change", "files"),
    [
        (dict(frame=FRAME.assign(error=FRAME.error * (1 + 1e-5))), {"numbers.csv"}),
        (dict(frame=FRAME.assign(flops=FRAME.flops + 1)), {"numbers.csv"}),
        (dict(frame=FRAME.assign(model=["a", "c"])), {"numbers.csv"}),
        (dict(frame=FRAME.iloc[:1]), {"numbers.csv"}),
        (dict(height=5), {"line.png", "line.svg"}),
        (dict(seed=1), set()),
    ],
)
def test_again_with_another_result(change, files, tmp_path):
    write(tmp_path)
    before = contents(tmp_path)
    write(tmp_path, **change)
    after = contents(tmp_path)
    assert {name for name in after if after[name] != before[name]} == files | {"record.json"}


def test_a_vector_figure_that_grows_too_large_is_kept_as_pixels(tmp_path):
    write(tmp_path)
    write(tmp_path, points=2)
    assert (tmp_path / "line.svg").exists()
    with Report("first", "A section", "c", out=tmp_path) as report, style.house_style():
        fig, axes = style.figure()
        axes.scatter(*np.random.default_rng(0).random((2, 4000)), rasterized=False)
        report.figure("line", fig, "Points.", alt="points")
    assert not (tmp_path / "line.svg").exists() and (tmp_path / "line.png").stat().st_size <= LARGEST_PNG
    assert [*report.blocks[0]["files"]] == ["line.png"] and LARGEST_SVG < 200_000


def test_large_pictures_are_shrunk_until_they_fit():
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "png", dpi=(200, 200))
    few = style.shrunk(file.getvalue(), 150_000)
    assert len(few) <= 150_000 and Image.open(io.BytesIO(few)).size == (400, 300)
    assert (
        np.unique(np.asarray(Image.open(io.BytesIO(few)).convert("RGB")).reshape(-1, 3), axis=0).shape[0]
        <= 256
    )
    small = Image.open(io.BytesIO(style.shrunk(file.getvalue(), 50_000)))
    assert small.width < 400 and small.width / small.info["dpi"][0] == pytest.approx(400 / 200, rel=0.02)


def test_white_stays_white_and_lines_keep_their_colour():
    with style.house_style():
        fig, ax = style.figure(style.COLUMN, 2)
        ax.plot([0, 1], [0, 1], color=style.VERMILION, lw=3)
    png = style.render(fig)[".png"]
    few = np.asarray(Image.open(io.BytesIO(style.shrunk(png, 10**6))).convert("RGB")).reshape(-1, 3)
    assert (few[0] == 255).all()
    away = np.abs(few - np.array([0xD5, 0x5E, 0x00])).max(1)
    assert (away < 8).mean() > 0.005


def test_a_picture_for_a_notebook_is_small_and_its_figure_closed():
    with style.house_style():
        fig, ax = style.figure(2, 2)
        ax.imshow(np.random.default_rng(0).random((64, 64, 3)))
    picture = style.shown(fig, dpi=50)
    assert Image.open(io.BytesIO(picture.data)).mode == "P" and not plt.fignum_exists(fig.number)


def test_timings_of_the_first_run_stand_while_the_rest_is_the_same(tmp_path):
    first = FRAME.assign(seconds=[1.0, 2.0])
    path = tmp_path / "t.csv"
    assert kept.with_timings(first, path, ("seconds",)) is first
    first.to_csv(path, index=False)
    again = kept.with_timings(first.assign(seconds=[3.0, 4.0]), path, ("seconds",))
    assert again.seconds.tolist() == [1.0, 2.0] and again.error.tolist() == FRAME.error.tolist()
    other = first.assign(seconds=[3.0, 4.0], flops=[1, 2])
    assert kept.with_timings(other, path, ("seconds",)).seconds.tolist() == [3.0, 4.0]
