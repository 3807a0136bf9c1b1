"""Checkpoints: what training leaves behind loads; what is damaged or foreign is refused whole."""

import json
import pickle

import pytest
import timm
import torch
from micro import MODELS, VIT, build, images
from safetensors.torch import load_file, save_file

import stvit
from stvit.checkpoints.drafts import drafting


@pytest.mark.parametrize("row", MODELS)
def test_round_trip_by_stvit_and_by_timm(row, tmp_path):
    model = build(row)
    x = images(model)
    stvit.save_checkpoint(model, tmp_path, record={"seed": 0})
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "record.json",
    ]
    assert json.loads((tmp_path / "record.json").read_text()) == {"seed": 0}
    assert stvit.load_checkpoint(tmp_path).eval()(x).equal(model(x))
    assert timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()(x).equal(model(x))


@pytest.mark.parametrize("row", MODELS)
def test_a_draft_has_the_names_and_shapes_and_no_numbers(row):
    """And a tensor that has numbers is written to, also while a draft is made."""
    with drafting():
        draft = build(row)
        written = torch.zeros(2, device="cpu").add_(1).mul_(3)
    shapes = [{name: value.shape for name, value in one.state_dict().items()} for one in (draft, build(row))]
    assert shapes[0] == shapes[1] and all(value.is_meta for value in draft.state_dict().values())
    assert written.tolist() == [3, 3]


@pytest.mark.parametrize("name", ["vit_small_patch14_reg4_dinov2", "deit_tiny_distilled_patch16_224"])
def test_sparsified_models_and_their_dense_ones(name, tmp_path):
    base = timm.create_model(name, img_size=112, embed_dim=48, depth=4, num_heads=3, num_classes=7).eval()
    sparse = stvit.sparsify(base, tokens=(2, 3), at=2, position="learned").eval()
    x = torch.randn(1, 3, 112, 112)
    stvit.save_checkpoint(sparse, tmp_path / "sparse")
    stvit.save_checkpoint(stvit.densify(sparse), tmp_path / "dense")
    for load in (stvit.load_checkpoint, lambda path: timm.create_model(f"local-dir:{path}", pretrained=True)):
        assert load(tmp_path / "sparse").eval()(x).equal(sparse(x))
        assert load(tmp_path / "dense").eval()(x).equal(base(x))


def test_another_image_size_is_the_same_function(tmp_path):
    stvit.save_checkpoint(build("default", img_size=64), tmp_path)  # windows of 4 × 4
    large = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, img_size=128).eval()  # of 8 × 8
    x = torch.randn(1, 3, 128, 128)
    torch.testing.assert_close(large(x), stvit.load_checkpoint(tmp_path).eval()(x), atol=1e-5, rtol=0)


WRAPPED = {
    "plain": lambda sd: sd,
    "DDP": lambda sd: {f"module.{k}": v for k, v in sd.items()},
    "compiled": lambda sd: {f"_orig_mod.{k}": v for k, v in sd.items()},
    "both": lambda sd: {f"module._orig_mod.{k}": v for k, v in sd.items()},
    "model": lambda sd: {"model": sd, "epoch": 3},
    "state_dict": lambda sd: {"state_dict": sd, "optimizer": {"state": {}, "param_groups": []}},
    "nested": lambda sd: {
        "checkpoint": 1,
        "model": {"state_dict": {f"module.{k}": v for k, v in sd.items()}},
    },
    "EMA alone": lambda sd: {"state_dict_ema": {f"module.{k}": v for k, v in sd.items()}},
    "bf16": lambda sd: {k: v.bfloat16() for k, v in sd.items()},
    "fp16": lambda sd: {k: v.half() for k, v in sd.items()},
}


@pytest.mark.parametrize("how", WRAPPED)
def test_what_training_leaves_behind(how, tmp_path):
    model, other = build("default"), build("default")
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter)
    torch.save(WRAPPED[how](model.state_dict()), tmp_path / "last.pth")
    stvit.load_checkpoint(tmp_path / "last.pth", other)
    tolerance = 2e-2 if how in ("bf16", "fp16") else 0
    for key, value in other.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[key], atol=tolerance, rtol=tolerance)


def test_averaged_weights_on_request(tmp_path):
    model, average, loaded = build("default"), build("default"), build("default")
    average.head.bias.data.fill_(3.0)
    torch.save(
        {"state_dict": model.state_dict(), "state_dict_ema": average.state_dict()}, tmp_path / "both.pth"
    )
    stvit.load_checkpoint(tmp_path / "both.pth", loaded)
    assert (loaded.head.bias == 0).all()
    stvit.load_checkpoint(tmp_path / "both.pth", loaded, ema=True)
    assert (loaded.head.bias == 3).all()


