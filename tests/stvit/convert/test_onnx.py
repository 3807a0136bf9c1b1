"""Weights out of ONNX graphs: what an exporter renames and moves finds its place again, to the bit."""

import io
from functools import partial

import pytest
import timm
import torch

import stvit
from stvit.convert.onnx import layer_of, load_onnx, read_onnx, to_timm

onnx = pytest.importorskip("onnx", reason="the extra stvit[real] is not installed")
transformers = pytest.importorskip("transformers", reason="the extra stvit[dense] is not installed")
SIZE, PATCH, DIM = 28, 7, 24
SHAPE = dict(image_size=SIZE, patch_size=PATCH, hidden_size=DIM, num_hidden_layers=2, num_attention_heads=2)
OURS = dict(img_size=SIZE, patch_size=PATCH, embed_dim=DIM, depth=2, num_heads=2, num_classes=0)


FINE = dict(norm_layer=partial(torch.nn.LayerNorm, eps=1e-12))  # as ViT and DeiT have it there


class Wrapped(torch.nn.Module):
    """A backbone under a name, and a head beside it."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.scores = backbone, torch.nn.Linear(DIM, 3)

    def forward(self, x):
        tokens = self.backbone(x).last_hidden_state
        return tokens, self.scores(tokens)


def shaken(model):
    """No two parameters alike, as after training."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def exported(model) -> bytes:
    file = io.BytesIO()
    torch.onnx.export(model, (torch.randn(1, 3, SIZE, SIZE),), file, dynamo=False)
    return file.getvalue()


def dinov2():
    config = transformers.Dinov2Config(**SHAPE)
    return shaken(Wrapped(transformers.Dinov2Model(config))), dict(OURS, init_values=1e-5)


def vit():
    config = transformers.ViTConfig(**SHAPE, intermediate_size=4 * DIM)
    return shaken(Wrapped(transformers.ViTModel(config, add_pooling_layer=False))), dict(OURS, **FINE)


def deit():
    config = transformers.DeiTConfig(**SHAPE, intermediate_size=4 * DIM)
    return shaken(Wrapped(transformers.DeiTModel(config, add_pooling_layer=False))), dict(OURS, **FINE)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [dinov2, vit])
def test_hugging_face_models_compute_the_same_in_timm(make):
    theirs, args = make()
    ours = timm.create_model("vit_tiny_patch16_224", **args).eval()
    load_onnx(ours, exported(theirs))
    x = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        torch.testing.assert_close(ours.forward_features(x), theirs(x)[0], atol=2e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_distilled_deit_brings_its_second_token():
    theirs, args = deit()
    ours = timm.create_model("deit_tiny_distilled_patch16_224", **args).eval()
    load_onnx(ours, exported(theirs))
    x = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        torch.testing.assert_close(ours.forward_features(x), theirs(x)[0], atol=2e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fresh", [False, True], ids=["trained", "fresh, with equal tensors stored once"])
def test_timm_models_come_back_to_the_bit(fresh):
    theirs = timm.create_model("vit_tiny_patch16_224", **dict(OURS, num_classes=5)).eval()
    theirs = theirs if fresh else shaken(theirs)
    found = to_timm(read_onnx(exported(theirs)))
    own = theirs.state_dict()
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], own[name]) for name in own)


@pytest.mark.filterwarnings("ignore")
def test_a_head_beside_the_backbone_keeps_its_name_and_is_not_taken_for_a_layer():
    theirs, _ = dinov2()
    weights = read_onnx(exported(theirs))
    assert torch.equal(weights["scores.weight"], theirs.scores.weight)
    assert not any("scores" in name for name in to_timm(weights))


