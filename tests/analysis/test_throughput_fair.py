"""Against a like dense model, in other runtimes, along sweeps, by kinds of overhead, and what a stopped run leaves."""

import json

import pandas as pd
import pytest
import torch

from analysis.throughput import breakeven, readme, report, split
from analysis.throughput.alike import beside_alike
from analysis.throughput.crossover import crossover
from analysis.throughput.measure import TimedCell, measure
from analysis.throughput.suites import EAGER, SUITES, cell, squares
from analysis.throughput.turns import Patience
from analysis.throughput.unfinished import Unfinished
from analysis.throughput.variants import ALIKE, Mode, Variant, Workload

QUICK = Patience(rounds=3, warmup=1, turn=0)
PAIR = ("micro_deit", "micro_stvit")
SETTING = dict(task="inference", image_size="48x48", precision="float32", device="cpu", four_maps=False)


def row(model: str, mode: str, to_first: float, batch: int = 8, **other) -> dict:
    own = dict(model=model, mode=mode, batch_size=batch, against=f"dense, {mode}", ratio=to_first)
    return {**SETTING, **own, "ratio_to_first": to_first, **other}


def test_a_ratio_to_the_like_dense_model_is_of_the_same_workload():
    rows = [row("dense", "eager", 1.0), row("sparse", "eager", 2.4), row("dense", str(ALIKE), 1.2),
            row("sparse", "compiled", 3.0), row("sparse", "eager", 2.0, batch=1)]  # fmt: skip
    found = [one["ratio_alike"] for one in beside_alike(rows)]
    assert found == [pytest.approx(1 / 1.2), pytest.approx(2.0), 1.0, 3.0, None]


def test_named_runs_time_the_like_dense_model_beside_eager_inference_alone():
    eager = cell(PAIR, 2, size=(48, 48))
    assert [str(one.mode) for one in eager.variants()] == ["eager", "eager", "optimized, grouped"]
    assert eager.variants()[-1] == Variant(PAIR[0], ALIKE)
    assert not cell(PAIR, 2, EAGER, ALIKE).more and not cell(PAIR, 2, task="training step").more
    assert not cell(PAIR, 2, precision="bf16").more
    assert {len(one.more) for one in SUITES["peers"].cells} == {1}


def test_break_even_by_flops_is_the_largest_share_below_which_it_stays_faster():
    ratios = {0.9: 0.8, 0.8: 1.1, 0.6: 0.95, 0.4: 1.3, 0.3: 1.9}
    rows = [
        {"model": f"b:keep_rate={share}", "mode": "eager", "batch_size": 8, "image_size": "224x224",
         "flops_ratio": share, "ratio": ratio, "ratio_q1": ratio - 0.4} for share, ratio in ratios.items()
    ]  # fmt: skip
    (found,) = breakeven.break_even_by_flops(rows).to_dict("records")
    assert (found["pays_at"], found["clearly_at"]) == (0.4, 0.3) and found["measured"].startswith(
        "0.90, 0.80"
    )
    assert breakeven.break_even_by_flops([{**rows[0], "model": "b"}]).empty


def test_operators_are_of_the_innermost_range():
    plan, merge = [split.SCORES, split.MERGE, "model"], [split.MERGE, "model"]
    assert split.kind_of("aten::topk", plan) == "sort" and split.kind_of("aten::bmm", plan) == "scores"
    assert (
        split.kind_of("aten::bmm", merge) == "merge"
        and split.kind_of("aten::scatter_add_", merge) == "gather"
    )
    assert split.kind_of("aten::bmm", ["model"]) is None


def test_overhead_is_split_without_a_trace_left_on_the_models():
    frame = split.split(
        TimedCell((*PAIR, "micro_bat", "micro_tome"), Workload((48, 48), 2)), rounds=1, threads=1
    )
    assert frame.model.tolist() == ["micro_stvit", "micro_bat", "micro_tome"]
    assert (frame[["scores", "merge"]] > 0).all(axis=None) and (
        frame[frame.model != "micro_stvit"].sort > 0
    ).all()
    assert frame.overhead_share.between(0, 1).all()
    assert frame[list(split.KINDS)].sum(axis=1).tolist() == pytest.approx(
        (frame.overhead_share * frame["all"]).tolist()
    )
    model = Variant("micro_bat").build(Workload((48, 48)))
    with split.watched(model):
        assert any("reduce" in vars(block) for block in model.blocks)
    assert not any({"reduce", "plan", "forward"} & set(vars(module)) for module in model.modules())