def test_a_wrapped_model_is_saved_without_its_wrapper(tmp_path):
    model = build("default")
    stvit.save_checkpoint(torch.nn.DataParallel(model), tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == model.state_dict().keys()


def test_deit_weights_with_a_warning(tmp_path):
    deit = timm.create_model("deit_tiny_patch16_224", **VIT)
    torch.save({"model": deit.state_dict()}, tmp_path / "deit.pth")
    model = build("default")
    with pytest.warns(UserWarning, match=r"missing blocks.3.centers.weight.*unexpected cls_token"):
        stvit.load_checkpoint(tmp_path / "deit.pth", model, strict=False)
    assert model.blocks[0].attn.qkv.weight.equal(deit.blocks[0].attn.qkv.weight)


class Config:  # a stand-in for what old checkpoints pickle beside their tensors
    pass


def _truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _damage(name, change):
    def write(sd, path):
        change(sd)
        save_file(sd, path)

    return pytest.param(write, id=name)


def refuses(model, path, message, **kwargs):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(stvit.CheckpointError, match=message) as caught:
        stvit.load_checkpoint(path, model, **kwargs)
    assert "\n" not in str(caught.value)
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_truncated_and_foreign_files(suffix, tmp_path):
    model, path = build("default"), tmp_path / f"model{suffix}"
    save_file(model.state_dict(), path) if suffix == ".safetensors" else torch.save(model.state_dict(), path)
    _truncate(path)
    refuses(model, path, "is damaged or not a checkpoint")
    path.write_text("no checkpoint at all")
    refuses(model, path, "is damaged or not a checkpoint")
    path.write_bytes(b"")
    refuses(model, path, "is damaged or not a checkpoint")


def test_wrong_shapes_name_keys_and_both_shapes(tmp_path):
    model, path = build("default"), tmp_path / "model.safetensors"
    save_file(build("default", num_classes=5).state_dict(), path)
    refuses(model, path, r"shapes differ: head.bias is \(5,\), the model's \(7,\); head.weight is \(5, 48\)")
    refuses(model, path, "shapes differ", strict=False)


def test_missing_unexpected_and_other_models(tmp_path):
    model, path = build("default"), tmp_path / "model.safetensors"
    state = model.state_dict()
    save_file({("extra" if key == "head.bias" else key): value for key, value in state.items()}, path)
    refuses(model, path, "missing head.bias, unexpected extra; the model is unchanged")
    save_file({"conv.weight": torch.zeros(2), "conv.bias": torch.zeros(2)}, path)
    refuses(model, path, r"another model: none of its 2 keys \(conv.bias, conv.weight\) belongs to STViT")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(value, tmp_path):
    model, path = build("default"), tmp_path / "model.safetensors"
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state["blocks.0.mlp.fc1.weight"][0, 0] = value
    save_file(state, path)
    refuses(model, path, "NaN or infinite values in blocks.0.mlp.fc1.weight; the model is unchanged")


def test_python_objects_are_not_unpickled(tmp_path):
    model, path = build("default"), tmp_path / "model.pth"
    torch.save({"model": model.state_dict(), "config": Config()}, path)
    refuses(
        model,
        path,
        r"Python objects besides tensors \(\S*Config\), which are not loaded because unpickling them can run code",
    )
    path.write_bytes(pickle.dumps(Config()))
    refuses(model, path, "Python objects|damaged")


def test_files_without_a_state_dict(tmp_path):
    model, path = build("default"), tmp_path / "model.pth"
    torch.save({"epoch": 3, "loss": 0.5}, path)
    refuses(model, path, "holds no state dict; its entries are epoch, loss")
    torch.save([torch.zeros(2)], path)
    refuses(model, path, "holds list, not a state dict")
    refuses(model, tmp_path / "nowhere.pth", "no checkpoint at")
    refuses(model, tmp_path, r"no model.safetensors in the folder .*; it holds model.pth")


def test_folders_that_cannot_be_built(tmp_path):
    model = build("default")
    stvit.save_checkpoint(model, tmp_path)
    config = tmp_path / "config.json"
    for content, message in [
        (
            '{"architecture": "stvit_of_tomorrow"}',
            "names the architecture 'stvit_of_tomorrow', which neither",
        ),
        ("{}", "is not a model configuration"),
        ("{", "is not a model configuration"),
    ]:
        config.write_text(content)
        with pytest.raises(stvit.CheckpointError, match=message):
            stvit.load_checkpoint(tmp_path)
    config.unlink()
    with pytest.raises(
        stvit.CheckpointError, match=r"config.json does not exist.*pass the model to load into"
    ):
        stvit.load_checkpoint(tmp_path)


def test_saving_a_model_that_no_name_builds(tmp_path):
    with pytest.raises(stvit.CheckpointError, match="Linear was not built by timm.create_model"):
        stvit.save_checkpoint(torch.nn.Linear(2, 2), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_failed_save_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    model = build("default")
    stvit.save_checkpoint(model, tmp_path, record={"epoch": 1})
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    monkeypatch.setattr("json.dumps", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        stvit.save_checkpoint(model, tmp_path, record={"epoch": 2})
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
