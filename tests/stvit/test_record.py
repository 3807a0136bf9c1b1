"""Recording: true maps of an untouched model, or an error."""

import pytest
import timm
import torch
from micro import MODELS, VIT, build, images
from timm.models.vision_transformer import Block

import stvit


@pytest.mark.parametrize("row", MODELS)
def test_every_layer_and_the_model_untouched(row):
    model = build(row)
    x = images(model)
    before, hooks = model(x), sum(len(m._forward_pre_hooks) for m in model.modules())
    with stvit.record(model) as maps:
        during = model(x)
    assert during.equal(before) and model(x).equal(before)
    assert sum(len(m._forward_pre_hooks) for m in model.modules()) == hooks
    assert {f"blocks.{i}.attn" for i in range(6)} <= maps.keys()
    for name, value in maps.items():
        torch.testing.assert_close(value.sum(-1), torch.ones(value.shape[:-1]), msg=name)
        assert not value.requires_grad


@pytest.mark.parametrize("row", ["default", "class token", "kept class token", "three STGM layers"])
def test_shapes_of_image_generation_and_semantic_layers(row):
    model = build(row)
    with stvit.record(model) as maps:
        model(images(model))
    prefix, kept = model.num_prefix_tokens, model.num_kept_prefix_tokens
    m, n, first = model.num_semantic_tokens + kept, 36 + prefix, model.stgm.start
    assert maps["blocks.0.attn"].shape == (2, 3, n, n)
    assert maps[f"blocks.{first}.attn"].shape == (2, 3, m, n)
    assert maps[f"blocks.{first + 1}.attn"].shape == (2, 3, m, m + n - kept)
    assert maps["blocks.5.attn"].shape == (2, 3, m, m)
    assert maps["initial.assignment"].shape == (2, model.num_semantic_tokens, 36)
    for i in range(first, model.stgm.stop):
        assert maps[f"blocks.{i}.assignment"].shape == (2, model.num_semantic_tokens, 36)


def test_maps_times_values_are_the_fused_output():
    model = build("default")
    inputs, outputs = {}, {}
    for i, block in enumerate(model.blocks):
        block.attn.register_forward_pre_hook(lambda m, args, i=i: inputs.__setitem__(i, args))
        block.attn.proj.register_forward_pre_hook(lambda m, args, i=i: outputs.__setitem__(i, args[0]))
    with stvit.record(model) as maps:
        model(images(model))
    for i, block in enumerate(model.blocks):
        source = [value for value in inputs[i] if value is not None][-1]
        v = block.attn.qkv(source).unflatten(2, (3, 3, 16)).permute(2, 0, 3, 1, 4)[2]
        product = (maps[f"blocks.{i}.attn"] @ v).transpose(1, 2).flatten(2)
        torch.testing.assert_close(product, outputs[i], atol=1e-5, rtol=0)


def test_a_plain_timm_model():
    model = timm.create_model("deit_tiny_patch16_224", **VIT).eval()
    with stvit.record(model) as maps:
        model(images(model))
    assert len(maps) == 6 and maps["blocks.5.attn"].shape == (2, 3, 37, 37)


def test_attention_or_assignments_alone():
    model = build("default")
    with stvit.record(model, assignments=False) as attention:
        model(images(model))
    with stvit.record(model, attention=False) as assignments:
        model(images(model))
    assert all(name.endswith("attn") for name in attention)
    assert all(name.endswith("assignment") for name in assignments)


def test_masks_count():
    block = Block(48, 3).eval()
    mask = torch.tril(torch.ones(5, 5, dtype=torch.bool))
    for given in (mask, torch.zeros(5, 5).masked_fill(~mask, -torch.inf)):
        with stvit.record(block) as maps:
            block(torch.randn(1, 5, 48), attn_mask=given)
        assert (maps["attn"][..., ~mask] == 0).all()


def test_nothing_recorded_is_an_error():
    model = build("default")
    with (
        pytest.raises(RuntimeError, match="nothing was recorded: the model did not run"),
        stvit.record(model),
    ):
        pass
    with (
        pytest.raises(RuntimeError, match="Linear has no attention layer"),
        stvit.record(torch.nn.Linear(2, 2)),
    ):
        pass


def test_hooks_go_when_the_block_fails():
    model = build("default")
    with pytest.raises(KeyError), stvit.record(model):
        raise KeyError
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_wrappers_are_looked_through():
    model = build("default")
    wrapped = torch.nn.DataParallel(model)
    with stvit.record(wrapped) as maps:
        model(images(model))
    assert "blocks.0.attn" in maps
