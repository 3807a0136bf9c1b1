"""What a model costs at sizes of one's own: additivity, crossover, memory, sweeps, refusals."""

import pytest
import timm
import torch

import stvit  # noqa: F401  registers its models
from analysis.complexity import sweep, whatif
from analysis.complexity.whatif import BadInput, Request, closed_form
from analysis.shared.counting import count, create
from analysis.shared.flops.closed_global import deit, stvit_deit
from analysis.shared.flops.readings import Build, readings

SMALL = "stvit_deit_small_patch16_224"


@pytest.mark.parametrize("name", whatif.KNOWN)
def test_every_known_model_answers_with_layers_that_add_up(name):
    cost = closed_form(Request(name))
    table = whatif.layers(cost)
    assert sum(row["total"] for row in table) == cost.total
    assert sum(row["share_percent"] for row in table) == pytest.approx(100)
    dense = whatif.dense_of(Request(name))
    if dense is not None:
        assert closed_form(dense).total > cost.total


def test_the_answer_at_224_is_the_papers_cell():
    for M in (16, 36, 64, 100):
        cell = readings()["STViT", "1", "STViT-DeiT-S", f"M={M}"].cost()
        assert closed_form(Request(SMALL, tokens=M)) == cell
    assert closed_form(Request("deit_base_patch16_224")) == readings()["STViT", "1", "DeiT-B", "base"].cost()


@pytest.mark.parametrize("tokens", [16, 36, 100])
def test_crossover_is_where_the_sign_changes(tokens):
    request = Request(SMALL, tokens=tokens)
    found = whatif.crossover(request)

    def saves(side: int) -> bool:
        here = Request(SMALL, (side, side), tokens)
        return closed_form(here).total < closed_form(whatif.dense_of(here)).total

    assert all(saves(side) for side in range(found.side, 1025, 16))
    try:
        assert not saves(found.side - 16)
    except BadInput as error:  # smaller maps cannot hold the tokens
        assert "do not fit" in str(error)


def test_cost_grows_with_the_fourth_power_of_the_side_in_the_products_alone():
    a, b = (deit(192, grid=(g, g), class_token=False).by("kind") for g in (14, 28))
    assert b["attention products"] == 16 * a["attention products"]
    assert b["FFN"] == 4 * a["FFN"]


def kept_for_backward(model: torch.nn.Module) -> int:
    """Values that autograd keeps for one image: every storage once, parameters and buffers left out."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes() // tensor.element_size(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(torch.zeros(1, 3, 224, 224))
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize(
    ("name", "cost"),
    [("deit_tiny_patch16_224", deit(192)), ("stvit_deit_tiny_patch16_224", stvit_deit(192))],
    ids=["deit", "stvit"],
)
def test_memory_of_activations_is_what_autograd_keeps(name, cost):
    assert cost.values == pytest.approx(kept_for_backward(timm.create_model(name).eval()), rel=0.02)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(SMALL, (390, 390)), "390 is not a multiple of 16; the nearest that fit: 384 or 400"),
        (Request(SMALL, (8, 8)), "the nearest that fit: 16"),
        (Request(SMALL, tokens=400), "the nearest that fit: 169, 182, 196"),
        (
            Request(SMALL, tokens=17),
            "1×17 grid do not fit 14×14 image tokens; the nearest that fit: 15, 16, 18",
        ),
        (Request(SMALL, tokens=0), "--tokens is at least 1"),
        (Request(SMALL, batch=0), "--batch is at least 1"),
        (Request(SMALL, stgm_at=12), "--stgm-at is at most 11"),
        (Request("deit_tiny_patch16_224", tokens=4), "takes no --tokens"),
        (Request("bat_deit_small_patch16_224", keep_rate=1.5), "--keep-rate is above 0"),
        (Request("stvit_swin_tiny_patch4_window7_224", tokens=5), "one of 1, 4, 9"),
        (Request("swin_tiny_patch4_window7_224", (240, 240)), "the nearest that fit: 224 or 256"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.model,
)
def test_requests_that_cannot_be_met_say_what_would_fit(request_, words):
    with pytest.raises(BadInput, match=words.replace("(", r"\(")) as error:
        closed_form(request_)
    assert "\n" not in str(error.value)


def test_models_beyond_the_closed_forms_are_left_to_counting():
    assert closed_form(Request("resnet50")) is None


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("stvit_swin_tiny_patch4_window7_224", (224, 224)),
        ("stvit_swin_tiny_patch4_window7_224", (256, 320)),
        ("stvit_r_swin_small_patch4_window7_224", (224, 224)),
        ("stvit_r_swin_small_patch4_window7_224", (384, 448)),
        ("bat_deit_tiny_patch16_224", (224, 224)),
        ("dynamicvit_deit_tiny_patch16_224", (224, 224)),
        ("evit_lvvit_small_patch16_224", (224, 224)),
        ("stvit_lvvit_small_patch16_224", (224, 224)),
    ],
    ids=str,
)
def test_registered_models_cost_what_the_answer_says(name, size):
    assert count(create(Build(name)), (1, 3, *size)).total == closed_form(Request(name, size)).total


@pytest.mark.parametrize(
    ("words", "first", "last"),
    [(["image-size", "224:1024:32"], 224, 1024), (["tokens", "4:36:4"], 4, 36), (["depth", "6:24:6"], 6, 24)],
)
def test_sweeps(words, first, last):
    axis, values = sweep.parse(words)
    rows, left_out = sweep.rows(Request(SMALL, batch=2), axis, values)
    assert (rows[0][axis], rows[-1][axis]) == (first, last) and len(rows) + len(left_out) == len(values)
    costs = [row["flops"] for row in rows]
    assert costs == sorted(costs)
    here = closed_form(sweep.at(Request(SMALL), axis, first))
    assert rows[0]["flops"] == 2 * here.total


@pytest.mark.parametrize(
    "words", [["side", "1:2:1"], ["tokens", "16"], ["tokens", "9:4:1"], ["tokens", "a:b:c"]]
)
def test_sweeps_that_make_no_sense(words):
    with pytest.raises(BadInput):
        sweep.parse(words)


def test_a_sweep_leaves_out_what_does_not_fit_and_says_so(tmp_path):
    rows, left_out = sweep.rows(Request(SMALL), "tokens", range(16, 20))
    assert [row["tokens"] for row in rows] == [16, 18] and len(left_out) == 2
    paths = sweep.save(sweep.plot(rows, "tokens", SMALL), str(tmp_path / "growth.png"))
    assert paths[0].stat().st_size > 5000
    with pytest.raises(BadInput, match="choose one of"):
        sweep.save(sweep.plot(rows, "tokens", SMALL), str(tmp_path / "growth.doc"))
