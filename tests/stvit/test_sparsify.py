"""Sparsify: timm ViTs of every kind that timm has, there and back."""

import inspect

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.vision_transformer import VisionTransformer

import stvit
from stvit.models.reduced_vit import method_choices
from stvit.reduce import METHODS

SMALL = dict(embed_dim=48, num_heads=3, depth=5, num_classes=7)
VITS = {  # a plain one and what each of the others adds
    "vit_tiny_patch16_224": dict(SMALL, img_size=96),
    "deit_tiny_patch16_224": dict(SMALL, img_size=(96, 64)),
    "deit_tiny_distilled_patch16_224": dict(SMALL, img_size=96),  # two class tokens, two heads
    "deit3_small_patch16_224": dict(SMALL, img_size=96),  # LayerScale, positions without class token
    "vit_small_patch14_dinov2": dict(SMALL, img_size=84),  # patch 14
    "vit_small_patch14_reg4_dinov2": dict(SMALL, img_size=84),  # registers
    "vit_base_patch16_clip_224": dict(SMALL, img_size=96),  # norm before the layers
    "vit_base_patch16_clip_quickgelu_224": dict(SMALL, img_size=96),
    "vit_base_patch16_siglip_224": dict(SMALL, img_size=96),  # attention pooling, no class token
    "vit_little_patch16_reg4_gap_256": dict(SMALL, img_size=96),  # registers, mean pooling behind a norm
    "vit_medium_patch16_gap_240": dict(SMALL, img_size=96),
    "vit_small_patch32_224": dict(SMALL, img_size=160, qk_norm=True),
    "vit_tiny_patch16_224.augreg_in21k": dict(SMALL, img_size=96, dynamic_img_size=True, in_chans=1),
    "vit_tiny_r_s16_p8_224": dict(SMALL, img_size=96),  # convolutional stem
}


def make(name: str) -> tuple[VisionTransformer, torch.Tensor]:
    torch.manual_seed(0)
    model = timm.create_model(name, **VITS[name]).eval()
    size = model.patch_embed.img_size or model.default_cfg["input_size"][-2:]
    return model, torch.randn(2, model.in_chans, *size)


@pytest.mark.parametrize("name", VITS)
def test_there_and_back(name):
    model, x = make(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    sparse = stvit.sparsify(model, tokens=4, at=3)
    assert sparse(x).shape == (2, 7) and isinstance(sparse, VisionTransformer)
    shared = sparse.state_dict()
    assert before.keys() <= shared.keys() and all(shared[key].equal(before[key]) for key in before)
    again = stvit.densify(sparse)
    assert type(again) is type(model) and again(x).equal(model(x))
    assert again.state_dict().keys() == before.keys()
    assert all(value.equal(before[key]) for key, value in model.state_dict().items()), "the original changed"


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(sorted(VITS)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 4),
    st.integers(1, 2),
    st.sampled_from(["intra_inter", "intra", "mean", "max"]),
    st.sampled_from(["both", "spatial", "global", "learned"]),
    st.sampled_from(["none", "learned", "conditional"]),
)
def test_any_choice_for_any_vit(name, tokens, at, layers, pooling, initialization, position):
    model, x = make(name)
    choices = dict(stgm_layers=layers, pooling=pooling, initialization=initialization, position=position)
    sparse = stvit.sparsify(model, tokens, at, **choices)
    features = sparse.forward_features(x)
    assert features.shape[1] == tokens[0] * tokens[1] + sparse.num_kept_prefix_tokens
    assert sparse(x).isfinite().all()
    assert stvit.densify(sparse)(x).equal(model(x))


@pytest.mark.parametrize("name", VITS)
def test_a_token_for_each_token_is_the_dense_model(name):
    """With P = X, one STGM layer and all tokens kept, Eq. 1 is self-attention."""
    model, x = make(name)
    same = stvit.sparsify(model, model.patch_embed.grid_size, at=3, stgm_layers=1, pooling="mean")
    if not model.num_prefix_tokens or same.num_kept_prefix_tokens:
        torch.testing.assert_close(same(x), model(x), atol=1e-5, rtol=0)
    else:
        kept = stvit.sparsify(
            model, model.patch_embed.grid_size, at=3, stgm_layers=1, pooling="mean", keep_prefix=True
        )
        torch.testing.assert_close(kept(x), model(x), atol=1e-5, rtol=0)


def test_class_token_goes_on_where_the_head_reads_it():
    kept = {name: stvit.sparsify(make(name)[0], 4, 3).num_kept_prefix_tokens for name in VITS}
    assert kept["deit_tiny_patch16_224"] == 1 and kept["deit_tiny_distilled_patch16_224"] == 2
    assert kept["vit_small_patch14_reg4_dinov2"] == 5 and kept["vit_little_patch16_reg4_gap_256"] == 0


def test_type_device_and_mode_stay():
    model = make("vit_tiny_patch16_224")[0].to(torch.bfloat16).train()
    sparse = stvit.sparsify(model, 4, 3)
    assert sparse.training and {p.dtype for p in sparse.parameters()} == {torch.bfloat16}


REFUSED = {
    "samvit_base_patch16": (
        dict(SMALL, img_size=64),
        "cannot sparsify VisionTransformerSAM: most of its layers",
    ),
    "beit_base_patch16_224": (dict(SMALL), "cannot sparsify Beit: semantic tokens have no place"),
    "convnext_atto": (dict(), "cannot sparsify ConvNeXt"),
    "vit_base_patch16_xp_224": (dict(SMALL), "its layers are ParallelScalingBlock"),
    "vit_tiny_patch16_224": (dict(SMALL, patch_drop_rate=0.5), "drops patches at random"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_with_the_reason(name):
    args, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        stvit.sparsify(timm.create_model(name, **args))


def test_refuses_what_is_sparse_or_not_a_model():
    sparse = stvit.sparsify(make("vit_tiny_patch16_224")[0], 4, 3)
    with pytest.raises(ValueError, match="has semantic tokens already; call stvit.densify"):
        stvit.sparsify(sparse)
    with pytest.raises(ValueError, match="Linear is not a sparsified model"):
        stvit.densify(torch.nn.Linear(2, 2))

    class Other(VisionTransformer):
        pass

    with pytest.raises(ValueError, match="changes VisionTransformer's forward pass"):
        stvit.sparsify(Other(**SMALL))


def test_a_bad_choice_leaves_the_model_alone():
    model, x = make("vit_tiny_patch16_224")
    before = model(x)
    with pytest.raises(ValueError, match="do not fit a map of 6 × 6"):
        stvit.sparsify(model, tokens=64, at=3)
    assert type(model) is VisionTransformer and model(x).equal(before)


def test_help_names_every_method_and_what_can_be_chosen():
    lines = inspect.getdoc(stvit.sparsify).splitlines()
    for method in METHODS:
        if METHODS[method].about is not None:  # those of the package
            [line] = [line for line in lines if line.startswith(f"{method}: ")]
            assert all(f"{choice}=" in line for choice in method_choices(method))
    assert "bat: keep_rate=0.7" in "\n".join(lines)
