"""The authors' weights: their programs' outputs to 1e-5, their files without running what is in them."""

import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from fill_rule import draw, make_input
from micro_swin import SWIN, build, images

import stvit
from stvit.convert.released import convert, describe

ORACLES = Path(__file__).resolve().parents[1] / "oracles"


def authors_weights(
    detection: bool = False, centers: bool = False, shrink: bool = False
) -> dict[str, torch.Tensor]:
    """A state dict in the authors' names, filled by rule; ``shrink`` leaves channels of 16 a stage-1 head."""
    shapes = json.loads((ORACLES / "stvit_r_swin_small_keys.json").read_text())
    if detection:
        shapes = {k: s for k, s in shapes.items() if not k.startswith(("norm.", "head."))}
        shapes.update({f"norm{i}.{part}": [96 * 2**i] for i in range(4) for part in ("weight", "bias")})
    if centers:
        shapes["layers.2.semantic_token2"] = [1, 36, 384]
    if shrink:
        shapes = {k: _narrow(k, s) for k, s in shapes.items()}
    tensors = {}
    for key, shape in shapes.items():
        counts = key.endswith("num_batches_tracked")
        tensors[key] = torch.tensor(0) if counts else draw(key, torch.empty(shape))
    return tensors


def _narrow(key: str, shape: list[int]) -> list[int]:
    """Widths divided by 6, heads by 3 (so heads of 16 channels); the classes stay."""
    keep = {0} if key.startswith("head.") else set()
    if key.endswith("relative_position_bias_table"):
        return [shape[0], shape[1] // 3]
    return [n if i in keep or n in (1, 3) else n // 6 for i, n in enumerate(shape)]


def model_of(state_dict: dict[str, torch.Tensor], **options) -> torch.nn.Module:
    name, args = describe(state_dict)
    model = timm.create_model(name, **{**args, **options}).eval()
    getattr(model, "model", model).load_state_dict(convert(state_dict))
    return model


@pytest.mark.parametrize(
    ("name", "centers", "options"),
    [
        ("stvit_r_swin_small", False, {}),
        ("stvit_r_swin_small_opt_shortcut", False, dict(shortcut=True)),
        ("stvit_r_swin_small_opt_useglobal", True, {}),
        ("stvit_r_swin_small", False, dict(cross_window="global", key_windows=(10, 21))),  # the same at 224
    ],
)
def test_logits_of_the_authors_classifier(name, centers, options):
    model = model_of(authors_weights(centers=centers), **options)
    with torch.no_grad(), np.load(ORACLES / f"{name}.npz") as reference:
        expected = torch.from_numpy(reference["logits"])
        torch.testing.assert_close(model(make_input()), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("batch", "size"), [(1, (480, 640)), (2, (237, 301))])
def test_maps_of_the_authors_detection_backbone(batch, size):
    model = model_of(authors_weights(detection=True), border="released")
    file = ORACLES / f"stvit_r_det_swin_small_{size[0]}x{size[1]}.npz"
    with torch.no_grad(), np.load(file) as reference:
        maps = model(make_input((batch, 3, *size)))
        for i, step in enumerate((4, 4, 2, 2)):
            expected = torch.from_numpy(reference[f"out{i}_sample"])
            torch.testing.assert_close(maps[i][:, ::16, ::step, ::step], expected, atol=1e-5, rtol=0)


@pytest.fixture
def configuration(monkeypatch):
    """An object of yacs' class, while the file is written; gone when it is read."""
    module = types.ModuleType("yacs.config")

    class CfgNode(dict):
        def __init__(self, content):
            super().__init__(content)
            self.__dict__["__immutable__"] = False

    CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"
    module.CfgNode = CfgNode
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    yield CfgNode({"MODEL": CfgNode({"DEPTHS": [2, 2, 18, 2], "NAME": "swin"}), "AMP": "O1"})


def test_classifier_from_its_file(configuration, tmp_path, monkeypatch):
    weights, path = authors_weights(shrink=True), tmp_path / "small.pth"
    torch.save({"model": weights, "epoch": 299, "config": configuration, "max_accuracy": 82.65}, path)
    monkeypatch.delitem(sys.modules, "yacs.config")
    model, expected = stvit.load_released(path), model_of(weights)
    assert not model.training and "yacs.config" not in sys.modules
    with torch.no_grad():
        out = model(images((224, 224)))
        assert out.shape == (2, 1000) and out.equal(expected(images((224, 224))))


def test_backbone_from_a_detectors_file(configuration, tmp_path):
    weights, path = authors_weights(detection=True, shrink=True), tmp_path / "detector.pth"
    state = {f"backbone.{key}": value for key, value in weights.items()}
    state["rpn_head.rpn_conv.weight"] = torch.zeros(2, 2)
    torch.save({"meta": {"config": configuration, "CLASSES": ("person",)}, "state_dict": state}, path)
    x = images((101, 75), batch=1)
    for options in ({}, dict(border="released")):
        model, expected = stvit.load_released(path, **options), model_of(weights, **options)
        with torch.no_grad():
            maps = model(x)
            assert [m.shape[1:] for m in maps] == [(16, 26, 19), (32, 13, 10), (64, 7, 5), (128, 4, 3)]
            assert all(a.equal(b) for a, b in zip(maps, expected(x), strict=True))


class Hostile:
    def __reduce__(self):
        return (os.mkdir, (os.environ["STVIT_TEST_HOSTILE"],))


def test_code_in_a_file_does_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("STVIT_TEST_HOSTILE", str(tmp_path / "ran"))
    torch.save({"model": authors_weights(shrink=True), "config": Hostile()}, tmp_path / "hostile.pth")
    with pytest.raises(ValueError, match=r"hostile.pth holds Python objects .*\.mkdir"):
        stvit.load_released(tmp_path / "hostile.pth")
    assert not (tmp_path / "ran").exists()


def test_other_files_are_refused_with_the_reason(tmp_path):
    torch.save({"model": build("recovery").state_dict()}, tmp_path / "ours.pth")
    with pytest.raises(ValueError, match="not weights of the released STViT-R-Swin"):
        stvit.load_released(tmp_path / "ours.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds list, not a state dict"):
        stvit.load_released(tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("no checkpoint")
    with pytest.raises(ValueError, match="is damaged or not a checkpoint"):
        stvit.load_released(tmp_path / "text.pth")
    with pytest.raises(stvit.CheckpointError, match="no checkpoint at"):
        stvit.load_released(tmp_path / "none.pth")
    weights = authors_weights(shrink=True)
    del weights["layers.2.blocks.3.mlp.fc1.bias"]
    torch.save(weights, tmp_path / "short.pth")
    with pytest.raises(ValueError, match=r"missing layers.2.blocks.3.mlp.fc1.bias"):
        stvit.load_released(tmp_path / "short.pth")


@pytest.mark.parametrize("row", ["swin", "recovery"])
def test_swin_weights_initialise_what_is_shared(row):
    swin = timm.create_model("swin_tiny_patch4_window7_224", num_classes=7, **SWIN)
    model = build(row)
    fresh = stvit.load_swin(model, swin)
    kinds = ("patch_embed.", "layers.2.initial.", "layers.3.downsample.")
    assert all(name.startswith(kinds) or ".centers." in name for name in fresh)
    given, own = swin.state_dict(), model.state_dict()
    shared = [key for key in given if key in own and not key.startswith("patch_embed.")]
    assert len(shared) > 100 and all(own[key].equal(given[key]) for key in shared)
    with pytest.raises(ValueError, match="this Swin: shapes differ"):
        stvit.load_swin(model, timm.create_model("swin_tiny_patch4_window7_224", **{**SWIN, "embed_dim": 32}))
    with pytest.raises(ValueError, match="neither"):
        stvit.load_swin(swin, swin)


@pytest.mark.parametrize("recovery", [False, True])
def test_sparsified_swin(recovery):
    swin = timm.create_model("swin_tiny_patch4_window7_224", num_classes=7, **SWIN).eval()
    before = {key: value.clone() for key, value in swin.state_dict().items()}
    sparse = stvit.sparsify(swin, tokens=4, recovery=recovery)
    with torch.no_grad():
        assert sparse(images((237, 301))).shape == (2, 7)
    own = sparse.state_dict()
    assert all(own[key].equal(value) for key, value in before.items() if key in own)
    assert all(value.equal(before[key]) for key, value in swin.state_dict().items())
    again = timm.create_model(sparse.pretrained_cfg["architecture"], **sparse._model_args).eval()
    again.load_state_dict(own)
    with torch.no_grad():
        assert again(images()).equal(sparse(images()))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(method="bat"), "only 'stvit' keeps windows"),
        (dict(tokens=8), "fill a square"),
        (dict(at=9), "base_depth ≤ 4"),
        (dict(tokens=64), "semantic_window ≤ 7"),
        (dict(units=[(1, 2, 2, 1)]), "recovery=True"),
        (dict(recovery=True, at=3), "units says where"),
        (dict(foo=1), "unknown options foo; choose from"),
    ],
)
def test_sparsify_refuses_with_the_reason(options, words):
    swin = timm.create_model("swin_tiny_patch4_window7_224", **SWIN)
    with pytest.raises(ValueError, match=words):
        stvit.sparsify(swin, **options)


def test_sparsify_knows_its_own_and_strangers():
    with pytest.raises(ValueError, match="semantic tokens already"):
        stvit.sparsify(build("swin"))
    swin = timm.create_model("swin_tiny_patch4_window7_224", **SWIN)
    swin.layers[1].blocks[0] = torch.nn.Identity()
    with pytest.raises(ValueError, match="Identity"):
        stvit.sparsify(swin)
