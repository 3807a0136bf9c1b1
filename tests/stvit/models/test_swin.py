"""The trunk against timm's and torchvision's Swin; STViT-Swin."""

import pytest
import timm
import torch
from micro_swin import IMAGE, MICRO, SWIN, build, images
from torchvision.models.swin_transformer import SwinTransformerBlock as TorchvisionBlock

import stvit
from stvit.layers.window_layout import layout
from stvit.layers.window_options import SemanticOptions
from stvit.models.swin import WindowBlock

SIZES = [(14, 14), (15, 19), (28, 21), (9, 16), (7, 7), (5, 9)]


def blocks(shift: int = 3, mask_padding: bool = True) -> tuple[WindowBlock, torch.nn.Module]:
    """timm's and our block, and torchvision's with the same weights."""
    source = timm.models.swin_transformer.SwinTransformerBlock(
        32, (28, 28), num_heads=2, window_size=7, shift_size=shift
    ).eval()
    other = TorchvisionBlock(32, 2, [7, 7], [shift, shift]).eval()
    renamed = {"mlp.0": "mlp.fc1", "mlp.3": "mlp.fc2"}
    weights = source.state_dict()
    for key, value in other.state_dict().items():
        for theirs, ours in renamed.items():
            key = key.replace(theirs, ours)
        if "relative_position_index" not in key:
            value.copy_(weights[key])
    return WindowBlock.from_timm(source, mask_padding), other