def test_both_generations_of_hugging_face_names_lead_to_the_same():
    old = {
        "vit.embeddings.cls_token": torch.zeros(1, 1, 2),
        **{f"vit.encoder.layer.3.attention.attention.{n}.weight": torch.full((2, 2), i) for i, n in
           enumerate(("query", "key", "value"), 1)},
        "vit.encoder.layer.3.attention.output.dense.weight": torch.full((2, 2), 4),
        "vit.encoder.layer.3.intermediate.dense.bias": torch.full((8,), 5),
        "vit.encoder.layer.3.output.dense.bias": torch.full((2,), 6),
        "vit.encoder.layer.3.layernorm_before.weight": torch.full((2,), 7),
        "vit.encoder.layer.3.layernorm_after.weight": torch.full((2,), 8),
        "vit.layernorm.weight": torch.full((2,), 9),
    }  # fmt: skip
    new = {
        "embeddings.cls_token": torch.zeros(1, 1, 2),
        **{f"layers.3.attention.{n}_proj.weight": torch.full((2, 2), i) for i, n in enumerate("qkv", 1)},
        "layers.3.attention.o_proj.weight": torch.full((2, 2), 4),
        "layers.3.mlp.fc1.bias": torch.full((8,), 5),
        "layers.3.mlp.fc2.bias": torch.full((2,), 6),
        "layers.3.layernorm_before.weight": torch.full((2,), 7),
        "layers.3.layernorm_after.weight": torch.full((2,), 8),
        "layernorm.weight": torch.full((2,), 9),
    }
    first, second = to_timm(old), to_timm(new)
    assert first.keys() == second.keys() == {
        "cls_token", "blocks.3.attn.qkv.weight", "blocks.3.attn.proj.weight", "blocks.3.mlp.fc1.bias",
        "blocks.3.mlp.fc2.bias", "blocks.3.norm1.weight", "blocks.3.norm2.weight", "norm.weight",
    }  # fmt: skip
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["blocks.3.attn.qkv.weight"][:, 0].tolist() == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    "node, layer",
    [
        ("/blocks/blocks.0/attn/qkv/MatMul", "blocks.0.attn.qkv"),
        ("/backbone/encoder/layer.11/mlp/fc2/MatMul", "backbone.encoder.layer.11.mlp.fc2"),
        ("/head/MatMul", "head"),
        ("/MatMul", ""),
        ("node_MatMul_11", ""),
        ("", ""),
    ],
)
def test_a_node_tells_its_layer(node, layer):
    assert layer_of(node) == layer


def graph_of(node_name: str, weights: str) -> bytes:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    matrix = helper.make_tensor(weights, kind, [2, 3], [1, 2, 3, 4, 5, 6])
    node = helper.make_node("MatMul", ["x", weights], ["y"], name=node_name)
    x, y = (helper.make_tensor_value_info(n, kind, [1, d]) for n, d in (("x", 2), ("y", 3)))
    return helper.make_model(helper.make_graph([node], "g", [x], [y], [matrix])).SerializeToString()


def test_a_stored_matrix_is_turned_back():
    found = read_onnx(graph_of("/mlp/fc1/MatMul", "onnx::MatMul_7"))
    assert found.keys() == {"mlp.fc1.weight"}
    assert found["mlp.fc1.weight"].tolist() == [[1, 4], [2, 5], [3, 6]]


def test_a_graph_whose_nodes_do_not_tell_their_layers_is_refused_with_the_remedy():
    with pytest.raises(stvit.CheckpointError, match="dynamo=False"):
        read_onnx(graph_of("node_MatMul_11", "val_12"))


def test_what_does_not_fit_leaves_the_model_as_it_was():
    model = timm.create_model("vit_tiny_patch16_224", **OURS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(stvit.CheckpointError, match="another model"):
        load_onnx(model, graph_of("/mlp/fc1/MatMul", "onnx::MatMul_7"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_damaged_and_missing_files_are_one_line(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(stvit.CheckpointError, match="no ONNX file") as missing:
        read_onnx(path)
    path.write_bytes(graph_of("/mlp/fc1/MatMul", "onnx::MatMul_7")[:-9])
    with pytest.raises(stvit.CheckpointError, match="damaged") as damaged:
        read_onnx(path)
    assert all("\n" not in str(error.value) for error in (missing, damaged))
