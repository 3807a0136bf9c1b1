"""ViT weights out of an exported ONNX graph, under the names that timm gives them. The graph is read, never run.

    weights = read_onnx("model.onnx")   # the names before the export, whatever was exported
    load_onnx(model, "model.onnx")      # into a timm ViT; from Hugging Face's ViT, DeiT and DINOv2 or from timm

``torch.onnx.export(..., dynamo=False)`` keeps a parameter's name unless it changes the tensor on the way out:

- A linear layer's matrix is stored transposed as ``onnx::MatMul_1966``; the node that multiplies with it
  is still called after the layer, ``/encoder/layer.0/attention/output/dense/MatMul``.
- Equal tensors are stored once; an Identity node gives each of the others its name.
- Position embeddings that the model interpolates are stored in two parts: the class token's, and the grid's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from stvit.checkpoints import CheckpointError, fill
from stvit.checkpoints.errors import first_line
from stvit.extras import require

POSITIONS, CLASS_TOKEN = "embeddings.position_embeddings", "embeddings.cls_token"
RENAMED = (  # Hugging Face's names, of transformers 4 and 5 → timm's; the first that fits a part is taken
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.register_tokens", "reg_token"),
    (r"embeddings\.distillation_token", "dist_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"(?:encoder\.)?layers?\.(\d+)\.", r"blocks.\1."),
    (r"layernorm_before\.", "norm1."),
    (r"layernorm_after\.", "norm2."),
    (r"attention\.(?:attention\.)?(?:query|q_proj)\.", "attn.q."),
    (r"attention\.(?:attention\.)?(?:key|k_proj)\.", "attn.k."),
    (r"attention\.(?:attention\.)?(?:value|v_proj)\.", "attn.v."),
    (r"attention\.(?:output\.dense|o_proj)\.", "attn.proj."),
    (r"layer_scale(\d)\.lambda1", r"ls\1.gamma"),
    (r"intermediate\.dense\.", "mlp.fc1."),
    (r"(?<!attention\.)output\.dense\.", "mlp.fc2."),
    (r"^layernorm\.", "norm."),
)
UNUSED = ("embeddings.mask_token",)  # what a timm ViT has no place for


def read_onnx(source: str | Path | bytes) -> dict[str, Tensor]:
    """All parameters of an ONNX file (or of its bytes) under the names that they had before the export."""
    graph = _parse(source)
    tensors = {value.name: _tensor(value) for value in graph.initializer}
    for node in graph.node:  # equal tensors are stored once
        if node.op_type == "Identity" and node.input[0] in tensors:
            tensors[node.output[0]] = tensors[node.input[0]]
    named = {name: value for name, value in tensors.items() if not _is_anonymous(name)}
    nameless = []
    for node in graph.node:
        if node.op_type != "MatMul":
            continue
        stored = next((name for name in node.input if name in tensors and _is_anonymous(name)), None)
        layer = layer_of(node.name)
        if stored is not None and layer:
            named[f"{layer}.weight"] = tensors[stored].T.contiguous()  # (in, out) → (out, in)
        elif stored is not None:
            nameless.append(node.name)
    if nameless:
        raise CheckpointError(
            f"{_called(source)}: the names of {len(nameless)} MatMul nodes, such as {nameless[0]!r}, do not tell "
            "their layer; export the model again with torch.onnx.export(..., dynamo=False)"
        )
    named.update(_positions(graph, tensors, named))
    return named


def layer_of(node: str) -> str:
    """``/blocks/blocks.0/attn/qkv/MatMul`` → ``blocks.0.attn.qkv``; "" where the node is not named by its layer."""
    if not node.startswith("/"):
        return ""
    parts: list[str] = []
    for part in node.split("/")[1:-1]:  # a Sequential repeats its name in front of its layers' numbers
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    return ".".join(parts)


def to_timm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A ViT's weights under timm's names; parts of a larger model that stand beside the ViT are left out.

    ``weights``: Hugging Face's names of ViT, DeiT or DINOv2, with or without a prefix, or timm's own.
    """
    ends = [name for name in weights if name.endswith(CLASS_TOKEN)]
    if not ends:
        return dict(weights)  # timm's names already, or nobody's: the model that is filled will say
    prefix = ends[0].removesuffix(CLASS_TOKEN)
    renamed = {}
    for name, value in weights.items():
        own = name.removeprefix(prefix)
        if name.startswith(prefix) and own not in UNUSED:
            for pattern, new in RENAMED:
                own = re.sub(pattern, new, own)
            renamed[own] = value
    return _join_projections(renamed)


def load_onnx(model: nn.Module, source: str | Path | bytes) -> nn.Module:
    """``model``, a ViT of timm, filled with the weights of an ONNX file: every parameter, or an error."""
    weights, own = to_timm(read_onnx(source)), model.state_dict()
    known = {name: value for name, value in weights.items() if name in own}  # not its pooler or classifier
    fill(model, known or weights, source=_called(source))
    return model


def _join_projections(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """attn.q, attn.k, attn.v → attn.qkv."""
    joined = {}
    for name, value in weights.items():
        if ".attn.q." in name:
            parts = [name.replace(".attn.q.", f".attn.{part}.") for part in "qkv"]
            if not all(part in weights for part in parts):
                raise CheckpointError(f"{name} has no key and value projections beside it")
            joined[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat([weights[part] for part in parts])
        elif not re.search(r"\.attn\.[kv]\.", name):
            joined[name] = value
    return joined


def _positions(graph, tensors: dict[str, Tensor], named: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Position embeddings stored as (1, 1, C) and (1, N, C), put together again: (1, 1 + N, C)."""
    for scope in {layer_of(node.name) for node in graph.node}:
        inputs = [name for node in graph.node if layer_of(node.name) == scope for name in node.input]
        parts = [tensors[name] for name in inputs if name in tensors and _is_anonymous(name)]
        parts = sorted((part for part in parts if part.ndim == 3), key=lambda part: part.shape[1])
        name = f"{scope}.position_embeddings"
        if name.endswith(POSITIONS) and name not in named and len(parts) == 2:
            yield name, torch.cat(parts, dim=1)


def _is_anonymous(name: str) -> bool:
    """The exporter's own names for tensors that it changed."""
    return "::" in name or re.fullmatch(r"val_\d+", name) is not None


def _parse(source: str | Path | bytes):
    onnx = require("onnx", "reading an ONNX file")
    try:
        if isinstance(source, bytes):
            return onnx.load_model_from_string(source).graph
        return onnx.load(str(source)).graph  # with tensors that are stored in files beside it
    except FileNotFoundError:
        raise CheckpointError(f"no ONNX file at {_called(source)}") from None
    except Exception as error:  # protobuf has an error class of its own for each of its implementations
        raise CheckpointError(
            f"{_called(source)} is damaged or not an ONNX file: {first_line(error)}"
        ) from None


def _tensor(value) -> Tensor:
    from onnx import numpy_helper

    return torch.from_numpy(numpy_helper.to_array(value).copy())


def _called(source: str | Path | bytes) -> str:
    return "these bytes" if isinstance(source, bytes) else str(source)
