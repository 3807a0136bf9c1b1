"""What timm's users expect of any model, asked of every row of the table."""

import pytest
import timm
import torch
from micro import MODELS, VIT, build, images
from timm.optim import create_optimizer_v2

import stvit

DEIT = [f"stvit_deit_{size}_patch16_224" for size in ("tiny", "small", "base")]


def test_listed():
    assert timm.list_models("*stvit_deit*") == sorted(DEIT)


@pytest.mark.parametrize("name", DEIT)
def test_pretrained_cfg(name):
    cfg = timm.get_pretrained_cfg(name)
    assert (
        cfg.input_size == (3, 224, 224) and cfg.classifier == "head" and cfg.first_conv == "patch_embed.proj"
    )


@pytest.mark.parametrize("row", MODELS)
def test_head_surgery(row):
    model = build(row)
    x = images(model)
    features = model.forward_head(model.forward_features(x), pre_logits=True)
    assert features.shape == (2, model.num_features)
    assert model.get_classifier() is model.head and model(x).shape == (2, 7)
    model.reset_classifier(5)
    assert model(x).shape == (2, 5) and model.num_classes == 5
    model.reset_classifier(0)
    torch.testing.assert_close(model(x), features)
    model.reset_classifier(0, "")
    assert model(x).shape[1] == model.num_semantic_tokens + model.num_kept_prefix_tokens


def test_num_classes_zero_and_other_channels():
    model = build("default", num_classes=0, in_chans=1)
    assert model(images(model)).shape == (2, 48)


@pytest.mark.parametrize("row", MODELS)
def test_intermediates(row):
    model = build(row)
    x = images(model)
    final, maps = model.forward_intermediates(x, output_fmt="NLC")
    torch.testing.assert_close(final, model.forward_features(x))
    first = model.stgm.start
    assert [m.shape[1] for m in maps] == [36] * first + [model.num_semantic_tokens] * (6 - first)
    assert model.forward_intermediates(x, indices=2, output_fmt="NLC", intermediates_only=True)[1].equal(
        maps[5]
    )
    if model.semantic_grid:
        last = model.forward_intermediates(x, indices=[5], norm=True, intermediates_only=True)[0]
        assert last.shape == (2, 48, *model.semantic_grid)
        prefix = model.num_kept_prefix_tokens
        torch.testing.assert_close(last.flatten(2).mT, final[:, prefix:])


def test_intermediates_with_prefix_and_as_dict():
    model = build("kept class token")
    x = images(model)
    pairs = model.forward_intermediates(x, return_prefix_tokens=True, intermediates_only=True)
    assert [prefix.shape for _, prefix in pairs] == [(2, 1, 48)] * 6
    out = model.forward_intermediates(x, return_prefix_tokens=True, output_dict=True)
    assert set(out) == {"image_intermediates", "image_intermediates_prefix", "image_features"}
    with pytest.raises(ValueError, match="unknown output_fmt 'NHWC'; choose one of NCHW, NLC"):
        model.forward_intermediates(x, output_fmt="NHWC")


def test_features_only():
    net = timm.create_model(
        DEIT[0], **VIT, num_semantic_tokens=4, stgm_at=3, features_only=True, out_indices=(0, 1, 5)
    )
    shapes = [tuple(f.shape) for f in net(torch.randn(1, 3, 48, 48))]
    assert shapes == [(1, 48, 6, 6), (1, 48, 6, 6), (1, 48, 2, 2)]
    assert net.feature_info.reduction() == [8, 8, 24]


@pytest.mark.parametrize(
    "layers,kept", [(1, {"base"}), (3, {"base", "initial"}), (6, {"base", "initial", "position"})]
)
def test_pruning_drops_what_is_not_needed(layers, kept):
    model = build("position learned")
    x = images(model)
    whole = model.forward_intermediates(x, indices=[layers - 1], output_fmt="NLC", intermediates_only=True)[0]
    model.prune_intermediate_layers([layers - 1])
    assert len(model.blocks) == layers and model.num_classes == 0
    names = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert ("initial" in names, "position" in names) == ("initial" in kept, "position" in kept)
    pruned = model.forward_intermediates(x, indices=[layers - 1], output_fmt="NLC", intermediates_only=True)[
        0
    ]
    torch.testing.assert_close(pruned, whole)


def test_no_weight_decay_names_exist_and_cover_what_is_learned_like_a_position():
    for row in ("default", "position learned", "position relative", "kept class token"):
        model = build(row)
        names = {name for name, _ in model.named_parameters()}
        skipped = model.no_weight_decay() & names
        assert "pos_embed" in skipped and "blocks.3.centers.weight" in skipped
    assert "position.weight" in build("position learned").no_weight_decay()
    assert (
        "blocks.4.attn.rel_pos.relative_position_bias_table" in build("position relative").no_weight_decay()
    )


def test_layer_decay_puts_new_parts_where_they_act():
    model = build("position learned")
    optimizer = create_optimizer_v2(model, "adamw", lr=1.0, weight_decay=0.1, layer_decay=0.5)
    scale = {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    parameters = dict(model.named_parameters())
    assert len(scale) == len(parameters)
    at = {name: scale[id(p)] for name, p in parameters.items()}
    assert at["initial.intra.depthwise.weight"] == at["blocks.2.norm1.weight"]
    assert at["blocks.3.centers.weight"] == at["blocks.3.norm1.weight"] == at["position.weight"]
    assert at["blocks.0.norm1.weight"] < at["blocks.5.norm1.weight"]


@pytest.mark.parametrize("row", ["default", "kept class token"])
def test_gradient_checkpointing_changes_nothing(row):
    plain, thrifty = build(row).train(), build(row).train()
    thrifty.set_grad_checkpointing(True)
    x = images(plain)
    for model in (plain, thrifty):
        model(x).square().sum().backward()
    for a, b in zip(plain.parameters(), thrifty.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-4)


def test_set_input_size():
    model = build("default")
    model.set_input_size((64, 64))
    assert model.patch_embed.grid_size == (8, 8) and model(torch.randn(1, 3, 64, 64)).shape == (1, 7)


def test_token_pooling_needs_a_class_token():
    with pytest.raises(ValueError, match="needs a class token after the STGM"):
        build("class token").reset_classifier(5, "token")
    with pytest.raises(ValueError, match="keep_prefix=False needs another global_pool"):
        build("kept class token", keep_prefix=False)


def test_public_names_are_there():
    assert all(hasattr(stvit, name) for name in stvit.__all__)
