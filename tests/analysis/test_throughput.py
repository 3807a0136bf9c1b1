"""The benchmark's numbers follow from its clock by the definitions; how fast anything is, no test says."""

import json
import math
import statistics

import pytest
import torch
from torch import nn

from analysis.throughput import __main__ as command
from analysis.throughput import breakeven, memory, specs, table, variants
from analysis.throughput.measure import TimedCell, measure
from analysis.throughput.turns import LEAST_ROUNDS, Patience, take_turns
from analysis.throughput.variants import Mode, Variant, Workload

PAIR = ("micro_deit", "micro_stvit")
QUICK = Patience(rounds=3, warmup=1, turn=0)
SMALL = ["--batch-size", "2", "--threads", "1", "--rounds", "3", "--turn", "0"]


class FakeTime:
    """Runs that take the time they are told to, and a clock that knows."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def clock(self) -> float:
        return self.now

    def run(self, name: str, durations):
        durations = iter(durations)

        def call() -> None:
            self.order.append(name)
            self.now += next(durations)

        return call


def test_turns_alternate_and_are_timed_each():
    fake = FakeTime()
    runs = [fake.run("A", [9, 1, 2, 3]), fake.run("B", [9, 10, 20, 30])]
    turns = take_turns(runs, Patience(rounds=3, warmup=1, turn=0), clock=fake.clock)
    assert "".join(fake.order) == "AB" * 4
    assert turns.seconds == [[1, 2, 3], [10, 20, 30]] and turns.calls == 1


def test_a_turn_is_as_many_calls_as_fill_it():
    fake = FakeTime()
    runs = [fake.run("A", [0.25] * 100), fake.run("B", [0.5] * 100)]
    turns = take_turns(runs, Patience(rounds=2, warmup=1, turn=1), clock=fake.clock)
    assert "".join(fake.order) == "AB" + "AAAABBBB" * 2
    assert turns == ([[0.25, 0.25], [0.5, 0.5]], 4)


def test_seconds_end_the_rounds_but_leave_five():
    for limit, rounds in ((0.0, LEAST_ROUNDS), (60.0, 6), (1e9, 20)):
        fake = FakeTime()
        runs = [fake.run("A", [4] * 99), fake.run("B", [6] * 99)]
        turns = take_turns(runs, Patience(rounds=20, warmup=0, seconds=limit, turn=0), clock=fake.clock)
        assert [len(seconds) for seconds in turns.seconds] == [rounds, rounds]


def test_ratio_is_the_median_over_pairs():
    base, own = [4.0, 9.0, 10.0], [2.0, 3.0, 10.0]  # twice, three times, once as fast; the medians say 3
    found = table.speed_up(base, own)
    assert found == (2.0, 1.5, 2.5)
    assert statistics.median(base) / statistics.median(own) == 3.0
    assert table.speed_up([3.0], [2.0]) == (1.5, 1.5, 1.5)


def test_realised_share():
    """A time saved of 30 % where 40 % of the FLOPs are saved; all of it at the limit; undefined for the base."""
    assert table.realised(1 / 0.7, 0.6) == pytest.approx(0.75)
    assert table.realised(2.4, 1 / 2.4) == pytest.approx(1)
    assert table.realised(0.8, 0.5) == pytest.approx(-0.5)
    assert table.realised(1.3, 1.0) is None


def test_a_row_follows_from_its_seconds():
    work = Workload((4, 8, 8), batch_size=6)
    times = table.Times(own=[2.0, 3.0, 4.0], base=[4.0, 9.0, 4.0], first=[2.0, 3.0, 8.0])
    row = table.row(Variant("b", Mode("off", compiled=True)), work, 6, times, 3e9, 4e9, "a, eager")
    assert row["clips_per_second"] == 2 and row["frames_per_second"] == 8 and "images_per_second" not in row
    assert row["milliseconds"] == 3000 and row["ratio"] == 2 and row["time_ratio"] == 0.5
    assert row["ratio_to_first"] == 1 and row["limit"] == pytest.approx(4 / 3) and row["flops_ratio"] == 0.75
    assert row["realised"] == 2 and row["mode"] == "attention off, compiled" and row["image_size"] == "4x8x8"


def test_rows_of_two_models_side_by_side(capsys):
    command.main(["--models", ",".join(PAIR), *SMALL, "--json", "-"])
    base, sparse = json.loads(capsys.readouterr().out)
    assert (base["model"], sparse["model"]) == PAIR and base["image_size"] == "48x48"
    assert base["ratio"] == base["flops_ratio"] == base["memory_ratio"] == 1 and base["realised"] is None
    assert 0 < sparse["flops_ratio"] < 1 and sparse["ratio_q1"] <= sparse["ratio"] <= sparse["ratio_q3"]
    assert sparse["time_ratio"] == pytest.approx(1 / sparse["ratio"])
    assert sparse["realised"] == pytest.approx((1 - sparse["time_ratio"]) / (1 - sparse["flops_ratio"]))
    assert sparse["held_mb"] > base["held_mb"] > 0 and sparse["memory_mb"] > sparse["held_mb"]
    assert sparse["rounds"] == 3 and sparse["threads"] == 1


def test_each_mode_has_its_own_base(monkeypatch):
    """In each mode the first model is the base; what cannot be had in a mode is left out and said."""
    import stvit

    def optimize(model: nn.Module) -> nn.Module:
        if type(model).__name__ == "ReducedViT":
            raise ValueError("no reductions")
        return model

    monkeypatch.setattr(stvit, "optimize", optimize)
    cell = TimedCell((*PAIR, "micro_meanpool"), Workload((48, 48), 1), (Mode("off"), Mode(optimized=True)))
    found = measure([cell], QUICK, threads=1, track_memory=False)
    assert [(row["model"], row["against"]) for row in found.rows] == [
        ("micro_deit", "micro_deit, attention off"),
        ("micro_stvit", "micro_deit, attention off"),
        ("micro_meanpool", "micro_deit, attention off"),
        ("micro_deit", "micro_deit, optimized"),
        ("micro_stvit", "micro_deit, optimized"),
    ]
    assert [row["ratio"] == 1 for row in found.rows] == [True, False, False, True, False]
    assert len(found.notes) == 1 and "micro_meanpool, optimized" in found.notes[0]
    assert "no reductions" in found.notes[0]


def test_attention_is_switched_in_every_layer_and_computes_the_same():
    images = torch.randn(1, 3, 64, 64)
    outputs = []
    for attention in ("on", "off"):
        torch.manual_seed(0)
        model = Variant("micro_stvit_swin", Mode(attention)).build(Workload((64, 64)))
        switched = [module.fused_attn for module in model.modules() if hasattr(module, "fused_attn")]
        assert len(switched) == 15 and set(switched) == {attention == "on"}
        outputs.append(model(images))
    assert torch.allclose(*outputs, atol=1e-5)


def test_grouped_layers_compute_the_same_in_groups(monkeypatch):
    from stvit.fast import groups

    calls = []
    monkeypatch.setattr(groups, "GROUP", 1)  # a byte: an image at a time
    monkeypatch.setattr(
        groups.torch, "cat", lambda parts, cat=torch.cat: calls.append(len(parts)) or cat(parts)
    )
    images, outputs = torch.randn(3, 3, 48, 48), []
    for grouped in (False, True):
        torch.manual_seed(0)
        model = Variant("micro_deit", Mode(grouped=grouped)).build(Workload((48, 48)))
        with torch.inference_mode():
            outputs.append(model(images))
    assert calls == [3] * len(model.blocks) and torch.allclose(*outputs, atol=1e-5)


def test_memory_of_an_optimised_model_holds_its_packed_weights():
    work = Workload((48, 48), 2)
    plain, fast = (
        variants.make_runner(Variant("micro_deit", Mode(optimized=o)).build(work), work, work.inputs())
        for o in (False, True)
    )
    fast.call()
    assert memory.held_bytes(fast.held()) > 0.99 * memory.held_bytes(plain.held())
    with pytest.raises(ValueError, match="inference alone"):
        Variant("micro_deit", Mode(optimized=True)).build(work._replace(task="training step"))


def test_compiled_models_stand_beside_eager_ones(monkeypatch):
    """What compiling does is torch's; here it is that each is asked for once, for its one shape."""
    asked = []
    monkeypatch.setattr(torch, "compile", lambda model, **how: asked.append(how) or model)
    cell = TimedCell(("micro_deit",), Workload((48, 48), 1), (Mode(), Mode(compiled=True)))
    found = measure([cell], QUICK, threads=1)
    assert [row["mode"] for row in found.rows] == ["eager", "compiled"] and not found.notes
    assert found.rows[1]["ratio"] == 1 and found.rows[1]["ratio_to_first"] > 0
    assert asked == [{"dynamic": False}] and torch._dynamo.config.fail_on_recompile_limit_hit


