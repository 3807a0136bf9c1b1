"""Tables on real labels: paired by seed and by image, from records alone; what is not finished says so."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.real_labels import report, tables
from analysis.real_labels.__main__ import main, named
from analysis.real_labels.cells import RealLabelCell, pack, plan
from analysis.real_labels.design import DENSE_ROW, TABLES
from analysis.real_labels.figure import plot
from analysis.real_labels.verdicts import verdicts
from analysis.shared import twins
from analysis.shared.rows import Claim, Row, Table

ROW, OTHER = DENSE_ROW, Row("other", "micro_stvit", dict(num_semantic_tokens=9))
TABLE = Table("example", "An example", (ROW, OTHER))


def write(folder, row: Row, seed: int, right, fingerprint: str = "") -> None:
    """A record in which the images are right that ``right`` (a number, or truth values) says."""
    each = torch.arange(1000) < right if isinstance(right, int) else torch.as_tensor(right)
    cell = RealLabelCell(row, seed)
    record = {
        "address": cell.address, "seed": seed, "multiply_adds": 20_000_000, "images": 6000,
        "seconds": {"training_cpu": 60.0}, "fingerprint": fingerprint or f"of {row.name}", "device": "cpu",
        "test": {"images": len(each), "right": int(each.sum()), "each": pack(each)},
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / f"{cell.address}.json").write_text(json.dumps(record))


def test_tables_pair_by_seed(tmp_path):
    for seed, (one, two) in enumerate(((900, 910), (920, 928), (880, 886))):
        write(tmp_path, ROW, seed, one)
        write(tmp_path, OTHER, seed, two)
    frame = tables.tabulate(TABLE, folder=tmp_path).set_index("row")
    assert frame.top1.tolist() == [90.0, 90.8] and frame.seeds.tolist() == [3, 3]
    assert frame.difference["other"] == 0.8 and math.isnan(frame.difference["dense"])
    assert frame.half_width["other"] == pytest.approx(4.303 * 0.2 / 3**0.5, abs=0.01)
    assert (frame.gained["other"], frame.lost["other"]) == (8, 0)
    assert frame.images_per_second.tolist() == [100, 100] and frame.minutes.tolist() == [1, 1]


def test_tables_pair_by_image(tmp_path):
    """Equal accuracies, and other images: the interval over images is that of the differences' mean."""
    chance = np.random.default_rng(0)
    gaps = []
    for seed in range(2):
        one, two = (chance.random(1000) < 0.9 for _ in range(2))
        write(tmp_path, ROW, seed, one)
        write(tmp_path, OTHER, seed, two)
        gaps.append(two.astype(int) - one.astype(int))
    line = tables.tabulate(TABLE, folder=tmp_path).set_index("row").loc["other"]
    mean = np.mean(gaps, axis=0)
    assert line.gained == round(sum((gap > 0).sum() for gap in gaps) / 2)
    assert line.half_images == pytest.approx(100 * 1.96 * mean.std(ddof=1) / 1000**0.5, abs=0.01)


def test_one_seed_shows_no_interval_over_seeds_but_one_over_images(tmp_path):
    write(tmp_path, ROW, 0, 900)
    write(tmp_path, OTHER, 0, 880)
    line = tables.tabulate(TABLE, folder=tmp_path).set_index("row").loc["other"]
    assert line.difference == -2.0 and pd.isna(line.half_width) and line.half_images > 0.5


def test_rows_that_were_not_run_say_so(tmp_path):
    write(tmp_path, ROW, 0, 900)
    frame = tables.tabulate(TABLE, folder=tmp_path).set_index("row")
    assert frame.seeds.tolist() == [1, 0] and pd.isna(frame.top1["other"])
    assert tables.progress((TABLE,), folder=tmp_path).finished.tolist() == [1]


def test_verdicts_are_corrected_for_all_comparisons(tmp_path):
    gains = (
        (900, 905),
        (900, 909),
        (900, 901),
        (900, 906),
        (900, 903),
    )  # 0.48 points, told alone but not among many
    for seed, (one, two) in enumerate(gains):
        write(tmp_path, ROW, seed, one)
        write(tmp_path, OTHER, seed, two)
    claim, other = (Claim("example", word, (("other", "above", "dense"),)) for word in "ab")
    undecided = Claim("example", "c", (("dense", "above", "other"), ("dense", "above", "dense")))
    ((first, *_),) = (verdicts((claim,), (TABLE,), folder=tmp_path).verdict,)
    assert first == "holds"
    frame = verdicts((claim, other, *[undecided] * 4), (TABLE,), folder=tmp_path)
    assert frame.verdict[0] == "cannot tell at this size" and frame.alone[0] == "holds"
    assert "other − dense: +0.48 ± " in frame.evidence[0] and "(5 seeds)" in frame.evidence[0]


