"""Folders of models and adapters with a card: what was saved comes back, and dense loaders read it too."""

import json

import huggingface_hub.hub_mixin
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import stvit

MICRO = dict(img_size=32, patch_size=4, embed_dim=48, depth=6, num_heads=3, num_classes=5)


def few(**choices):
    torch.manual_seed(0)
    return stvit.sparsify(timm.create_model("vit_tiny_patch16_224", **MICRO), **choices).eval()


@pytest.mark.parametrize("choices", [dict(tokens=4, at=3), dict(method="dynamicvit", keep_rate=0.5)])
def test_a_model_of_timm_comes_back_with_its_card(choices, tmp_path):
    model, x = few(**choices), torch.randn(2, 3, 32, 32)
    stvit.save_pretrained(model, tmp_path, record={"top1": 79.8, "seed": 0})
    assert stvit.from_pretrained(tmp_path)(x).equal(model(x))
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert again(x).equal(model(x))
    card = (tmp_path / "README.md").read_text()
    for line in (
        "library_name: stvit",
        "| base | vit_tiny_patch16_224 |",
        "| top1 | 79.8 |",
        "multiply-adds of an image |",
    ):
        assert line in card


def test_the_card_counts_what_a_closed_form_says(tmp_path):
    stvit.save_pretrained(few(method="topk", keep_rate=0.5, at=3), tmp_path)
    embed, layer = 64 * 48 * 48, lambda n, m=None: 4 * n * 48**2 + 2 * n * n * 48 + 8 * (m or n) * 48**2
    dense = embed + 6 * layer(65)
    sparse = (
        embed + 2 * layer(65) + layer(65, 33) + 3 * layer(33) + 65 * 48 - 48 - 48 - 48 + 3 * 48
    )  # and one row of maps
    card = (tmp_path / "README.md").read_text()
    assert f"| multiply-adds of the dense model | {dense:,} |" in card
    assert (
        f"| multiply-adds of an image | {sparse:,} |" in card
        and "| tokens after the last layer | 33 |" in card
    )


def test_push_sends_the_same_folder(tmp_path, monkeypatch):
    sent = {}

    class Api:
        def __init__(self, **_): ...
        def create_repo(self, repo_id, **_):
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id, folder_path, **_):
            sent[repo_id] = {path.name: path.read_bytes() for path in folder_path.iterdir()}

    monkeypatch.setattr(huggingface_hub.hub_mixin, "HfApi", Api)
    model = few(tokens=4, at=3)
    stvit.push_to_hub(model, "me/few", record={"top1": 1.0})
    stvit.save_pretrained(model, tmp_path, record={"top1": 1.0})
    assert sent["me/few"] == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sent["me/few"].keys() == {"README.md", "config.json", "model.safetensors", "record.json"}


def test_a_model_of_transformers_is_also_a_dense_one(tmp_path):
    pytest.importorskip("transformers")
    from guests import build, inputs, tensors

    for name in ("ViTModel", "DINOv3ViTModel", "CLIPModel"):
        model, given, folder = build(name), inputs(name), tmp_path / name
        choices = dict(method="dtem") if name.startswith("DINO") else dict(tokens=4, at=2)
        sparse = stvit.sparsify(model, **choices)
        stvit.save_pretrained(sparse, folder)
        again = stvit.from_pretrained(folder)
        for a, b in zip(tensors(again(**given)), tensors(sparse(**given)), strict=True):
            assert a.equal(b)
        dense = type(model).from_pretrained(folder).state_dict()
        assert all(dense[key].equal(value) for key, value in model.state_dict().items())
        assert json.loads((folder / "config.json").read_text())["stvit"] == {"method": "stvit", **choices}


@pytest.mark.parametrize(
    "choices",
    [
        dict(method=method)
        for method in ("dynamicvit", "patchmerger", "sinkhorn", "sit", "spvit", "svite", "iared2", "dge")
    ]
    + [dict(method="tokenlearner", version="1.0", at=2), dict(tokens=(2, 3), at=2, position="relative")],
)
def test_what_was_learned_comes_back(choices, tmp_path):
    pytest.importorskip("transformers")
    from guests import build, inputs, tensors

    sparse, given = stvit.sparsify(build("ViTModel"), **choices), inputs("ViTModel")
    stvit.save_pretrained(sparse, tmp_path)
    again = stvit.from_pretrained(tmp_path)
    assert all(a.equal(b) for a, b in zip(tensors(again(**given)), tensors(sparse(**given)), strict=True))


def test_damaged_folders_say_what_is_wrong(tmp_path):
    pytest.importorskip("transformers")
    from guests import build

    with pytest.raises(stvit.CheckpointError, match="neither config.json nor adapter"):
        stvit.from_pretrained(tmp_path)
    build("ViTModel").save_pretrained(tmp_path)
    with pytest.raises(stvit.CheckpointError, match="it is a dense model"):
        stvit.from_pretrained(tmp_path)
    stvit.save_pretrained(stvit.sparsify(build("ViTModel"), tokens=4, at=2), tmp_path)
    weights, config = tmp_path / "model.safetensors", json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps({**config, "stvit": {"method": "stvit", "pretrained": True}})
    )
    with pytest.raises(stvit.CheckpointError, match="not an argument of an architecture"):
        stvit.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    kept = {key: value for key, value in load_file(weights).items() if "centers" not in key}
    save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="holds 0 weights 2.centers.weight"):
        stvit.from_pretrained(tmp_path)
