"""STViT on ViTs: the paper's equations, the printed FLOPs, and the dense model inside."""

import pytest
import timm
import torch
from fvcore.nn import FlopCountAnalysis
from micro import MODELS, VIT, build, images
from timm.layers import set_fused_attn

from stvit.layers.semantic import ClusterLayer, GlobalCenters, LearnedEncodingLayer


@pytest.mark.parametrize("row", MODELS)
def test_shapes_gradients_and_determinism(row):
    model, again = build(row), build(row)
    x = images(model)
    assert model.forward_features(x).shape == (
        2,
        model.num_semantic_tokens + model.num_kept_prefix_tokens,
        48,
    )
    torch.testing.assert_close(model(x), again(x), atol=0, rtol=0)
    model.train()(x).square().sum().backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert not unused, "DistributedDataParallel would stop at these"
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("row", MODELS)
def test_another_image_size(row):
    model = build(row)
    assert model(images(model, size=(64, 40))).shape == (2, 7)


@pytest.mark.parametrize("row", MODELS)
def test_images_of_a_batch_are_independent(row):
    model = build(row)
    x = images(model, batch=3)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]), atol=1e-5, rtol=0)


def test_forward_is_the_equations_in_order():
    """Eqs. 1-2 with the module's own layers, written out."""
    model = build("default", num_semantic_tokens=9)
    x = model.pos_drop(model.patch_embed(images(model)).flatten(1, 2) + model.pos_embed)
    for block in model.blocks[:2]:
        x = block(x)
    first, second = model.blocks[2], model.blocks[3]
    p = model.initial(x, (6, 6))
    s = first.attn(first.norm1(p), first.norm1(x)) + p  # Ŝ¹ = MHA(P, X, X) + P
    s = first.mlp(first.norm2(s)) + s  # S¹
    keys = torch.cat([second.norm1(s), second.norm1(x)], dim=1)
    t = second.attn(second.norm1(s) + second.centers.weight, keys) + s  # Ŝ² = MHA(S¹ + G, …) + S¹
    t = second.mlp(second.norm2(t)) + t  # S²
    for block in model.blocks[4:]:
        t = block(t)
    torch.testing.assert_close(model(images(model)), model.head(model.norm(t).mean(1)), atol=1e-5, rtol=0)


def test_logits_of_the_second_layer_split_as_in_equation_3():
    model = build("default")
    layer, s, x = model.blocks[3], torch.randn(2, 4, 48), torch.randn(2, 36, 48)
    keys = layer.norm1(torch.cat([s, x], dim=1))
    own, centers = keys[:, :4], layer.centers.weight.expand(2, -1, -1)
    bias = layer.attn.qkv.bias.detach().clone()
    layer.attn.qkv.bias.data[:48] = 0  # without a bias the query projection is linear
    q, k, _ = layer.attn.project(own + centers, keys, None)
    q_s, q_g = (layer.attn.project(part, keys, None)[0] for part in (own, centers))
    torch.testing.assert_close(q @ k.mT, q_s @ k.mT + q_g @ k.mT, atol=1e-4, rtol=1e-4)
    layer.attn.qkv.bias.data.copy_(bias)


def test_global_centers_join_queries_only_and_learned_encoding_keys_too():
    model, learned = build("default"), build("initialization learned")
    assert type(model.blocks[3]) is ClusterLayer and type(learned.blocks[3]) is LearnedEncodingLayer
    s, x = torch.randn(2, 4, 48), torch.randn(2, 36, 48)
    learned.load_state_dict(model.state_dict())
    generator = torch.Generator()
    for m in (model, learned):
        m.blocks[3].centers.weight.data.normal_(generator=generator.manual_seed(0))
        m.blocks[3].attn.qkv.weight.data.normal_(generator=generator)
    assert (model.blocks[3](s, x) - learned.blocks[3](s, x)).abs().max() > 1e-3
    for m in (model, learned):
        m.blocks[3].centers.weight.data.zero_()  # without G the rows of Table 7 are one
    torch.testing.assert_close(model.blocks[3](s, x), learned.blocks[3](s, x), atol=1e-6, rtol=0)


def test_global_initialization_does_not_pool():
    model = build("initialization global")
    assert isinstance(model.initial, GlobalCenters) and not any(
        "intra" in n for n, _ in model.named_parameters()
    )
    x = torch.randn(3, 36, 48)
    torch.testing.assert_close(model.initial(x, (6, 6)), model.initial.weight.expand(3, -1, -1))