def test_a_training_step_trains_and_needs_more_memory():
    torch.manual_seed(0)
    work = Workload((48, 48), 2, task="training step")
    model = Variant("micro_stvit").build(work)
    before = model.head.weight.clone()
    runner = variants.make_runner(model, work, work.inputs())
    plain = memory.held_bytes(runner.held())
    runner.call()
    assert not torch.equal(model.head.weight, before) and all(p.grad is None for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters())
    assert memory.held_bytes(runner.held()) - plain == 4 * (2 * trained + len(list(model.parameters())))


def test_images_from_files_reach_the_model():
    cell = TimedCell(("micro_deit",), Workload((48, 48), 2, task="end to end"))
    (row,) = measure([cell], Patience(rounds=1, warmup=0), threads=1, workers=0).rows
    assert row["task"] == "end to end" and row["images_per_second"] > 0 and "memory_mb" not in row
    assert row["milliseconds"] == pytest.approx(2e3 / row["images_per_second"])
    assert row["loader_images_per_second"] > 0


def test_clips_are_counted_in_frames_too():
    found = measure(
        [TimedCell(("micro_video_swin",), Workload(specs.default_size(("micro_video_swin",)), 1))], QUICK
    )
    (row,) = found.rows
    assert row["image_size"] == "8x32x32" and row["frames_per_second"] == 8 * row["clips_per_second"]


