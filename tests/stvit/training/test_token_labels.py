"""Token labels: the annotator read place by place, labels brought to the tokens, a recipe that trains."""

import json

import pytest
import timm
import torch
from timm.loss import SoftTargetCrossEntropy

import stvit
from stvit.reduce import compose
from stvit.train import Trainer, train
from stvit.training.config import TrainConfig
from stvit.training.token_labels import TokenLabels, annotate, labels_of_tokens, labels_on_grid

MICRO = dict(img_size=32, patch_size=8, embed_dim=24, depth=8, num_heads=2, num_classes=5)
NAMES = [f"{variant}lvvit_small_patch16_224" for variant in ("", "stvit_", "bat_", "evit_")]
CHOICES = {"stvit_": dict(num_semantic_tokens=4)}
ANNOTATORS = {
    "convolutions": lambda: timm.create_model("resnet10t", num_classes=5),
    "windows": lambda: timm.create_model("micro_swin", num_classes=5),
    "mean of tokens": lambda: timm.create_model("micro_deit", img_size=32, patch_size=8, num_classes=5),
    "class token": lambda: timm.create_model("vit_tiny_patch16_224", **MICRO),
    "registers": lambda: timm.create_model("vit_tiny_patch16_224", reg_tokens=3, global_pool="avg", **MICRO),
    "norm in the head": lambda: timm.create_model("convnext_atto", num_classes=5),
}


def model_of(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    choices = next((more for start, more in CHOICES.items() if name.startswith(start)), {})
    return timm.create_model(name, **MICRO, **choices)


@pytest.mark.parametrize("kind", ANNOTATORS)
def test_annotators_of_any_kind(kind):
    torch.manual_seed(0)
    model = ANNOTATORS[kind]().eval()
    size = model.pretrained_cfg["input_size"][-1] if kind == "windows" else 32
    labels = annotate(model, torch.randn(2, 3, size, size))
    assert labels.shape[:2] == (2, 5) and labels.shape[2] == labels.shape[3]
    torch.testing.assert_close(labels.sum(1), torch.ones_like(labels[:, 0]))


def test_a_place_is_labelled_by_the_head_itself():
    """Where the map is one place, its label is the model's prediction for the image."""
    model = timm.create_model("resnet10t", num_classes=5).eval()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(annotate(model, x)[:, :, 0, 0], model(x).softmax(1))
    vit = timm.create_model("micro_deit", img_size=32, patch_size=8, num_classes=5).eval()
    tokens = vit.forward_features(x)
    torch.testing.assert_close(
        annotate(vit, x)[:, :, 1, 2], vit.head(vit.fc_norm(tokens[:, 4 + 2])).softmax(1)
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_the_papers(name):
    model, annotator = model_of(name).eval(), ANNOTATORS["mean of tokens"]().eval()
    x, targets = torch.randn(3, 3, 32, 32), torch.randn(3, 5).softmax(1)
    loss = TokenLabels(model, annotator, weight=0.5)(model, x, targets)
    with stvit.record(model, attention=False) if "bat" in name or "evit" in name else torch.no_grad() as maps:
        image, tokens = model.token_logits(x)
    labels = labels_on_grid(annotate(annotator, x), getattr(model, "semantic_grid", (4, 4)))
    if maps:
        labels = labels_of_tokens(labels, compose(list(maps.values())))
    entropy = SoftTargetCrossEntropy()
    expected = entropy(image, targets) + 0.5 * entropy(tokens.flatten(0, 1), labels.flatten(0, 1))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("name", NAMES)
def test_both_heads_learn_and_the_annotator_does_not(name):
    model, annotator = model_of(name).train(), ANNOTATORS["mean of tokens"]().eval().requires_grad_(False)
    TokenLabels(model, annotator)(model, torch.randn(2, 3, 32, 32), torch.eye(5)[:2]).backward()
    assert model.head.weight.grad.abs().sum() > 0 and model.aux_head.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in annotator.parameters())
    assert not model.head._forward_hooks and not model.aux_head._forward_hooks


def test_the_recipe_trains_through_the_trainer(tmp_path):
    annotator = timm.create_model("micro_deit", img_size=32, patch_size=8, num_classes=12)
    stvit.save_checkpoint(annotator, tmp_path / "annotator")
    given = dict(
        recipe="lvvit", model="stvit_lvvit_small_patch16_224", image_size=32, train_images=16, eval_images=8,
        model_args={**{k: v for k, v in MICRO.items() if k != "num_classes"}, "num_semantic_tokens": 4},
        annotator=str(tmp_path / "annotator"), epochs=1, batch_size=8, threads=1, device="cpu", ema_decay=0.0,
        out=str(tmp_path / "run"),
    )  # fmt: skip
    config = TrainConfig.of(**given)
    assert (config.mixup, config.cutmix, config.lr, config.epochs) == (0, 0, 1.6e-3, 1)
    trainer = Trainer(config)
    assert trainer.criterion.token_labels is not None
    trainer.close()
    scores = train(config)
    record = json.loads((tmp_path / "run" / "model" / "record.json").read_text())
    assert record["config"]["annotator"] and scores["images"] == 8


def test_lvvits_are_trained_by_their_recipe():
    assert TrainConfig.of(model="bat_lvvit_small_patch16_224", data="photos").recipe == "lvvit"
