"""TokenLinear: nn.Linear by the transposed product, where tokens are few."""

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import stvit
from stvit.fast.token_linear import FEW, TokenLinear, few, for_few_tokens, for_many_tokens


@given(
    shape=st.lists(st.integers(1, 5), max_size=3).map(tuple),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    bias=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_is_the_linear_layer(shape, sizes, bias):
    layer = nn.Linear(*sizes, bias=bias).double()
    x = torch.randn(*shape, sizes[0], dtype=torch.float64)
    with torch.inference_mode():
        found, expected = for_few_tokens(layer)(x), layer(x)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_many_tokens_go_the_usual_way():
    layer = nn.Linear(6, 4)
    x = torch.randn(FEW + 1, 6)
    with torch.inference_mode():
        assert few(x[:FEW]) and not few(x)
    assert torch.equal(for_few_tokens(layer)(x), layer(x))


def test_rows():
    layer, x = for_few_tokens(nn.Linear(6, 12)), torch.randn(2, 3, 6)
    with torch.no_grad():
        torch.testing.assert_close(layer.rows(x, 4, 12), layer(x)[..., 4:], atol=1e-6, rtol=0)
    torch.testing.assert_close(layer.rows(x, 4, 12), layer(x)[..., 4:], atol=1e-6, rtol=0)


def test_training_goes_the_usual_way():
    layer, x = nn.Linear(6, 4), torch.randn(3, 6)
    assert torch.equal(for_few_tokens(layer)(x), layer(x))


def test_swapped_and_swapped_back_with_the_same_parameters():
    block = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.GELU(), nn.Linear(4, 5)))
    quick = for_few_tokens(block)
    assert type(block[0]) is nn.Linear and type(quick[0]) is type(quick[1][1]) is TokenLinear
    assert quick[1][1].weight is block[1][1].weight and quick.state_dict().keys() == block.state_dict().keys()
    assert type(for_many_tokens(quick)[1][1]) is nn.Linear


def test_layers_of_semantic_tokens_have_it_and_the_dense_model_does_not():
    model = timm.create_model("micro_stvit")
    first = model.stgm.start
    kinds = [{type(m) for m in block.modules() if isinstance(m, nn.Linear)} for block in model.blocks]
    assert all(kind == {nn.Linear} for kind in kinds[:first])
    assert all(kind == {TokenLinear} for kind in kinds[first:])
    plain = stvit.densify(model)
    assert not any(isinstance(m, TokenLinear) for m in plain.modules())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_and_half(dtype):
    layer = for_few_tokens(nn.Linear(8, 8)).to(dtype)
    x = torch.randn(2, 4, 8, dtype=dtype)
    with torch.no_grad():
        assert layer(x).dtype == dtype
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