def test_loader_gives_every_file_once(tmp_path):
    from analysis.throughput import jpegs

    jpegs.write_files(tmp_path, 6)
    work = Workload((48, 40), 4)
    batches = [images for images, _ in jpegs.make_loader(tmp_path, work, workers=0)]
    assert [tuple(images.shape) for images in batches] == [(4, 3, 48, 40), (2, 3, 48, 40)]
    assert len({float(image.sum()) for images in batches for image in images}) == 6
    with pytest.raises(ValueError, match="clips"), jpegs.feeding_from_files(Workload((8, 48, 48)), 0):
        pass


def test_memory_is_exact():
    """Three thousand floats at the worst moment; what comes later and is smaller does not matter."""

    def run() -> None:
        first = torch.empty(1000)
        second = torch.empty(2000)
        del second
        third = torch.empty(500)
        del first, third

    assert memory.peak_bytes(run) == 4 * 3000
    assert memory.peak_bytes(lambda: None) == 0


def test_memory_of_a_forward_is_that_of_its_largest_moment():
    """x·W₁ᵀ and its GELU at once; the second product is smaller."""
    model = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 8))
    work = Workload((1, 1), 5)
    runner = variants.make_runner(model, work, torch.randn(5, 8))
    runner.call()
    assert memory.peak_bytes(runner.call) == 4 * 5 * (64 + 64)
    assert memory.held_bytes(runner.held()) == 4 * (8 * 64 + 64 + 64 * 8 + 8)
    shared = torch.zeros(10)
    assert memory.held_bytes([shared, shared[:3], shared.view(2, 5)]) == 40


def rows_of(axis: str, values, ratios, **other) -> list[dict]:
    setting = dict(model="b", mode="eager", task="inference", precision="float32", device="cpu",
                   four_maps=False, against="a, eager", batch_size=1, image_size="224x224")  # fmt: skip
    pairs = zip(values, ratios, strict=True)
    return [{**setting, **other, axis: v, "ratio": r, "ratio_q1": r - 0.15} for v, r in pairs]


