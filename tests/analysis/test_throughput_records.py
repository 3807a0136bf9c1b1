"""Parts and their roofline, the printed speeds, the named runs, and the page's section from records alone."""

import json
import re
from collections import Counter

import pandas as pd
import pytest
import torch

import analysis.throughput.suites as suites
from analysis.__main__ import JOBS
from analysis.throughput import __main__ as command
from analysis.throughput import printed, report, roofline, specs
from analysis.throughput.measure import TimedCell
from analysis.throughput.one_row import one_row, products
from analysis.throughput.suites import EAGER, OPTIMIZED, SUITES, Suite, for_each, squares
from analysis.throughput.turns import Patience
from analysis.throughput.variants import Workload

QUICK = Patience(rounds=3, warmup=1, turn=0)
PAIR = ("micro_deit", "micro_stvit")


def test_time_of_a_part_within_another_is_its_own():
    now = iter([0, 1, 3, 6, 10, 15])
    watch = roofline.Stopwatch(lambda: next(now))
    watch.enter("the rest")  # at 0
    watch.enter("reduced blocks")  # at 1
    watch.enter("reduction")  # at 3
    watch.leave()  # at 6
    watch.leave()  # at 10
    watch.leave()  # at 15
    assert watch.spent == {"the rest": 1 + 5, "reduced blocks": 2 + 4, "reduction": 3}


def test_flops_of_a_part_within_another_are_its_own():
    found = {"blocks.0": "base blocks", "blocks.1": "reduced blocks", "blocks.1.reduction": "reduction"}
    modules = {"blocks.0": 10, "blocks.1": 25, "blocks.1.reduction": 4, "blocks.1.attn": 9}
    flops = roofline.flops_of_parts(found, modules, total=40)
    assert flops == {"base blocks": 10, "reduced blocks": 21, "reduction": 4, "the rest": 5}


@pytest.mark.parametrize(
    ("spec", "size", "expected"),
    [
        ("micro_deit", 48, {"patch embedding", "base blocks", "head"}),
        ("micro_stvit", 48, {"patch embedding", "base blocks", "pooling", "STGM", "semantic blocks", "head"}),
        ("micro_bat", 48, {"patch embedding", "base blocks", "reduced blocks", "reduction", "head"}),
        ("micro_stvit_r_swin", 64, {"patch embedding", "patch merging", "base blocks", "pooling", "STGM",
                                    "semantic blocks", "recovery", "head"}),
        ("micro_stvit_video_swin", (8, 32, 32), {"patch embedding", "patch merging", "base blocks", "pooling", "STGM",
                                                 "semantic blocks", "head"}),
    ],
)  # fmt: skip
def test_parts_of_every_family(spec, size, expected):
    shape = (size, size) if isinstance(size, int) else size
    model = specs.build(spec, shape)
    assert set(roofline.parts(model).values()) == expected
    counted = specs.count(spec, shape)
    flops = roofline.flops_of_parts(roofline.parts(model), counted.modules, counted.total)
    assert sum(flops.values()) == counted.total and min(flops.values()) >= 0
    assert flops["the rest"] < 0.02 * counted.total


def test_profile_accounts_for_all_time_and_flops():
    frame = roofline.profile(TimedCell(PAIR, Workload((48, 48), 2)), QUICK, threads=1)
    total, parts = frame[frame.part == "all"].set_index("model"), frame[frame.part != "all"]
    for column in (
        "milliseconds",
        "gflops",
        "roofline_milliseconds",
        "one_row_milliseconds",
        "least_milliseconds",
    ):
        assert parts.groupby("model")[column].sum().to_dict() == pytest.approx(total[column].to_dict())
    assert total.times_roofline["micro_deit"] == pytest.approx(1)
    sparse, base = total.loc["micro_stvit"], total.loc["micro_deit"]
    assert sparse.roofline_milliseconds / base.milliseconds == pytest.approx(sparse.gflops / base.gflops)
    roofs = frame[["roofline_milliseconds", "one_row_milliseconds"]].max(axis=1)
    assert (frame.least_milliseconds >= roofs - 1e-9).all()
    assert parts.least_milliseconds.to_list() == pytest.approx(roofs[parts.index].to_list())
    (base, own), said = total.itertuples(), report.in_the_way(frame)
    assert f"{base.milliseconds / own.milliseconds:.2f} times as fast as micro_deit here" in said
    assert f"{base.milliseconds / own.least_milliseconds:.2f} times as fast if each part" in said
    assert report.in_the_way(frame.drop(columns="least_milliseconds")) == ""
    model = specs.build("micro_stvit", (48, 48))
    with roofline.watched(model, roofline.Stopwatch()):
        assert "forward" in vars(model.initial)
    assert not any("forward" in vars(module) for module in model.modules())