@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("grid", SIZES)
def test_block_equals_torchvisions_at_every_size(grid, shift):
    block, other = blocks(shift, mask_padding=False)
    x = torch.randn(2, *grid, 32)
    with torch.no_grad():
        torch.testing.assert_close(block(x), other(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("grid", [(14, 14), (28, 21)])
def test_masking_changes_nothing_without_padding(grid, shift):
    block, other = blocks(shift)
    x = torch.randn(2, *grid, 32)
    with torch.no_grad():
        torch.testing.assert_close(block(x), other(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("mask_padding", [True, False])
@pytest.mark.parametrize("grid", [(16, 14), (15, 19), (9, 9)])
def test_nothing_leaks_across_the_border(grid, mask_padding):
    """Of a token's attention the gradient is zero at everything a window away and more."""
    block, _ = blocks(3, mask_padding)
    x = torch.randn(1, *grid, 32, requires_grad=True)
    out = block(x)
    for corner in [(0, 0), (grid[0] - 1, 0), (grid[0] - 1, grid[1] - 1)]:
        (grad,) = torch.autograd.grad(out[0][corner].sum(), x, retain_graph=True)
        touched = grad[0].abs().sum(-1).nonzero()
        assert ((touched - torch.tensor(corner)).abs() < 7).all()


def test_timms_own_block_leaks():
    """The reason for a block of our own; if timm mends it, this test says so."""
    source = timm.models.swin_transformer.SwinTransformerBlock(32, (16, 14), 2, window_size=7, shift_size=3)
    x = torch.randn(1, 16, 14, 32, requires_grad=True)
    (grad,) = torch.autograd.grad(source(x)[0, 15, 0].sum(), x)
    assert grad[0, 0].abs().sum() > 0


@pytest.mark.parametrize("grid", [(15, 19), (5, 9)])
def test_padding_takes_no_part(grid):
    """With the attention of a padded map masked, a token sees the mean of real tokens alone."""
    block, _ = blocks(0)
    with torch.no_grad():
        block.attn.qkv.weight[:64].zero_(), block.attn.qkv.bias[:64].zero_()
        block.attn.relative_position_bias_table.zero_()
        x = torch.randn(1, *grid, 32)
        normed = block.norm1(x)
        attended = block._attn(normed)
        last = normed[0, grid[0] // 7 * 7 :, grid[1] // 7 * 7 :].flatten(
            0, 1
        )  # the last window's real tokens
        v = last @ block.attn.qkv.weight[64:].T + block.attn.qkv.bias[64:]
        torch.testing.assert_close(attended[0, -1, -1], block.attn.proj(v.mean(0)), atol=1e-5, rtol=0)


def test_trunk_equals_timms_swin_at_224():
    torch.manual_seed(0)
    swin = timm.create_model("swin_tiny_patch4_window7_224", num_classes=7, **SWIN).eval()
    ours = stvit.sparsify(swin, tokens=9)
    x = images(IMAGE)
    with torch.no_grad():
        for stage in range(2):
            torch.testing.assert_close(
                ours.forward_intermediates(x, [stage], intermediates_only=True)[0],
                swin.forward_intermediates(x, [stage], intermediates_only=True)[0],
                atol=1e-5,
                rtol=0,
            )
        base, x = ours.layers[2].plan.index(("stgm", 0, 0)), torch.randn(2, 28, 28, 32)
        ours, swin = ours.layers[2], swin.layers[2]
        x, y = ours.downsample(x), swin.downsample(x)
        for i in range(base):
            x, y = ours.blocks[i](x), swin.blocks[i](y)
        torch.testing.assert_close(x, y, atol=1e-5, rtol=0)


@pytest.mark.parametrize("row", MICRO)
def test_224_is_the_same_with_and_without_the_padding_path(row, monkeypatch):
    """Labels and masks that are all open, forced on, change nothing."""
    model, x = build(row), images(IMAGE)
    with torch.no_grad():
        before = model(x)

        def labelled(grid, window, shift, mask_padding, device=None, real=stvit.models.swin.regions):
            labels = real(grid, window, shift, mask_padding, device)
            count = -(-grid[0] // window[0]) * -(-grid[1] // window[1])
            return torch.zeros(count, window[0] * window[1], dtype=torch.long) if labels is None else labels

        def masked(*args, real=layout):
            where = real(*args)

            def opened(windows):
                return windows and windows._replace(mask=torch.zeros(windows.keys.shape))

            roles = ("generate", "cluster", "local", "cross", "recover")
            return where._replace(**{role: opened(getattr(where, role)) for role in roles})

        monkeypatch.setattr("stvit.models.swin.regions", labelled)
        monkeypatch.setattr("stvit.models.dumbbell.layout", masked)
        torch.testing.assert_close(model(x), before, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("w_s", "keys"), [(2, 104), (3, 109), (4, 116)])
def test_windows_of_the_stgm_at_224(w_s, keys):
    where = layout((14, 14), (7, 7), SemanticOptions(semantic_window=w_s).fitted((7, 7)), torch.device("cpu"))
    assert where.semantic == (2 * w_s, 2 * w_s)
    assert where.generate.keys.shape == (4, keys) and where.generate.queries.shape == (4, w_s**2)
    assert where.cluster is None and where.cross is None and where.recover is None  # global at 224


def test_projecting_in_each_window_is_the_same_function():
    once, twice = build("swin"), build("swin", project_keys="per_window")
    twice.load_state_dict(once.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(once(images(IMAGE)), twice(images(IMAGE)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("w_s", [2, 3, 4])
def test_stage_4_runs_on_the_semantic_tokens(w_s):
    model = build("swin", semantic_window=w_s)
    maps = model.forward_intermediates(images(IMAGE), intermediates_only=True)
    side = 2 * w_s
    assert [tuple(m.shape[1:]) for m in maps] == [
        (16, 56, 56),
        (32, 28, 28),
        (64, side, side),
        (128, side, side),
    ]
    assert isinstance(model.layers[3].downsample, torch.nn.Linear)
    assert model.feature_info[2]["reduction"] == round(16 * 7 / w_s)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(base_depth=5), "base_depth ≤ 4"),
        (dict(stgm_layers=0), "stgm_layers ≥ 1"),
        (dict(semantic_window=8), "semantic_window ≤ 7"),
        (dict(semantic_window=0), "at least 1"),
        (dict(pooling="median"), "unknown pooling 'median'; choose one of"),
        (
            dict(initialization="local"),
            "unknown initialization 'local'; choose one of both, spatial, global, learned",
        ),
        (
            dict(position="absolute"),
            "unknown position 'absolute'; choose one of none, learned, conditional, rel",
        ),
        (dict(initialization="learned", stgm_keys="image"), "must not be 'image'"),
        (
            dict(initialization="offset", position="relative", border="masked", stgm_keys="image"),
            "without rel",
        ),
        (dict(project_keys="twice"), "unknown project_keys"),
        (dict(key_windows=(5, 14)), "at least 7"),
        (dict(border="none"), "choose one of inside, masked, released"),
        (dict(border="masked"), "stgm_keys='image'"),
        (dict(shortcut=False), "per_window"),
        (dict(patch_size=8), "stride of 4"),
        (dict(depths=(2, 2, 6), num_heads=(1, 2, 4)), "3 stages"),
    ],
)
def test_impossible_choices_are_refused_with_the_reason(changes, words):
    with pytest.raises(ValueError, match=words):
        build("swin", **changes)
