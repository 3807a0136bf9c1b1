"""A small model whose checkpoints are attacked, and how an attack has to end."""

import pytest
import timm
import torch
from torch import nn

import stvit

SHAPE = dict(img_size=24, patch_size=6, embed_dim=16, depth=4, num_heads=2, num_semantic_tokens=4, stgm_at=2)


def build() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("micro_stvit", **SHAPE)


def refused(call, words: str = "") -> None:
    with pytest.raises(stvit.CheckpointError, match=words or None) as caught:
        call()
    assert "\n" not in str(caught.value)


def same(model: nn.Module, before: dict) -> bool:
    return all(value.equal(before[name]) for name, value in model.state_dict().items())
