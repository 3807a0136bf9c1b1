"""Attention maps: each measure on maps whose answer is known, and the figures of live models."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from analysis import attention_maps
from analysis.attention_maps import __main__ as command
from analysis.attention_maps import measure, report, swin
from analysis.attention_maps.capture import capture, class_attention, image_relevance, rollout
from analysis.attention_maps.draw import draw, heads
from analysis.images import normalised, photo
from analysis.shared.models import open_model

torch.set_num_threads(1)


def even(*shape):
    return torch.full(shape, 1 / shape[-1])


def test_vertical_lines_are_found():
    lines = torch.zeros(2, 3, 40, 40)
    lines[..., [3, 20]] = 0.5
    assert measure.top_column_share(lines) == (1.0, 0.05) and measure.row_overlap(lines) == pytest.approx(1)
    share, chance = measure.top_column_share(even(2, 3, 40, 40))
    assert share == pytest.approx(chance)
    own = torch.eye(40).expand(2, 3, -1, -1)  # everyone looks at itself: no line
    assert measure.top_column_share(own)[0] == pytest.approx(0.05) and measure.row_overlap(
        own
    ) == pytest.approx(0)


def test_row_overlap_is_what_its_formula_says():
    maps = torch.rand(3, 5, 12, generator=torch.Generator().manual_seed(0))
    maps = maps / maps.sum(-1, keepdim=True)
    pairs = [
        float(torch.minimum(m[i], m[j]).sum()) for m in maps for i in range(5) for j in range(5) if i != j
    ]
    assert measure.row_overlap(maps) == pytest.approx(np.mean(pairs), abs=1e-6)


def test_rank_correlation_agrees_with_scipy():
    from scipy.stats import spearmanr

    a, b = torch.rand(2, 6, 30, generator=torch.Generator().manual_seed(1))
    expected = np.mean([spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)])
    assert measure.rank_correlation(a, b) == pytest.approx(expected, abs=1e-5)
    assert measure.rank_correlation(a, a.exp()) == pytest.approx(1, abs=1e-6)
    assert measure.top_overlap(a, a)[0] == 1 and measure.top_overlap(a, -a)[0] == 0


@pytest.mark.parametrize("grid, tokens", [((8, 8), (4, 4)), ((8, 12), (2, 3)), ((14, 14), (4, 4))])
def test_locality_of_windows_and_of_even_maps(grid, tokens):
    inside = measure.windows(grid, tokens)
    assert (inside.sum(0) == 1).all(), "windows partition the map"
    pooled = inside / inside.sum(1, keepdim=True)
    own = measure.locality(pooled[None], grid, tokens)
    assert own["distance"] == pytest.approx(0, abs=1e-5) and own["window_share"] == pytest.approx(1)
    flat = measure.locality(even(1, *inside.shape), grid, tokens)
    assert flat["window_share"] == pytest.approx(flat["window_even"])
    assert flat["distance"] == pytest.approx(flat["distance_even"], abs=1e-5)


def test_agreement_and_its_chance():
    fixed = torch.zeros(200, 8).index_fill(1, torch.tensor([1]), 1.0)
    found = measure.agreement(fixed)
    assert found["token"] == 2 and found["agree"] == 1.0
    random = measure.agreement(torch.rand(200, 8, generator=torch.Generator().manual_seed(0)))
    assert random["agree"] == pytest.approx(random["chance"], abs=0.06) and 1 / 8 < random["chance"] < 0.25


def test_following_the_object():
    inside = measure.windows((4, 4), (2, 2))
    homes = torch.arange(80) % 4
    marked = inside[homes].float()
    found = measure.follows(torch.nn.functional.one_hot(homes, 4).float(), inside, marked)
    assert found == {"follows_marked": 1.0, "follows_chance": pytest.approx(0.25)}


def test_coverage_of_objects():
    instances = torch.zeros(1, 8, 8, dtype=torch.uint8)
    instances[:, :4, :4] = 1
    covered = measure.owners(instances, (4, 4), 3)  # the object is a quarter of the image
    assert covered.shape == (1, 16, 3) and covered.sum(-1).allclose(torch.ones(1, 16))
    flat = measure.on_objects(even(1, 5, 16), covered)
    assert flat["on_marked"] == pytest.approx(0.25) == flat["on_marked_even"] == flat["on_objects"]


@pytest.fixture(scope="module")
def sparse():
    return open_model("micro_stvit_16")


def test_capture_sorts_the_layers(sparse):
    maps = capture(sparse.model, normalised(photo("scene:1", 48), sparse.model))
    assert (len(maps.base), len(maps.to_image), len(maps.to_semantic), len(maps.after)) == (2, 2, 1, 2)
    whole = maps.to_image[1].sum(-1) + maps.to_semantic[0].sum(-1)
    assert whole.allclose(torch.ones_like(whole), atol=1e-5), "Figure 4a's two parts make up the row"
    relevance = image_relevance(maps)
    assert relevance.shape == (1, 64) and relevance.sum() == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="no class token"):
        class_attention(maps)


def test_kept_class_token_is_left_out_of_semantic_maps():
    import timm

    model = timm.create_model("micro_stvit", class_token=True, global_pool="token").eval()
    maps = capture(model, torch.randn(2, 3, 48, 48))
    assert maps.to_image[1].shape == (2, 4, 4, 64) and maps.to_semantic[0].shape == (2, 4, 4, 4)
    assert maps.after[0].shape == (2, 4, 4, 4) and class_attention(maps).shape == (2, 2, 64)


def test_rollout_of_one_even_layer():
    assert rollout([even(1, 2, 4, 4)])[0, 0].tolist() == pytest.approx([0.625, 0.125, 0.125, 0.125])


def test_measures_of_a_live_model(sparse):
    frame = attention_maps.semantic(sparse, images=8)
    pooling = frame.iloc[0]
    assert pooling.window_share == pytest.approx(1) and pooling.row_overlap == pytest.approx(0, abs=1e-6)
    assert frame.part.tolist()[1:] == ["layer 3, STGM", "layer 4, STGM", "layer 5", "layer 6"]
    rows = attention_maps.layers(open_model("micro_deit_class_token"), images=8)
    assert rows.class_rank_correlation_last.iloc[-1] == pytest.approx(1, abs=1e-5) and len(rows) == 6


@pytest.mark.parametrize("head", [None, 2])
def test_every_figure_of_a_photo(sparse, head):
    drawn = draw(sparse, photo("china", 48), head)
    assert set(drawn) == {"whole_maps", "semantic_1", "semantic_2", "keys_2", "rollout"}
    which = "mean over heads" if head is None else "head 2"
    assert which in drawn["whole_maps"]._suptitle.get_text()
    plt.close("all")


def test_a_head_that_is_none():
    with pytest.raises(ValueError, match="head 9 of a model with heads 1 to 4"):
        heads(even(1, 4, 3, 3), 9)


def test_windows_of_a_swin():
    subject = open_model("stvit_swin_tiny_patch4_window7_224")
    picture = photo("flower", 224)
    found = swin.capture_windows(subject.model, normalised(picture, subject.model))
    assert found.maps.shape == (1, 36, 196) and found.tokens_of(3) == [21, 22, 23, 27, 28, 29, 33, 34, 35]
    assert found.inside(0).sum() == 49 and found.reach(0).sum() == 100
    assert 0 < found.outside_share() < 1
    plt.close(swin.draw(found, picture, subject.label))


SWINS = {
    "micro_swin": ["received"],
    "micro_stvit_swin": ["received", "windows"],
    "micro_stvit_r_swin": ["received", "windows_unit_1", "windows_unit_2"],
}


@pytest.mark.parametrize("name", SWINS)
def test_every_shipped_swin_is_drawn(name):
    from analysis.attention_maps.draw import draw

    subject = open_model(name)
    assert subject.trained
    drawn = draw(subject, photo("scene:0", subject.size))
    assert list(drawn) == SWINS[name]
    plt.close("all")


def test_windows_go_back_to_their_places_on_the_map():
    """Against timm's own rolling and cutting: what a shifted window held comes back where it was."""
    from timm.models.swin_transformer import window_partition

    there = torch.arange(2 * 64.0).reshape(2, 8, 8, 1)
    for shift in (0, 2):
        cut = window_partition(there.roll((-shift, -shift), (1, 2)), (4, 4)).flatten(1)  # (B·windows, 16)
        back = swin.from_windows(cut, (8, 8), (4, 4), (shift, shift), 2)
        assert torch.equal(back, there.flatten(1))


