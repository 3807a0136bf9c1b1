"""Initial cluster centers: partitions, Eqs. 4-5, and what each pooling promises."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from stvit.layers.pooling import POOLINGS, IntraInterPooling, create_pooling, split, token_grid, window_index

LINEAR = [name for name in POOLINGS if name != "max"]


def tokens_for(name: str) -> int:
    return 13 if name == "multi_scale" else 9


@given(st.integers(1, 60).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size))))
def test_split_is_even_and_symmetric(case):
    size, parts = case
    bounds = split(size, parts)
    widths = [end - start for start, end in itertools.pairwise(bounds)]
    assert bounds[0] == 0 and bounds[-1] == size and len(widths) == parts
    assert max(widths) - min(widths) <= 1 and max(widths) == math.ceil(size / parts)
    if size % 2 == 0 or parts % 2 == 1:
        assert widths == widths[::-1]


def test_fourteen_in_four_parts_as_the_paper_needs_it():
    assert split(14, 4) == [0, 3, 7, 11, 14]


@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 6), st.integers(1, 6))
def test_windows_partition_the_map(height, width, h, w):
    h, w = min(h, height), min(w, width)
    windows, (a, b) = window_index((height, width), (h, w))
    assert len(windows) == h * w and all(len(window) == a * b for window in windows)
    real = [number for window in windows for number in window if number >= 0]
    assert sorted(real) == list(range(height * width))


@pytest.mark.parametrize(
    "tokens,grid", [(16, (4, 4)), (12, (3, 4)), (7, (1, 7)), ((2, 5), (2, 5)), (1, (1, 1))]
)
def test_token_grid(tokens, grid):
    assert token_grid(tokens) == grid


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("grid", [(6, 6), (7, 9), (12, 8)])
def test_assignment_is_row_stochastic_and_yields_the_centers(name, grid):
    pool = create_pooling(name, 32, tokens_for(name), (6, 6)).eval()
    x = torch.randn(2, grid[0] * grid[1], 32)
    centers, weights = pool(x, grid), pool.assignment(x, grid)
    assert centers.shape == (2, pool.num_tokens, 32) and weights.shape == (2, pool.num_tokens, x.shape[1])
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, pool.num_tokens))
    if name in LINEAR:
        torch.testing.assert_close(weights @ x, centers, atol=1e-5, rtol=0)
    assert (weights.sum(1) > 0).all() or name == "max", "a token that no center looks at"


@pytest.mark.parametrize("name", POOLINGS)
def test_constant_map_gives_constant_centers(name):
    pool = create_pooling(name, 32, tokens_for(name), (7, 9))
    x = torch.randn(1, 1, 32).expand(2, 63, 32)
    torch.testing.assert_close(pool(x, (7, 9)), x[:, : pool.num_tokens], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["intra_inter", "intra", "mean", "max"])
def test_one_center_a_token_is_the_identity(name):
    pool, x = create_pooling(name, 32, (5, 6), (5, 6)), torch.randn(2, 30, 32)
    torch.testing.assert_close(pool(x, (5, 6)), x, atol=1e-6, rtol=0)


def by_hand(pool: IntraInterPooling, x: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Eqs. 4-5 window by window, with slices and no padding trick where the windows are whole."""
    b, c = x.shape[0], x.shape[2]
    fmap = x.view(b, *grid, c)
    rows, columns = split(grid[0], pool.tokens[0]), split(grid[1], pool.tokens[1])

    def score(net, maps):  # Eq. 4 on (B, h, w, C)
        y = net.depthwise(maps.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return net.pointwise(F.gelu(net.norm(y)))

    windows = [
        fmap[:, top:bottom, left:right]
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(columns)
    ]
    masks = [score(pool.intra, window).flatten(1) for window in windows]  # M_i
    hats = torch.stack(
        [(m.softmax(1)[..., None] * win.flatten(1, 2)).sum(1) for m, win in zip(masks, windows, strict=True)],
        1,
    )
    offsets = score(pool.inter, hats.view(b, *pool.tokens, c)).flatten(1, 2)  # O
    return torch.stack(
        [
            ((m + offsets[:, i]).softmax(1)[..., None] * win.flatten(1, 2)).sum(1)
            for i, (m, win) in enumerate(zip(masks, windows, strict=True))
        ],
        1,
    )


def test_equations_4_and_5_by_hand():
    pool = IntraInterPooling(32, (2, 3), (8, 9)).double()
    for parameter in pool.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 72, 32, dtype=torch.float64)
    torch.testing.assert_close(pool(x, (8, 9)), by_hand(pool, x, (8, 9)))


@pytest.mark.parametrize("name", ["intra_inter", "intra"])
def test_windows_do_not_leak(name):
    """The first centers depend on their own window's tokens only through M and O (Eq. 5)."""
    pool, grid = create_pooling(name, 16, 16, (14, 14)), (14, 14)
    x = torch.randn(1, 196, 16, requires_grad=True)
    weights = pool.assignment(x, grid)
    assert (weights[0, 0].view(14, 14)[3:] == 0).all() and (weights[0, 0].view(14, 14)[:, 3:] == 0).all()
    if name == "intra":
        pool(x, grid)[0, 0].sum().backward()
        seen = x.grad[0].abs().sum(-1).view(14, 14) > 0
        assert seen[:3, :3].all() and not seen[3:].any() and not seen[:, 3:].any()


def test_overlap_is_the_papers_at_fourteen():
    pool, x = create_pooling("overlap", 8, 25, (14, 14)), torch.randn(2, 196, 8)
    want = F.avg_pool2d(x.transpose(1, 2).view(2, 8, 14, 14), kernel_size=6, stride=2)  # overlap 4
    torch.testing.assert_close(pool(x, (14, 14)), want.flatten(2).transpose(1, 2))


def test_multi_scale_is_nine_and_sixteen():
    assert create_pooling("multi_scale", 8, 25, (14, 14)).scales == (3, 4)


def test_new_parameters_are_as_few_as_the_paper_says():
    """DeiT-T has 5.717 M parameters: intra alone adds 0.04 %, intra and inter 0.14 % (not 0.05 %)."""
    deit_tiny = 5_717_416
    pools = {name: create_pooling(name, 192, 16, (14, 14)) for name in ("intra", "intra_inter")}
    count = {name: sum(p.numel() for p in pool.parameters()) for name, pool in pools.items()}
    assert round(100 * count["intra"] / deit_tiny, 3) == 0.044
    assert round(100 * count["intra_inter"] / deit_tiny, 3) == 0.138


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 5), st.integers(6, 14), st.integers(6, 14))
def test_any_grid_at_least_as_fine_as_the_tokens(side, height, width):
    pool = IntraInterPooling(16, side * side, (6, 6))
    assert pool(torch.randn(1, height * width, 16), (height, width)).isfinite().all()


def test_bad_requests_say_what_would_fit():
    with pytest.raises(ValueError, match="400 semantic tokens as a 20 × 20 grid do not fit a map of 14 × 14"):
        create_pooling("mean", 8, 400, (14, 14))
    with pytest.raises(ValueError, match="unknown pooling 'median'; choose one of intra_inter, intra, mean"):
        create_pooling("median", 8, 16, (14, 14))
    with pytest.raises(ValueError, match=r"which 16 is not; try one of \[5, 13, 25\]"):
        create_pooling("multi_scale", 8, 16, (14, 14))
    with pytest.raises(ValueError, match="at least 1, not 0"):
        token_grid(0)
    with pytest.raises(ValueError, match="do not fit a map of 3 × 3"):
        create_pooling("mean", 8, 16, (14, 14))(torch.randn(1, 9, 8), (3, 3))
