"""LV-ViT-S: the reference's outputs, sparsified variants, token labels."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from fill_rule import fill_state, make_input
from timm.loss import SoftTargetCrossEntropy

import stvit
from stvit.reduce import compose
from stvit.training.token_labels import TokenLabelLoss, labels_of_tokens, labels_on_grid

HERE = Path(__file__).resolve().parents[1]

MICRO = dict(img_size=64, patch_size=8, embed_dim=48, depth=8, num_heads=3, num_classes=7)
NAMES = [f"{variant}lvvit_small_patch16_224" for variant in ("", "stvit_", "bat_", "evit_")]


def build(name: str, **kwargs) -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, **{**MICRO, **kwargs}).eval()


def test_reference_outputs():
    model = fill_state(timm.create_model("lvvit_small_patch16_224"))
    assert sum(p.numel() for p in model.parameters()) == 26_151_824
    with torch.no_grad(), np.load(HERE / "oracles" / "lvvit_s.npz") as file:
        reference = torch.from_numpy(file["logits"])
        torch.testing.assert_close(model(make_input()), reference, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_timm_surface(name):
    model = build(name)
    x = torch.randn(2, 3, 64, 64)
    assert model(x).shape == (2, 7) and model(torch.randn(1, 3, 96, 64)).shape == (1, 7)
    features = model.forward_features(x)
    assert model.forward_head(features, pre_logits=True).shape == (2, 48)
    image, tokens = model.token_logits(x)
    torch.testing.assert_close(model.forward_head(features), image + 0.5 * tokens.amax(1))
    maps = model.forward_intermediates(x, indices=[0, 7], intermediates_only=True)
    assert maps[0].shape == (2, 48, 8, 8) and maps[1].shape[1] == 48
    assert model.no_weight_decay() >= {"pos_embed", "cls_token"}
    model.reset_classifier(5)
    assert model(x).shape == (2, 5) and model.aux_head.out_features == 5
    model.reset_classifier(0)
    assert model(x).shape == (2, 48)
    assert build(name, in_chans=1, num_classes=0)(x[:, :1]).shape == (2, 48)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_everything(name):
    model = build(name).train()
    image, tokens = model.token_logits(torch.randn(2, 3, 64, 64))
    (image.square().mean() + tokens.square().mean()).backward()
    assert not [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("method", ["stvit", "bat", "evit", "tome", "dynamicvit"])
def test_sparsify_and_back(method):
    model, x = build("lvvit_small_patch16_224"), torch.randn(2, 3, 64, 64)
    sparse = stvit.sparsify(model, method=method)
    assert sparse(x).shape == (2, 7) and not sparse(x).equal(model(x))
    assert stvit.densify(sparse)(x).equal(model(x))


@pytest.mark.parametrize("name", NAMES[1:])
def test_dense_of_a_registered_model_can_be_built_again(name):
    plain = stvit.densify(build(name))
    again = timm.create_model(plain.pretrained_cfg["architecture"], **plain._model_args).eval()
    again.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    assert again(x).equal(plain(x))


def test_keep_rate_one_is_dense():
    x = torch.randn(2, 3, 64, 64)
    models = [build(name, **({"keep_rate": 1.0} if name[:3] in ("bat", "evi") else {})) for name in NAMES]
    for model in (models[2], models[3]):
        model.load_state_dict(models[0].state_dict())
        assert model(x).equal(models[0](x))


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="whole number of patches"):
        build("lvvit_small_patch16_224")(torch.randn(1, 3, 60, 64))


def test_token_label_loss_is_the_papers():
    image, tokens = torch.randn(3, 7), torch.randn(3, 4, 7)
    label, token_labels = torch.randn(3, 7).softmax(1), torch.randn(3, 4, 7).softmax(2)
    entropy = SoftTargetCrossEntropy()
    by_hand = (
        entropy(image, label) + 0.5 * sum(entropy(tokens[:, i], token_labels[:, i]) for i in range(4)) / 4
    )
    torch.testing.assert_close(TokenLabelLoss()(image, tokens, label, token_labels), by_hand)
    with pytest.raises(ValueError, match="labels_on_grid"):
        TokenLabelLoss()(image, tokens, label, token_labels[:, :2])


def test_token_labels_follow_the_tokens():
    labels = torch.randn(2, 7, 8, 8).softmax(1)
    model, x = build("stvit_lvvit_small_patch16_224", num_semantic_tokens=4), torch.randn(2, 3, 64, 64)
    on_grid = labels_on_grid(labels, model.semantic_grid)
    assert on_grid.shape == model.token_logits(x)[1].shape
    torch.testing.assert_close(on_grid[:, 1], labels[:, :, :4, 4:].mean((2, 3)))

    model = build("bat_lvvit_small_patch16_224")
    with stvit.record(model, attention=False) as maps:
        tokens = model.token_logits(x)[1]
    held = labels_of_tokens(labels.flatten(2).transpose(1, 2), compose(list(maps.values())))
    assert held.shape == tokens.shape
    torch.testing.assert_close(held.sum(2), torch.ones(held.shape[:2]))
    assert TokenLabelLoss()(model.token_logits(x)[0], tokens, held[:, 0], held).isfinite()
