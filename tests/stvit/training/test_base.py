"""From a pretrained model or a checkpoint to a sparsified one for other classes and sizes."""

import pytest
import timm
import torch

import stvit
from stvit.train import train
from stvit.training.base import layers
from stvit.training.build import build_model
from stvit.training.config import TrainConfig

VIT = dict(img_size=48, patch_size=8, embed_dim=24, depth=6, num_heads=2, num_classes=7)
SWIN = dict(img_size=56, embed_dim=16, depths=(1, 1, 4, 1), num_heads=(1, 2, 4, 8), num_classes=7)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bases")
    for name, model in {
        "vit": timm.create_model("vit_tiny_patch16_224", **VIT),
        "distilled": timm.create_model("deit_tiny_distilled_patch16_224", **VIT),
        "swin": timm.create_model("swin_tiny_patch4_window7_224", **SWIN),
        "sparse": stvit.sparsify(timm.create_model("vit_tiny_patch16_224", **VIT), tokens=4, at=2),
    }.items():
        stvit.save_checkpoint(model, folder / name)
    return folder


def config_of(base, **given) -> TrainConfig:
    return TrainConfig.of(base=str(base), data="photos", **given)


WAYS = {
    "as it is": ("vit", {}, {}),
    "stvit": ("vit", dict(method="stvit", tokens=4, at="2"), dict(tokens=4, at=2)),
    "stvit with choices": (
        "vit",
        dict(method="stvit", tokens=4, at="2", model_args={"pooling": "mean"}),
        dict(tokens=4, at=2, pooling="mean"),
    ),
    "bat": ("vit", dict(method="bat", keep_rate=0.7, at="2,4"), dict(method="bat", keep_rate=0.7, at=(2, 4))),
    "tome": ("vit", dict(method="tome", model_args={"r": 3}), dict(method="tome", r=3)),
    "meanpool": ("vit", dict(method="meanpool", tokens=4, at="2"), dict(method="meanpool", tokens=4, at=2)),
    "evit on a distilled model": ("distilled", dict(method="evit", keep_rate=0.5), dict(method="evit", keep_rate=0.5)),
    "swin": ("swin", dict(method="stvit"), {"method": "stvit"}),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_base_is_what_sparsify_makes_of_it(way, bases):
    name, given, by_hand = WAYS[way]
    model = build_model(config_of(bases / name, **given), 7).eval()
    expected = stvit.load_checkpoint(bases / name)
    if by_hand:
        expected = stvit.sparsify(expected, **by_hand)
    assert type(model) is type(expected)
    kept = stvit.load_checkpoint(bases / name).state_dict()
    own = model.state_dict()
    shared = [key for key in kept if key in own and own[key].shape == kept[key].shape]
    assert len(shared) > 0.8 * len(kept) and all(own[key].equal(kept[key]) for key in shared)
    fresh = {key: value for key, value in own.items() if key not in shared}
    expected.load_state_dict({**expected.state_dict(), **fresh})
    x = torch.randn(2, 3, *model.pretrained_cfg["input_size"][1:])
    assert model(x).equal(expected.eval()(x))


def test_other_classes_get_a_fresh_head_and_keep_the_rest(bases):
    model = build_model(config_of(bases / "vit", method="stvit", tokens=4, at="2"), 3)
    assert model.head.weight.shape == (3, 24)
    assert model.blocks[0].attn.qkv.weight.equal(
        stvit.load_checkpoint(bases / "vit").blocks[0].attn.qkv.weight
    )


def test_the_size_is_the_bases_own_or_as_asked(bases):
    assert config_of(bases / "vit").image_size == 48 and config_of("deit_base_patch16_384").image_size == 384
    model = build_model(config_of(bases / "vit", image_size=64, method="evit"), 7).eval()
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 7) and model.pos_embed.shape[1] == 65


def test_a_sparsified_base_is_trained_on_as_it_is(bases):
    assert type(build_model(config_of(bases / "sparse"), 5)).__name__ == "STViT"
    with pytest.raises(ValueError, match=r"semantic tokens already; call stvit.densify"):
        build_model(config_of(bases / "sparse", method="bat"), 5)


def test_weights_that_cannot_be_had_are_said_so(monkeypatch, capsys):
    """No network, or none published: one line, and the model starts untrained."""
    create = timm.create_model

    def offline(name, pretrained=False, **kwargs):
        if pretrained:
            raise OSError("the hub cannot be reached\nand more")
        return create(name, **kwargs)

    monkeypatch.setattr(timm, "create_model", offline)
    build_model(config_of("deit_tiny_patch16_224", image_size=32), 3)
    said = capsys.readouterr()
    assert (
        "no pretrained weights of deit_tiny_patch16_224 can be had (the hub cannot be reached)"
        in said.out + said.err
    )


def test_four_lines_of_python(bases, tmp_path):
    """As README shows it: train, load, and the classes' names."""
    from photographs import write_photographs

    data = write_photographs(tmp_path / "photos", train=8, validation=4, size=48)
    train(
        TrainConfig.of(
            base=str(bases / "vit"), method="bat", keep_rate=0.7, at="2,4", data=str(data), out=str(tmp_path / "run"),
            epochs=1, batch_size=8, workers=0, threads=1, device="cpu",
        )
    )  # fmt: skip
    model = stvit.load_checkpoint(tmp_path / "run" / "model").eval()
    assert model.pretrained_cfg["label_names"] == ("china", "flower")
    assert model(torch.randn(1, 3, 48, 48)).shape == (1, 2)


def test_layers_are_read_from_words():
    assert (layers(""), layers("5"), layers("4,7,10")) == (None, 5, (4, 7, 10))
    with pytest.raises(ValueError, match="--at takes layers such as 5 or 4,7,10, not 'a,b'"):
        layers("a,b")