def test_calls_are_those_of_each_part():
    model, images = specs.build("micro_stvit", (48, 48)), torch.zeros(2, 3, 48, 48)
    calls = roofline.count_calls(model, images)
    assert set(calls) == {
        "patch embedding",
        "base blocks",
        "pooling",
        "STGM",
        "semantic blocks",
        "head",
        "the rest",
    }
    with torch.inference_mode(), torch.profiler.profile() as seen:
        model(images)
    top = sum(event.count for event in seen.key_averages() if event.key.startswith("aten::"))
    assert 50 < calls.total() <= top  # the profiler sees those within others, too


def test_one_row_goes_through_every_linear_layer_once():
    model = specs.build("micro_stvit", (48, 48))
    found = products(model, roofline.parts(model))
    linear = [module.weight for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert len(found) == len(linear) and all(any(w is own for own in linear) for _, w in found)
    clock = iter(range(10**6))
    spent = one_row(found, roofline.Stopwatch(lambda: next(clock)))
    assert spent == Counter(part for part, _ in found)  # one tick each


def test_printed_speeds_are_held_against_themselves():
    frame = printed.printed()
    row = frame[(frame.source == "STViT, Table 1") & (frame.per_second == 1087)].iloc[0]
    assert not row.consistent and round(row.gain) == 74 and row.printed_gain == 61
    assert row.spec == "stvit_deit_base_patch16_224:num_semantic_tokens=64"
    assert frame.loc[frame.off_by.abs().idxmax()].per_second == 1087  # no other is as far off
    judged = frame[frame.printed_gain.notna()]
    assert len(judged) == 12 + 12 + 2 + 2 + 3 and (judged.consistent == False).sum() == 6 + 6 + 1  # noqa: E712


def test_a_gain_is_consistent_if_some_rounding_gives_it():
    assert printed.consistent(1500, 1000, 50) and not printed.consistent(1500, 1000, 51)
    assert printed.consistent(1508, 1000, 50)  # 50.8 cut off
    assert printed.consistent(1508, 1000, 51)  # rounded
    assert not printed.consistent(1502, 1000, 51)  # rounded up
    assert printed.consistent(15, 10, 55)  # 15.4 / 9.9
    assert printed.consistent(1, 1, float("nan")) is None


def test_flags_beside_the_printed_tables_are_those_computed():
    frame = printed.printed().set_index(["source", "per_second"])
    for number in (2, 3, 6):
        table = pd.read_csv(printed.PAPER / f"stvit_table{number}.csv")
        assert table.row.tolist() == list(range(1, len(table) + 1)) and table.columns[-1] == "contradiction"
        for line in table.to_dict("records"):
            speed = line.get("images_per_second", line.get("frames_per_second"))
            own = frame.loc[(f"STViT, Table {number}", speed)]
            assert isinstance(line["contradiction"], str) == (own.consistent is False), line
            if isinstance(line["contradiction"], str):
                found = re.search(r"is \+(\d+) %, not \+(\d+) %", line["contradiction"])
                assert (int(found[1]), int(found[2])) == (round(own.gain), own.printed_gain)


def test_measured_rows_find_what_is_printed_of_them():
    def find(spec: str, **other) -> tuple:
        row = {"model": spec, "task": "inference", "four_maps": False, "image_size": "224x224", **other}
        (found,) = printed.beside([row])
        return found["printed_per_second"], found["printed_in"]

    assert find("stvit_deit_small_patch16_224") == (2891, "STViT, Table 1")
    assert find("stvit_deit_small_patch16_224:num_semantic_tokens=36") == (2542, "STViT, Table 1")
    assert find("stvit_deit_tiny_patch16_224:class_token=True") == (5511, "STViT, Table 1")
    assert find("stvit_deit_small_patch16_224:pooling=mean") == (None, None)
    assert find("deit_small_patch16_224") == (1408, "STViT, Table 1")
    assert find("bat_deit_small_patch16_224:keep_rate=0.7") == (1468, "BAT, Table 1")
    assert find("stvit_swin_small_patch4_window7_224:semantic_window=2") == (732, "STViT, Table 2")
    assert find("torchvision.swin3d_t", image_size="32x224x224") == (779, "STViT, Table 6")
    assert find("stvit_deit_small_patch16_224", image_size="384x384") == (None, None)
    assert find("stvit_deit_small_patch16_224", task="training step") == (None, None)


def test_named_runs_name_registered_models():
    import timm

    import stvit  # noqa: F401

    names = {
        specs.split(spec)[0] for suite in SUITES.values() for cell in suite.cells for spec in cell.models
    }
    known = {name for name in names if timm.is_model(name)}
    video = {name for name in names if "video" in name or name.startswith(specs.TORCHVISION)}
    assert names - known <= video and {"deit_small_patch16_224", "tome_deit_small_patch16_224"} <= known
    for suite in SUITES.values():
        assert suite.about and suite.cells
        assert {part.work for part in suite.parts} <= {cell.work for cell in suite.cells}


@pytest.fixture()
def tiny(monkeypatch):
    """Two small named runs in the place of the real ones."""
    own = {
        "deit": Suite("pairs", for_each(PAIR, EAGER, OPTIMIZED, sizes=squares(48), batches=(2,)), QUICK,
                      (TimedCell(PAIR, Workload((48, 48), 2)),)),
        "batch": Suite("sweep", for_each(PAIR, sizes=squares(48), batches=(1, 2, 3)), QUICK),
    }  # fmt: skip
    monkeypatch.setattr(suites, "SUITES", own)
    monkeypatch.setattr(report, "SUITES", own)
    return own


def test_records_and_the_section_made_from_them(tiny, tmp_path, monkeypatch, capsys):
    import stvit

    def optimize(model):
        raise ValueError("not this one")

    monkeypatch.setattr(stvit, "optimize", optimize)
    command.main(["--suite", "deit,batch", "--out", str(tmp_path), "--threads", "1"])
    record = json.loads((tmp_path / "measured" / "deit" / "record.json").read_text())
    assert record["config"]["patience"]["rounds"] == 3 and record["config"]["threads"] == 1
    assert record["command"] == "python -m analysis.throughput --suite deit,batch --threads 1"
    assert record["versions"]["torch"] and record["hardware"]
    assert len(record["config"]["notes"]) == 2 and "not this one" in record["config"]["notes"][0]
    rows = report.read(tmp_path, "deit")
    assert rows.model.tolist() == list(PAIR) and rows["rounds"].tolist() == [3, 3]
    assert report.read(tmp_path, "batch", "break_even").measured.tolist() == ["1, 2, 3"]

    section = json.loads((tmp_path / "record.json").read_text())
    shown = {block["name"] for block in section["blocks"] if "name" in block}
    assert shown == {"speed_up", "crossover", "batch", "deit", "deit_parts", "deit_times", "batch_break_even",
                     "printed"}  # fmt: skip
    figures = {block["name"] for block in section["blocks"] if block["kind"] == "figure"}
    assert figures == {"speed_up", "crossover", "deit_times"}
    assert set(section["inputs"]) == {"rows.csv", "parts.csv", "break_even.csv"}
    assert section["config"]["measured"] == ["deit", "batch"]
    assert any("not this one" in block.get("text", "") for block in section["blocks"])
    before = {path: path.read_bytes() for path in tmp_path.glob("*.*") if path.suffix != ".json"}
    command.main(["--report", "--out", str(tmp_path)])
    assert {path: path.read_bytes() for path in before} == before


def test_a_section_of_nothing_measured_says_so(tmp_path):
    report.derive(tmp_path)
    section = json.loads((tmp_path / "record.json").read_text())
    assert "Nothing has been measured" in section["blocks"][0]["text"]
    assert {"throughput"} <= {job.name for job in JOBS}


def test_own_models_can_be_recorded(tmp_path, capsys):
    words = ["--models", "micro_stvit:num_semantic_tokens=9,micro_stvit", "--report", "--name", "tokens"]
    command.main(
        [
            *words,
            "--out",
            str(tmp_path),
            "--rounds",
            "2",
            "--turn",
            "0",
            "--threads",
            "1",
            "--batch-size",
            "1",
        ]
    )
    assert report.read(tmp_path, "tokens").model.tolist() == words[1].split(",")
    assert report.read(tmp_path, "tokens", "parts").part.tolist().count("all") == 2


def test_a_cell_that_fails_is_noted_and_the_others_are_measured(tmp_path):
    cells = (
        TimedCell(("micro_deit",), Workload((48, 48), 1)),
        TimedCell(("no_such",), Workload((48, 48), 1)),
    )
    report.record("some", Suite("some", cells, QUICK), "command", threads=1, folder=tmp_path)
    record = json.loads((tmp_path / "measured" / "some" / "record.json").read_text())
    assert report.read(tmp_path, "some").model.tolist() == ["micro_deit"]
    (note,) = record["config"]["notes"]
    assert "no model 'no_such'" in note
