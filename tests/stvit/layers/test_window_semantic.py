"""Semantic tokens in windows: initializations and positions of the ablations, against loops and limits."""

import itertools

import pytest
import torch
from micro_swin import IMAGE, build, images

from stvit.layers.window_centers import GridPosition, WindowInitialization
from stvit.layers.window_semantic import RelativePosition, Windows
from stvit.layers.windows import neighbourhoods, restore_table, window_table


def zero(model: torch.nn.Module, *suffixes: str) -> torch.nn.Module:
    with torch.no_grad():
        found = [p for name, p in model.named_parameters() if name.endswith(suffixes)]
        assert found
        for parameter in found:
            parameter.zero_()
    return model


def share(target: torch.nn.Module, source: torch.nn.Module) -> torch.nn.Module:
    target.load_state_dict(source.state_dict(), strict=False)
    return target


@pytest.mark.parametrize("size", [IMAGE, (96, 120)])
def test_without_g_the_learned_encoding_is_the_usual_layer(size):
    learned = zero(build("swin G as keys"), "centers.weight")
    usual = share(build("swin"), learned)
    assert learned.state_dict().keys() == usual.state_dict().keys()
    with torch.no_grad():
        torch.testing.assert_close(learned(images(size)), usual(images(size)), atol=1e-5, rtol=0)


def test_with_g_it_is_another_function():
    learned = build("swin G as keys")
    for name, parameter in learned.named_parameters():
        if name.endswith("centers.weight"):
            torch.nn.init.normal_(parameter, std=30)
    usual = share(build("swin"), learned)
    with torch.no_grad():
        assert (learned(images(IMAGE)) - usual(images(IMAGE))).abs().max() > 1e-3


@pytest.mark.parametrize("position", ["learned", "conditional", "relative"])
@pytest.mark.parametrize("size", [IMAGE, (96, 120)])
def test_positions_of_zero_change_nothing(position, size):
    row = f"swin {position} positions"
    model = zero(build(row), "position.0.weight", "depthwise.weight", "depthwise.bias", "relative.table")
    with torch.no_grad():
        torch.testing.assert_close(
            model(images(size)), share(build("swin"), model)(images(size)), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("position", ["learned", "conditional", "relative"])
def test_positions_learn_and_escape_weight_decay(position):
    model = build(f"swin {position} positions").train()
    model(images(IMAGE)).sum().backward()
    fresh = [n for n, _ in model.named_parameters() if ".position." in n or "relative.table" in n]
    assert fresh and all(dict(model.named_parameters())[n].grad.abs().sum() > 0 for n in fresh)
    if position != "conditional":
        assert set(fresh) <= model.no_weight_decay()


def test_relative_bias_is_that_of_the_offset():
    grid, heads = (4, 6), 3
    relative = RelativePosition((3, 5), heads)
    table = window_table(grid, (2, 2))
    windows = Windows(table, neighbourhoods(grid, (2, 2), (4, 4)), restore_table(grid, (2, 2)))
    for given, rows in ((windows, len(table)), (None, 1)):
        found = relative(given, grid)
        assert found.mask.shape == (rows, heads, found.queries.shape[1], found.keys.shape[1])
        for w, q, k in itertools.product(*map(range, (rows, found.queries.shape[1], found.keys.shape[1]))):
            (y, x), (v, u) = (divmod(int(t[w, i]), 6) for t, i in ((found.queries, q), (found.keys, k)))
            row, column = max(-2, min(2, v - y)) + 2, max(-4, min(4, u - x)) + 4
            assert torch.equal(found.mask[w, :, q, k], relative.table[row, column])


def test_global_initialization_has_not_seen_the_image():
    initial = WindowInitialization(2, (7, 7), (4, 4), 8)
    a, b = initial(torch.randn(3, 196, 8), (14, 14)), initial(torch.zeros(1, 196, 8), (14, 14))
    assert torch.equal(a, initial.weight.expand(3, -1, -1)) and torch.equal(b[0], initial.weight)
    assert initial(torch.randn(2, 21 * 9, 8), (21, 9)).shape == (2, 6 * 4, 8)  # interpolated


def test_conditional_position_is_a_convolution_on_the_grid():
    position, s = GridPosition(4), torch.randn(2, 6, 4)
    expected = s + position.depthwise(s.view(2, 2, 3, 4).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).reshape(
        2, 6, 4
    )
    torch.testing.assert_close(position(s, (2, 3)), expected)