def test_order_of_image_tokens_matters_only_through_the_pooling():
    model = build("initialization global")
    s, x = model.initial(torch.randn(2, 36, 48), (6, 6)), torch.randn(2, 36, 48)
    shuffled = x[:, torch.randperm(36)]
    torch.testing.assert_close(model.blocks[2](s, x), model.blocks[2](s, shuffled), atol=1e-5, rtol=0)


def test_deit_loads_by_name():
    args = dict(VIT, class_token=True)
    deit = timm.create_model("deit_tiny_patch16_224", **args)
    model = timm.create_model("stvit_deit_tiny_patch16_224", **VIT, num_semantic_tokens=4, stgm_at=3)
    missing, unexpected = model.load_state_dict(deit.state_dict(), strict=False)
    assert unexpected == ["cls_token"]
    assert {name.split(".")[0] for name in missing} == {"initial", "blocks"}
    assert [name for name in missing if name.startswith("blocks")] == ["blocks.3.centers.weight"]
    torch.testing.assert_close(model.pos_embed, deit.pos_embed[:, 1:])


@pytest.mark.parametrize("class_token", [True, False])
def test_base_layers_are_timms(class_token):
    pool = "token" if class_token else "avg"
    deit = timm.create_model(
        "deit_tiny_patch16_224", class_token=class_token, global_pool=pool, fc_norm=False
    ).eval()
    model = timm.create_model(
        "stvit_deit_tiny_patch16_224", class_token=class_token, keep_prefix=False
    ).eval()
    model.load_state_dict(deit.state_dict(), strict=False)
    x = torch.randn(1, 3, 224, 224)
    ours = model.forward_intermediates(x, indices=[0, 1, 2, 3], output_fmt="NLC", intermediates_only=True)
    theirs = deit.forward_intermediates(x, indices=[0, 1, 2, 3], output_fmt="NLC", intermediates_only=True)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


TABLE_1 = [  # model, with the class token's reading, printed GFLOPs at 16, 36, 64, 100 tokens
    ("tiny", True, (0.53, 0.60, 0.71, 0.86)),
    ("small", False, (1.91, 2.20, 2.62, 3.16)),
    ("base", True, (7.31, 8.44, 10.04, 12.13)),
]


@pytest.mark.parametrize("size,class_token,printed", TABLE_1)
def test_flops_of_table_1_at_the_printed_digit(size, class_token, printed):
    set_fused_attn(False)  # fvcore counts fused attention as nothing
    try:
        for tokens, gflops in zip((16, 36, 64, 100), printed, strict=True):
            model = timm.create_model(
                f"stvit_deit_{size}_patch16_224", num_semantic_tokens=tokens, class_token=class_token
            ).eval()
            counter = FlopCountAnalysis(model, torch.zeros(1, 3, 224, 224))
            counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            assert f"{counter.total() / 1e9:.2f}" == f"{gflops:.2f}", (size, tokens)
    finally:
        set_fused_attn(True)


@pytest.mark.parametrize(
    "change,message",
    [
        (dict(num_semantic_tokens=49), "49 semantic tokens as a 7 × 7 grid do not fit a map of 6 × 6"),
        (dict(stgm_at=6), "does not fit a model of 6 layers"),
        (dict(stgm_at=0), "does not fit a model of 6 layers"),
        (dict(stgm_layers=0), "stgm_layers ≥ 1"),
        (dict(pooling="sum"), "unknown pooling 'sum'; choose one of intra_inter"),
        (
            dict(initialization="none"),
            "unknown initialization 'none'; choose one of both, spatial, global, learned",
        ),
        (
            dict(position="rope"),
            "unknown position 'rope'; choose one of none, learned, conditional, relative",
        ),
        (
            dict(pooling="multi_scale", num_semantic_tokens=13, position="relative"),
            "needs semantic tokens on a grid",
        ),
    ],
)
def test_bad_requests_name_the_value_and_the_remedy(change, message):
    with pytest.raises(ValueError, match=message):
        build("default", **change)


def test_image_that_the_patch_does_not_divide():
    with pytest.raises(AssertionError, match=r"(50).*(8)"):
        model = build("default")
        model(torch.randn(1, 3, 50, 48))


def test_image_too_small_for_the_tokens():
    model = build("default", num_semantic_tokens=9)
    with pytest.raises(ValueError, match="do not fit a map of 2 × 2 image tokens"):
        model(torch.randn(1, 3, 16, 16))
