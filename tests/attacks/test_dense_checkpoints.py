"""Attacks on checkpoints of segmenters and detectors: configurations that name what they may not, or make no sense."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from stvit.checkpoints import CheckpointError
from stvit.dense import load

SEGMENTER = dict(
    backbone="micro_swin", num_classes=3, backbone_args={}, channels=16, auxiliary_channels=8, pools=[1]
)
DETECTOR = dict(backbone="micro_swin", num_classes=3, model_args={}, preset="micro")
CONFIGS = {
    "a list": ([1], "its task is None"),
    "null": (None, "its task is None"),
    "a text": ("x", "its task is None"),
    "no task": ({"arguments": SEGMENTER}, "its task is None"),
    "the task a list": ({"task": ["segment"], "arguments": SEGMENTER}, "its task is"),
    "another task": ({"task": "classify", "arguments": {}}, "its task is 'classify'"),
    "no arguments": ({"task": "segment"}, "arguments are NoneType"),
    "arguments a list": ({"task": "segment", "arguments": [1]}, "arguments are list"),
    "no backbone": ({"task": "segment", "arguments": {}}, "does not say the model's backbone"),
    "backbone a list": ({"task": "segment", "arguments": {**SEGMENTER, "backbone": ["x"]}}, "backbone = "),
    **{
        f"segmenter's {name} {value!r}"[:60]: ({"task": "segment", "arguments": {**SEGMENTER, name: value}}, name)
        for name, value in [
            ("foo", 1), ("backbone", "hf-hub:someone/model"), ("backbone", "/etc/passwd"), ("backbone", "nothing"),
            ("backbone", "http://x.org/y"), ("num_classes", 10**12), ("num_classes", "x"), ("num_classes", -1),
            ("channels", 10**9), ("channels", "wide"), ("channels", True), ("pools", [0]), ("pools", [10**6]),
            ("pools", [[[[[1]]]]]), ("output_norms", "yes"), ("auxiliary_channels", 1.5), ("pretrained", True),
            ("checkpoint_path", "/etc/passwd"),
        ]
    },
    **{
        f"backbone's {name} {value!r}"[:60]: (
            {"task": "segment", "arguments": {**SEGMENTER, "backbone_args": {name: value}}}, name
        )
        for name, value in [
            ("pretrained", True), ("checkpoint_path", "/etc/passwd"), ("pretrained_cfg", {"url": "http://x.org/y"}),
            ("pretrained_cfg_overlay", {"file": "/etc/passwd"}), ("cache_dir", "/tmp/x"), ("depth", 10**9),
            ("embed_dim", 10**6), ("img_size", [10**6, 10**6]), ("foo", 1),
        ]
    },
    "backbone_args a list": (
        {"task": "segment", "arguments": {**SEGMENTER, "backbone_args": [1]}}, "backbone_args: .*are list"
    ),
    **{
        f"detector's {name} {value!r}"[:60]: ({"task": "detect", "arguments": {**DETECTOR, name: value}}, name)
        for name, value in [
            ("foo", 1), ("preset", "/etc"), ("stages", [[0.5, [0.1], 10**30]]), ("detections", 10**9),
            ("min_sizes", [10**9]), ("class_agnostic", 1), ("anchor_ratios", [float("inf")]), ("box_convs", 10**6),
            ("model_args", {"pretrained": True}), ("weights", "http://x.org/y"),
        ]
    },
    "a preset that is none": (
        {"task": "detect", "arguments": {**DETECTOR, "preset": "huge"}}, "cannot be built as it says: unknown preset"
    ),
    "a wide model, small weights": (
        {"task": "segment", "arguments": {**SEGMENTER, "channels": 4096, "auxiliary_channels": 4096}},
        "another model|shapes differ|missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_of_dense_models(name, tmp_path, no_network):
    content, words = CONFIGS[name]
    (tmp_path / "config.json").write_text(json.dumps(content))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=words) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)
