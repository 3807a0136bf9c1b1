"""Copies of models: equal to what ``copy.deepcopy`` makes, and apart from the model."""

import copy

import timm
import torch
from torch import nn

from stvit.surgery import copied

SMALL = dict(embed_dim=24, depth=2, num_heads=2, img_size=32, patch_size=8, num_classes=3)


def model() -> nn.Module:
    model = timm.create_model("vit_tiny_patch16_224", **SMALL).eval()
    model.blocks[1].mlp = model.blocks[0].mlp  # shared, as it has to be in the copy
    model.register_buffer("extra", torch.ones(2), persistent=False)
    model.head.register_forward_hook(lambda module, given, output: output + 1)
    model.notes = {}
    return model


def test_it_is_what_deepcopy_makes():
    one, x = model(), torch.randn(2, 3, 32, 32)
    ours, theirs = copied(one), copy.deepcopy(one)
    assert ours.blocks[1].mlp is ours.blocks[0].mlp is not one.blocks[0].mlp
    for a, b in zip(ours.modules(), theirs.modules(), strict=True):
        assert type(a) is type(b) and vars(a).keys() == vars(b).keys()
        assert all(type(vars(a)[key]) is type(vars(b)[key]) for key in vars(a))
        assert a._non_persistent_buffers_set == b._non_persistent_buffers_set
    assert ours(x).equal(theirs(x)) and ours(x).equal(one(x))
    assert all(a.equal(b) and a is not b for a, b in zip(ours.parameters(), one.parameters(), strict=True))


def test_what_is_added_to_the_copy_is_not_in_the_model():
    one = model()
    other = copied(one)
    for part in other.modules():
        part.register_forward_hook(print)
        part.register_buffer("more", torch.ones(1), persistent=False)
    other.notes["of"] = "the copy"
    assert not one.notes and len(one.head._forward_hooks) == 1
    assert not any(part._forward_hooks for part in one.blocks.modules()) and not hasattr(one.norm, "more")
    assert all("more" not in part._non_persistent_buffers_set for part in one.modules())
