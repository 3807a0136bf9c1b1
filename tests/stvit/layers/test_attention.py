"""Attention: fused, explicit and timm's are one function; projections are shared, not repeated."""

import pytest
import torch
from timm.layers import Attention as TimmAttention
from timm.models.vision_transformer import Block

from stvit.layers.attention import Attention, ContextBlock, RelativeAttention, attend
from stvit.surgery import recast


def make(**kwargs) -> Attention:
    attn = Attention(48, num_heads=3, qkv_bias=True, **kwargs).eval()
    torch.nn.init.normal_(attn.qkv.bias)
    return attn


@pytest.mark.parametrize(
    "options", [{}, {"qk_norm": True, "norm_layer": torch.nn.LayerNorm}, {"gated": True}]
)
def test_self_attention_equals_timm(options):
    attn = make(**options)
    x = torch.randn(2, 10, 48)
    torch.testing.assert_close(attn(x), recast(attn, TimmAttention)(x), atol=1e-6, rtol=0)


def test_one_two_and_three_sources_agree():
    attn, x = make(), torch.randn(2, 10, 48)
    torch.testing.assert_close(attn(x), attn(x, x), atol=1e-6, rtol=0)
    torch.testing.assert_close(attn(x, x), attn(x, x, x), atol=1e-6, rtol=0)


def test_fused_equals_explicit_with_bias():
    q, k, v = torch.randn(3, 2, 3, 8, 16).unbind(0)
    bias = torch.randn(1, 3, 8, 8)
    fused, explicit = (attend(q, k, v, 0.3, bias, fused=fused) for fused in (True, False))
    torch.testing.assert_close(fused, explicit, atol=1e-6, rtol=0)


def test_weights_at_values_are_the_fused_output():
    attn, s, x = make(), torch.randn(2, 4, 48), torch.randn(2, 10, 48)
    weights = attn.weights(s, x)
    assert weights.shape == (2, 3, 4, 10)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 4))
    _, _, v = attn.project(s, x, None)
    torch.testing.assert_close(
        attn.proj((weights @ v).transpose(1, 2).flatten(2)), attn(s, x), atol=1e-5, rtol=0
    )


def test_queries_are_independent():
    """A query's output does not depend on the other queries: the split of Eq. 3 needs this."""
    attn, s, x = make(), torch.randn(2, 4, 48), torch.randn(2, 10, 48)
    torch.testing.assert_close(attn(s, x)[:, 1:2], attn(s[:, 1:2], x), atol=1e-6, rtol=0)


def test_order_of_keys_does_not_matter():
    attn, s, x = make(), torch.randn(2, 4, 48), torch.randn(2, 10, 48)
    torch.testing.assert_close(attn(s, x), attn(s, x[:, torch.randperm(10)]), atol=1e-6, rtol=0)


def test_each_source_is_projected_once(monkeypatch):
    attn, s, x = make(), torch.randn(2, 4, 48), torch.randn(2, 10, 48)
    rows = []
    linear = torch.nn.functional.linear

    def counting(x, weight, bias=None):
        rows.append((x.shape[1], weight.shape[0]))
        return linear(x, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", counting)
    attn(x)
    assert rows == [(10, 144), (10, 48)]  # one product for q, k and v, then the output
    rows.clear()
    attn(s, x)
    assert rows == [(4, 48), (10, 96), (4, 48)]


def test_block_with_itself_as_context_is_timms_block():
    block = Block(48, 3, qkv_bias=True).eval()
    ours, x = ContextBlock.from_block(block).eval(), torch.randn(2, 10, 48)
    torch.testing.assert_close(ours(x), block(x), atol=1e-6, rtol=0)
    torch.testing.assert_close(ours(x, x), block(x), atol=1e-6, rtol=0)


def test_recast_shares_parameters_and_leaves_the_original_alone():
    block = Block(48, 3)
    ours = ContextBlock.from_block(block)
    assert type(block) is Block and type(block.attn) is TimmAttention
    assert all(a is b for a, b in zip(block.parameters(), ours.parameters(), strict=True))


def test_relative_positions_refuse_several_prefix_tokens():
    with pytest.raises(ValueError, match="one class token, not 5 prefix tokens"):
        RelativeAttention.from_attention(make(), (2, 2), prefix_tokens=5)
