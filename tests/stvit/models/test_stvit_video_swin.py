"""Semantic tokens of each frame and of the whole clip."""

import itertools

import pytest
import timm
import torch

from stvit.layers.window_semantic import Windows
from stvit.layers.windows import neighbourhoods, restore_table, window_table
from stvit.models.stvit_video_swin import over_frames

SIZE = 48  # a stage 3 of 6 × 6 tokens: nine windows


def build(scope: str, **choices) -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("micro_stvit_video_swin", scope=scope, **choices).eval()


def clip(frames: int) -> torch.Tensor:
    return torch.randn(2, 3, frames, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("keys", ["concat", "image", "image_first"])
@torch.no_grad()
def test_of_one_frame_both_are_the_same(keys):
    frame, whole = build("frame", stgm_keys=keys), build("clip", stgm_keys=keys)
    torch.testing.assert_close(whole(clip(2)), frame(clip(2)), atol=1e-5, rtol=0)  # two frames are one patch
    assert (whole(clip(8)) - frame(clip(8))).abs().max() > 1e-4


@pytest.mark.parametrize("keys", ["concat", "image_first"])
@torch.no_grad()
def test_one_set_of_tokens_whatever_the_order_of_frames(keys):
    stage, x = build("clip", stgm_keys=keys).layers[2], torch.randn(2, 4, 6, 6, 32)
    stage.downsample = torch.nn.Identity()
    x = torch.randn(2, 4, 6, 6, stage.blocks[0].dim)
    for block in itertools.islice(stage.blocks, stage.units[0].image):
        block.forward = lambda x: x  # the base layers do see the order
    out = stage(x)
    assert out.shape[:2] == (2, 1)
    torch.testing.assert_close(stage(x[:, [2, 0, 3, 1]]), out, atol=1e-5, rtol=0)
    assert (stage(x[:, [0, 0, 0, 0]]) - out).abs().max() > 1e-4


@pytest.mark.parametrize("own", [0, 9])
def test_keys_are_the_places_in_all_frames(own):
    queries = window_table((3, 3), (1, 1))
    around = neighbourhoods((6, 6), (2, 2), (4, 4))
    keys = torch.cat([queries, own + around], dim=1) if own else around
    found = over_frames(Windows(queries, keys, restore_table((3, 3), (1, 1))), own, 36, 3)
    for w, row in enumerate(found.keys.tolist()):
        expected = [int(queries[w])] if own else []
        expected += [own + 36 * t + int(k) for t in range(3) for k in around[w]]
        assert row == expected
    assert over_frames(None, own, 36, 3) is None


def test_learns_and_names_its_choices():
    model = build("clip").train()
    model(clip(8)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    with pytest.raises(ValueError, match="unknown scope 'video'; choose one of frame, clip"):
        build("video")