def test_a_report_refuses_equal_answers_and_equal_models(tmp_path):
    one, two = TABLES[0].rows[1:3]
    for seed in range(3):
        write(tmp_path, one, seed, 900 + seed)
        write(tmp_path, two, seed, 900 + seed)
    with pytest.raises(twins.TwinRows, match="'4 tokens' and '9 tokens' have equal results in every seed"):
        report.derived(tmp_path)
    for seed in range(3):
        write(tmp_path, one, seed, 850 + seed, "a model")
        write(tmp_path, two, seed, 900 + seed, "a model")
    with pytest.raises(twins.TwinRows, match="'4 tokens' and '9 tokens' are one architecture"):
        report.derived(tmp_path)


def test_the_report_says_what_was_reached(tmp_path):
    assert report.reached(tmp_path) == "The dense model is not trained yet."
    write(tmp_path, DENSE_ROW, 0, 920)
    assert "92.00 % from one seed, which says nothing of the spread" in report.reached(tmp_path)
    write(tmp_path, DENSE_ROW, 1, 922)
    assert "reached, the dense model has 92.10 ± 0.14 % over 2 seeds" in report.reached(tmp_path)
    write(tmp_path, DENSE_ROW, 1, 940)
    assert "not reached, the dense model has 93.00 ± 1.41 %" in report.reached(tmp_path)


def test_a_report_of_part_of_the_grid(tmp_path, capsys):
    for seed in range(3):
        for number, row in enumerate(TABLES[0].rows):
            write(tmp_path / "cells", row, seed, 900 + 7 * number + seed * (number + 1))
    assert report.write(tmp_path / "out", tmp_path / "cells") == 0
    assert "12 of 120 cells tabulated" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert len(record["inputs"]) == 12 and "12 of 120 cells" in record["blocks"][0]["text"]
    found = pd.read_csv(tmp_path / "out" / "stvit_table1.csv")
    assert found.seeds.tolist() == [3, 3, 3, 3] and found.difference.notna().tolist() == [
        False,
        True,
        True,
        True,
    ]
    other = pd.read_csv(tmp_path / "out" / "stvit_table7.csv")
    assert other.seeds.tolist() == [3, 0, 0, 0]  # its base is a row of Table 1
    assert not (tmp_path / "out" / "bat_keep_rates.csv").exists()  # none of its rows has run
    conclusions = pd.read_csv(tmp_path / "out" / "conclusions.csv")
    assert "not run" in set(conclusions.verdict) and "holds" in set(conclusions.alone)
    assert (tmp_path / "out" / "accuracy_and_cost.png").stat().st_size > 5_000


def test_without_cells_the_report_says_what_to_run(tmp_path, capsys):
    assert report.write(tmp_path / "out", tmp_path / "none") == 0
    assert "python -m analysis.real_labels run trains them" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_rows_are_named_as_in_any_table():
    """One model may stand in several tables under several names."""
    cells = plan(seeds=(0, 1))
    assert named(cells, ["BAT"], TABLES) == named(cells, ["keep rate 0.5"], TABLES)
    assert [cell.seed for cell in named(cells, ["BAT"], TABLES)] == [0, 1]


def test_the_command_line(capsys):
    assert main(["list", "--table", "stvit_table7", "--seeds", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[:3] == ["stvit_table7", "4", "8"]
    assert main(["tabulate", "--table", "stvit_table7", "--csv"]) == 0
    assert capsys.readouterr().out.startswith("row,printed,seeds,top1,sd,difference")
    for words, message in (
        (["list", "--table", "table99"], "unknown table 'table99'; choose from stvit_table1"),
        (["run", "--rows", "no such"], "unknown row 'no such'; choose from"),
    ):
        with pytest.raises(SystemExit):
            main(words)
        said = capsys.readouterr().err
        assert message in said and len(said.splitlines()) == 1


def test_the_figure_has_a_panel_for_what_is_trained(tmp_path):
    write(tmp_path, DENSE_ROW, 0, 900)
    assert [ax.get_xlabel() for ax in plot(tmp_path).axes] == ["multiply-adds (10⁶)"]
    (methods,) = (table for table in TABLES if table.name == "stvit_table4")
    write(tmp_path, methods.rows[1], 0, 880)
    assert [ax.get_xlabel() for ax in plot(tmp_path).axes] == ["multiply-adds (10⁶)", "top-1 (%)"]
