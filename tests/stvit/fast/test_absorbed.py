"""Attention without projected keys and values is the attention with them."""

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from micro import MODELS, build, images

from stvit.fast import absorbed
from stvit.layers.attention import Attention


def make(dim: int, heads: int, bias: bool = True, **choices) -> Attention:
    attn = Attention(dim, num_heads=heads, qkv_bias=bias, **choices).double().eval()
    if bias:
        torch.nn.init.normal_(attn.qkv.bias)
    return attn


@given(
    batch=st.integers(1, 3),
    queries=st.integers(1, 5),
    tokens=st.integers(1, 9),
    heads=st.integers(1, 4),
    bias=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_equals_attention(batch, queries, tokens, heads, bias):
    attn = make(8 * heads, heads, bias)
    s = torch.randn(batch, queries, 8 * heads, dtype=torch.float64)
    x = torch.randn(batch, tokens, 8 * heads, dtype=torch.float64)
    _, _, v = attn.project(s, x, None)
    expected = (attn.weights(s, x) @ v).transpose(1, 2).flatten(2)
    with torch.inference_mode():
        torch.testing.assert_close(absorbed.attend_unprojected(attn, s, x), expected, atol=1e-11, rtol=0)


def test_where_it_is_done():
    attn = make(48, 3)
    s, x = torch.randn(2, 4, 48, dtype=torch.float64), torch.randn(2, 40, 48, dtype=torch.float64)
    assert not absorbed.applies(attn, s, x, None)  # gradients
    with torch.no_grad():
        assert absorbed.applies(attn, s, x, None)
        assert not absorbed.applies(attn, s, x, x) and not absorbed.applies(attn, s, None, None)
        assert not absorbed.applies(attn, x, x, None)  # many queries
        assert not absorbed.applies(attn.train(), s, x, None)
        normed = make(48, 3, qk_norm=True, norm_layer=torch.nn.LayerNorm)
        assert not absorbed.applies(normed, s, x, None)


@pytest.mark.parametrize("dim, heads", [(192, 3), (384, 6), (768, 12)])
def test_pays_below_48_of_196_tokens_with_heads_of_64(dim, heads):
    """M (h·N + C) < N·C, that is M < N·d / (N + d)."""
    assert [m for m in range(1, 197) if absorbed.cheaper(m, 196, heads, dim)] == list(range(1, 49))


@pytest.mark.parametrize("row", MODELS)
def test_models_compute_the_same(row, monkeypatch):
    model = build(row)
    x = images(model)
    with torch.inference_mode():
        found = model(x)
        monkeypatch.setattr(absorbed, "applies", lambda *_: False)
        torch.testing.assert_close(found, model(x), atol=1e-5, rtol=1e-5)


def test_registered_models_do_it(monkeypatch):
    calls = []
    monkeypatch.setattr(
        absorbed, "attend_unprojected", lambda _, s, x: calls.append(x.shape[1]) or torch.zeros_like(s)
    )
    model = timm.create_model("stvit_deit_tiny_patch16_224").eval()
    with torch.inference_mode():
        model(torch.zeros(1, 3, 224, 224))
    assert calls == [196, 196 + 16]