def test_attention_received_sums_to_one_and_is_even_for_even_weights():
    subject = open_model("micro_swin")
    found = swin.capture_received(subject.model, torch.zeros(1, 3, 64, 64))
    assert found.grid == (8, 8) and found.layers == list(range(1, 13))
    torch.testing.assert_close(found.maps.sum(-1), torch.ones(1, 12))


def test_untrained_weights_are_no_evidence():
    row = report.claims.__globals__["_claim"]("1", "c", "m", "x", 0.9, 0.1, "above", trained=False)
    assert row["holds_here"] == "untrained"


def test_report(tmp_path, monkeypatch):
    monkeypatch.setattr(report.real, "real_or_none", lambda: (None, "its weights are not here"))
    judged, table = report.write(tmp_path, images=12)
    assert judged is None
    record = json.loads((tmp_path / "record.json").read_text())
    names = {block["name"] for block in record["blocks"] if block["kind"] == "figure"}
    assert {
        "figure1_left",
        "figure1_right",
        "figure3",
        "figure4a",
        "figure4b",
        "figure4c",
        "figure4d",
    } <= names
    assert table.value.notna().all() and set(table.holds_here) <= {"yes", "no", "reversed", "untrained"}
    assert table[table.figure == "windows"].holds_here.tolist() == ["yes"], "drawn from trained weights"


def test_without_a_checkpoint_the_real_model_speaks_if_it_is_there(monkeypatch, capsys):
    monkeypatch.setattr(report.real, "real_or_none", lambda: (open_model("micro_deit_class_token"), ""))
    monkeypatch.setattr(report.real, "by_crop", lambda subject, images: made_up(len(images)))
    assert command.main(["--csv"]) == 0
    assert "vertical lines in the deep layers" in capsys.readouterr().out
    monkeypatch.setattr(report.real, "real_or_none", lambda: (None, "its weights are not here"))
    assert command.main(["--csv", "--images", "8"]) == 0
    assert "pooling windows" in capsys.readouterr().out


def made_up(crops: int):
    """12 layers, measures that say nothing."""
    return {name: np.full((crops, 12), 0.5) for name in report.real.MEASURES}


def test_command_line(tmp_path, capsys):
    assert command.main(["--image", "scene:4", "--checkpoint", "micro_stvit_4", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "semantic_1.png").exists() and "semantic_1.png" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        command.main(["--image", "nothing.jpg"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.strip().count("\n") == 0