def test_break_even_is_where_it_stays_above_one():
    rows = rows_of("batch_size", [16, 1, 2, 4, 8], [1.5, 1.3, 0.9, 1.1, 1.2])
    (found,) = breakeven.break_even(rows).to_dict("records")
    assert found["swept"] == "batch_size" and found["pays_from"] == 4 and found["clearly_from"] == 8
    assert found["measured"] == "1, 2, 4, 8, 16" and found["image_size"] == "224x224"
    sizes = rows_of("image_size", ["100x300", "64x64", "224x224"], [0.9, 0.8, 0.95])
    (found,) = breakeven.break_even(sizes).to_dict("records")
    assert found["measured"] == "64x64, 100x300, 224x224" and found["pays_from"] is None
    assert breakeven.break_even(rows[:1]).empty
    assert breakeven.break_even(rows_of("batch_size", [1, 2], [1, 1], model="a")).empty


def test_options_of_a_model():
    spec = "name:semantic_window=2:pooling=max"
    assert specs.split(spec) == ("name", {"semantic_window": 2, "pooling": "max"})
    assert specs.split_list("a:depths=(2, 2, 6, 2),b,c:x=[1,2]") == (
        "a:depths=(2, 2, 6, 2)",
        "b",
        "c:x=[1,2]",
    )
    with pytest.raises(ValueError, match="no option=value"):
        specs.split("name:fast")


def test_models_are_built_for_their_size():
    assert specs.default_size(("micro_swin",)) == (64, 64)
    assert specs.resolve("micro_stvit", (48, 48)) == ("micro_stvit", {})
    assert specs.resolve("micro_stvit", (96, 72)) == ("micro_stvit", {"img_size": (96, 72)})
    swin = "swin_tiny_patch4_window7_224"
    assert specs.resolve(swin, (64, 64), dense=True)[1] == {"features_only": True, "strict_img_size": False}
    assert specs.resolve("torchvision.swin3d_t", (8, 64, 64)) == ("torchvision.swin3d_t", {})
    assert specs.build("micro_stvit", (96, 72)).patch_embed.grid_size == (16, 12)
    assert len(specs.build("micro_stvit_r_swin", (64, 64), dense=True)(torch.zeros(1, 3, 64, 64))) == 4


def test_command_line_makes_the_product_of_its_lists():
    args = command.parser().parse_args(
        ["--models", "micro_deit,micro_stvit", "--batch-size", "1,4", "--image-size", "48,96x48", "--compile",
         "--precision", "float32,bf16", "--fused", "on,off", "--optimize", "--end-to-end"]
    )  # fmt: skip
    found = command.cells(args)
    assert len(found) == 2 * 2 * 2 * 2 and all(len(cell.variants()) == 2 * 2 * 2 * 2 for cell in found)
    assert {cell.work.size for cell in found} == {(48, 48), (96, 48)}
    assert {cell.work.task for cell in found} == {"inference", "end to end"}
    assert found[0].modes[0] == Mode() and Mode("off", True, True) in found[0].modes
    assert not any(mode.grouped for mode in found[0].modes)
    assert command.patience(command.parser().parse_args(["--rounds", "2"])) == Patience(rounds=2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models", "no_such_model"], "no model 'no_such_model'"),
        (["--models", "micro_deit:fast"], "no option=value"),
        (["--fused", "maybe"], "choose from on, off, default"),
        (["--image-size", "3x"], "no image size"),
        (["--batch-size", "0"], "no whole number"),
        (["--suite", "deit,nope"], "unknown suite 'nope'"),
        (["--precision", "int3"], "choose from float32, bf16"),
    ],
)
def test_errors_say_what_to_do(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(words)
    assert stop.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_that_is_said(capsys):
    with pytest.raises(SystemExit):
        command.main(["--models", "micro_deit", "--device", "cuda"])
    assert "no CUDA device" in capsys.readouterr().err


def test_extent():
    assert breakeven.extent(8) == 8 and breakeven.extent("2x3x4") == 24
    assert math.isclose(breakeven.extent("224x224"), 224**2)