def test_a_stopped_run_goes_on_where_it_was(tmp_path, monkeypatch):
    cells = [TimedCell(PAIR, Workload((48, 48), batch)) for batch in (1, 2)]
    asked = []

    def stop_at_two(one, patience, **choices):
        asked.append(one.work.batch_size)
        if one.work.batch_size == 2 and len(asked) == 2:
            raise KeyboardInterrupt
        return own(one, patience, **choices)

    from analysis.throughput import measure as module

    own = module.measure_cell
    monkeypatch.setattr(module, "measure_cell", stop_at_two)
    kept = Unfinished("some", {"rounds": 3}, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        measure(cells, QUICK, threads=1, kept=kept, track_memory=False)
    first = json.loads(kept.path(cells[0]).read_text())[0]
    found = measure(
        cells, QUICK, threads=1, kept=Unfinished("some", {"rounds": 3}, tmp_path), track_memory=False
    )
    assert asked == [1, 2, 2] and found.rows[:2] == first and list(found.rows[0]) == list(found.rows[2])
    assert Unfinished("some", {"rounds": 4}, tmp_path).read(cells[0]) is None
    kept.clear()
    assert kept.read(cells[0]) is None


def test_other_runtimes_are_rows_of_the_same_outputs(monkeypatch):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    work = Workload((48, 48), 2)
    modes = (EAGER, *(Mode(runtime=runtime) for runtime in ("onnx", "openvino")))
    found = measure([TimedCell(("micro_stvit",), work, modes)], QUICK, threads=1)
    assert [one["mode"] for one in found.rows] == ["eager", "ONNX Runtime", "OpenVINO"] and not found.notes
    assert "memory_mb" in found.rows[0] and "memory_mb" not in found.rows[1]
    torch.manual_seed(0)
    images, outputs = work.inputs(), []
    for mode in modes:
        torch.manual_seed(0)
        with torch.no_grad():
            outputs.append(Variant("micro_stvit", mode).build(work)(images))
    assert torch.allclose(outputs[0], outputs[1], atol=1e-4) and torch.allclose(
        outputs[0], outputs[2], atol=1e-4
    )
    with pytest.raises(ValueError, match="ONNX Runtime is timed in float32"):
        Variant("micro_stvit", modes[1]).build(work._replace(precision="bf16"))


def test_a_missing_runtime_is_a_note_and_nothing_is_lost(monkeypatch):
    def absent(*_):
        raise ImportError("it needs onnxruntime, which is not installed")

    monkeypatch.setattr("analysis.throughput.deployed.deployed", absent)
    modes = (EAGER, Mode(runtime="onnx"))
    found = measure([TimedCell(PAIR, Workload((48, 48), 1), modes)], QUICK, threads=1, track_memory=False)
    assert [one["model"] for one in found.rows] == list(PAIR)
    assert len(found.notes) == 2 and "ONNX Runtime" in found.notes[0] and "not installed" in found.notes[0]


def test_runtimes_stand_in_columns():
    rows = [row(model, mode, ratio, ratio_q1=ratio - 0.1, ratio_q3=ratio + 0.1, limit=2.4)
            for mode in ("eager", "OpenVINO") for model, ratio in (("dense", 1.0), ("sparse", 2.25))]  # fmt: skip
    (found,) = report.in_columns(pd.DataFrame(rows)).to_dict("records")
    assert found == {"model": "sparse", "batch": 8, "eager": "2.25 (2.15-2.35)", "OpenVINO": "2.25 (2.15-2.35)",
                     "by FLOPs": 2.4}  # fmt: skip


def test_one_figure_has_a_panel_for_each_sweep_and_one_for_overhead():
    quick = dict(patience=QUICK, threads=1, track_memory=False)
    frames = {
        "batch": measure(
            [cell(PAIR, batch, size=size) for size in squares(48) for batch in (1, 2)], **quick
        ).frame,
        "rates": measure(
            [cell((PAIR[0], *(f"micro_bat:keep_rate={rate}" for rate in (0.9, 0.5))), 1, size=(48, 48))],
            **quick,
        ).frame,
    }
    overhead = split.split(TimedCell((*PAIR, "micro_bat"), Workload((48, 48), 1)), rounds=1, threads=1)
    fig = crossover(frames, overhead)
    labels = [ax.get_xlabel() for ax in fig.axes if ax.axison]
    assert labels[:2] == ["batch", "FLOPs, of the dense model's"] and labels[2].startswith("overhead")


def test_widths_stand_beside_the_dense_model_of_their_own_size():
    sizes = {"tiny": 1.2, "small": 1.5, "base": 1.8}
    rows = [
        row(f"{kind}_{size}_patch16_224", "eager", ratio, against=f"deit_{size}_patch16_224, {mode}",
            ratio_q1=ratio, ratio_q3=ratio, limit=2.0)
        for size, fast in sizes.items()
        for kind, ratio in (("deit", 1.0), ("evit_deit", fast))
        for mode in ("eager", "all that is known")
    ]  # fmt: skip
    fig = crossover({"width": pd.DataFrame(rows)}, None)
    measured = next(line for line in fig.axes[0].lines if line.get_label() == "evit")
    assert measured.get_xdata().tolist() == [192, 384, 768] and measured.get_ydata().tolist() == [
        1.2,
        1.5,
        1.8,
    ]


def test_readme_has_the_row_that_the_records_give():
    text = readme.README.read_text(encoding="utf-8")
    assert f"{readme.START}{readme.sentences()}{readme.END}" in text


def test_a_readme_without_the_row_is_left_alone(tmp_path):
    other = tmp_path / "README.md"
    other.write_text("nothing")
    with pytest.raises(ValueError, match="has no row"):
        readme.write(readme=other)
    assert other.read_text() == "nothing"
