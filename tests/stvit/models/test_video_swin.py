"""Video Swin against torchvision's and the authors' program; STViT on it, frame by frame."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from fill_rule import fill_state, make_input
from torchvision.models.video.swin_transformer import SwinTransformer3d

import stvit
from stvit.convert.video import inflate, load_video_swin, to_timm
from stvit.layers.clip_windows import clip_windows, relative_positions

ORACLES = Path(__file__).resolve().parents[1] / "oracles"
TRUNK = dict(embed_dim=12, depths=(2, 2, 3, 2), num_heads=(1, 2, 3, 6), num_classes=7, mlp_ratio=2)
SEMANTIC = "micro_stvit_video_swin"
CLIPS = [(2, 3, 6, 225, 260), (1, 3, 18, 224, 224)]  # no map is smaller than a window


def clips(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


WIDE = dict(window_size=(4, 4, 4), semantic_window=2, key_windows=(6, 8))  # as micro_stvit_swin's for images


def micro(name: str = SEMANTIC, **args) -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, **args).eval()


@pytest.fixture(scope="module")
def pair():
    """torchvision's Video Swin, narrow, and ours with its weights."""
    torch.manual_seed(0)
    sizes = {**TRUNK, "depths": list(TRUNK["depths"]), "num_heads": list(TRUNK["num_heads"])}
    theirs = SwinTransformer3d([2, 4, 4], window_size=[8, 7, 7], **sizes).eval()
    for name, value in theirs.named_parameters():
        if "norm" in name or name.endswith("bias"):
            torch.nn.init.normal_(value, 0.5, 0.5)  # so that padding, which is the bias, is felt
    ours = timm.create_model("video_swin_tiny", **TRUNK).eval()
    assert load_video_swin(ours, theirs) == []
    return theirs, ours


@pytest.mark.parametrize("shape", CLIPS)
def test_the_trunk_is_torchvisions(pair, shape):
    theirs, ours = pair
    x = clips(*shape)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("size", [(8, 14, 14), (12, 9, 15), (16, 7, 20), (5, 8, 8)])
def test_a_block_and_its_gradients_are_torchvisions(pair, size, shift):
    theirs, ours = (
        stage[shift] for stage in (pair[0].features[2], pair[1].layers[1].blocks)
    )  # the second is shifted
    x = torch.randn(2, *size, 24, requires_grad=True)
    found, expected = ours(x), theirs(x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    weight = torch.randn_like(found)
    parameters = [ours.attn.relative_position_bias_table, ours.attn.qkv.weight, ours.attn.qkv.bias]
    others = [theirs.attn.relative_position_bias_table, theirs.attn.qkv.weight, theirs.attn.qkv.bias]
    mine = torch.autograd.grad((found * weight).sum(), [x, *parameters])
    for grad, other in zip(mine, torch.autograd.grad((expected * weight).sum(), [x, *others]), strict=True):
        assert (grad - other).abs().max() <= 2e-5 * other.abs().max()


def test_the_trunk_is_the_authors():
    """Weights by rule; the authors' backbone has no classifier and gives channels first."""
    with np.load(ORACLES / "video_swin_tiny_T16.npz") as file:
        mean, sample = (torch.from_numpy(file[name]) for name in ("feature_mean", "feature_sample"))
    model = timm.create_model("video_swin_tiny", num_classes=0)
    official = {
        name: name.replace(f"layers.{stage}.downsample", f"layers.{stage - 1}.downsample")
        for stage in (1, 2, 3)
        for name in model.state_dict()
        if f"layers.{stage}.downsample" in name
    }
    fill_state(model, official)
    with torch.no_grad():
        found = model.forward_features(make_input((1, 3, 16, 224, 224)))  # (B, T, H, W, C)
        torch.testing.assert_close(model.forward_head(found), mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.permute(0, 4, 1, 2, 3)[:, ::32], sample, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", [(8, 14, 14), (12, 9, 15), (3, 5, 20), (9, 7, 8)])
@pytest.mark.parametrize("mask_padding", [False, True])
def test_windows_hold_every_token_once_and_lead_back(size, shifted, mask_padding):
    clip = clip_windows(size, (8, 7, 7), shifted, mask_padding)
    there, back = clip.rows(3)
    assert there.sort().values.equal(torch.arange(3 * np.prod(clip.padded)))
    tokens = torch.arange(len(there)).view(3, *clip.padded)[:, : size[0], : size[1], : size[2]].flatten()
    assert there[back].equal(tokens)
    assert sorted(clip.places) == list(range(len(clip.places))) and len(clip.table) == len(clip.places)


def test_relative_positions_of_a_smaller_window_are_those_of_the_whole():
    table = (4, 3, 5)
    whole = relative_positions(table, table).view(*table, *table)
    part = relative_positions((2, 3, 4), table).view(2, 3, 4, 2, 3, 4)
    assert part.equal(whole[:2, :3, :4, :2, :3, :4])
    assert whole.unique().numel() == 7 * 5 * 9 and whole[1, 2, 3, 0, 1, 2] == whole[3, 1, 4, 2, 0, 3]


@pytest.mark.parametrize("mask_padding", [True, False])
def test_nothing_leaks_across_the_border(mask_padding):
    """Shifted windows: the gradient of a corner's token is zero at everything a window away and more."""
    model = micro("micro_video_swin", depths=(2, 1, 2, 1), mask_padding=mask_padding)
    x = torch.randn(1, 6, 9, 11, 16, requires_grad=True)
    out = model.layers[0].blocks[1](x)
    for corner in [(0, 0, 0), (5, 0, 10), (5, 8, 10)]:
        (grad,) = torch.autograd.grad(out[0][corner].sum(), x, retain_graph=True)
        touched = grad[0].abs().sum(-1).nonzero()
        assert (touched - torch.tensor(corner)).abs().max() < 4


def test_masked_padding_is_not_felt():
    model = micro("micro_video_swin", mask_padding=True)
    x = clips(1, 3, 10, 30, 36)
    block = model.layers[0].blocks[0]
    with torch.no_grad():
        before = block(model.patch_embed(x))
        torch.nn.init.constant_(block.attn.qkv.bias, 3.0)  # keys and values of padding
        block.mask_padding = False
        felt = block(model.patch_embed(x))
        block.mask_padding = True
        unfelt = block(model.patch_embed(x))
    assert before.shape == felt.shape and not torch.allclose(felt, unfelt, atol=1e-3)


@pytest.mark.parametrize("frames", [8, 16, 32])
@pytest.mark.parametrize("name", ["micro_video_swin", SEMANTIC])
def test_any_length_and_size(name, frames):
    model = micro(name)
    with torch.no_grad():
        assert model(clips(2, 3, frames, 32, 56)).shape == (2, 5)
        assert model(clips(1, 3, frames - 1, 33, 30)).isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("frames", [8, 16, 32])
def test_any_length_and_size_of_the_papers_model(frames):
    model = timm.create_model("stvit_video_swin_tiny").eval()
    with torch.no_grad():
        assert model(clips(1, 3, frames, 160, 256)).shape == (1, 400)


def test_frames_go_apart_behind_the_base_layers():
    """Of a semantic token of one frame the gradient is zero at every other frame's image tokens."""
    model = micro()
    stage, last = model.layers[2], model.layers[3]
    x = torch.randn(1, 4, 8, 8, 32, requires_grad=True)
    for base in range(2):
        stage.blocks[base] = torch.nn.Identity()
    tokens = last(stage(x))
    assert tokens.shape == (1, 4, 2, 2, 128)
    for frame in range(4):
        (grad,) = torch.autograd.grad(tokens[0, frame].sum(), x, retain_graph=True)
        assert grad[0].abs().amax((1, 2, 3)).nonzero().flatten().tolist() == [frame]


def test_a_frame_is_an_image_to_the_semantic_layers():
    """The same tokens come out of STViT-Swin's stages for images with the same weights."""
    torch.manual_seed(0)
    image = timm.create_model(
        "micro_stvit_swin", img_size=32, depths=(1, 1, 6, 1), base_depth=3, stgm_keys="image_first"
    ).eval()
    video = micro(base_depth=3, **WIDE)
    x = torch.randn(2, 4, 4, 4, 64)
    for source, target in ((image.layers[2], video.layers[2]), (image.layers[3], video.layers[3])):
        weights = {name: v for name, v in source.state_dict().items() if TABLE not in name}
        target.load_state_dict(weights, strict=False)
    for stage in (image.layers[2], video.layers[2]):
        stage.downsample, stage.units = torch.nn.Identity(), (stage.units[0]._replace(image=0),)
        stage.blocks = stage.blocks[3:]
    with torch.no_grad():
        expected = image.layers[3](image.layers[2](x.flatten(0, 1)))
        torch.testing.assert_close(video.layers[3](video.layers[2](x)).flatten(0, 1), expected)


TABLE = "relative_position_bias_table"


@pytest.mark.parametrize("options", [{}, dict(img_size=64)])
def test_keys_projected_window_by_window_are_the_same_function(options):
    each, once = micro(project_keys="per_window", **options), micro(**options)
    once.load_state_dict(each.state_dict())
    x = clips(1, 3, 4, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(each(x), once(x), atol=1e-5, rtol=0)


def test_the_first_layers_keys_are_image_tokens_and_the_seconds_both():
    model = micro()
    with torch.no_grad(), stvit.record(model) as maps:
        model(clips(2, 3, 8, 32, 32))
    assert maps["layers.2.blocks.2.attn"].shape[-1] == 16
    assert maps["layers.2.blocks.3.attn"].shape[-1] == 4 + 16
    for name in (
        "layers.2.initial.0.assignment",
        "layers.2.blocks.2.assignment",
        "layers.2.blocks.3.assignment",
    ):
        assert maps[name].shape == (2 * 4, 4, 16), name  # clips · frames, semantic tokens, image tokens
        torch.testing.assert_close(maps[name].sum(2), torch.ones(8, 4))


def test_recorded_maps_are_those_of_the_forward():
    """Window attention's maps, put on the values by hand, give what the layer gives: shifted and padded too."""
    model = micro("micro_video_swin", depths=(2, 1, 1, 1))
    x = clips(2, 3, 12, 22, 30)
    seen = {}
    block = model.layers[0].blocks[1]
    block.attn.register_forward_hook(lambda module, args, out: seen.update(args=args, out=out))
    with torch.no_grad(), stvit.record(model) as maps:
        model(x)
        rows, clip = seen["args"]
        weights = maps["layers.0.blocks.1.attn"]
        order = torch.tensor(clip.places)
        v = block.attn.qkv(rows).chunk(3, -1)[2].view(-1, clip.table.shape[1], 16)  # group by group
        sizes = [2 * group.count for group in clip.groups]
        v = torch.cat([part.unflatten(0, (2, -1)) for part in v.split(sizes)], 1)  # (B, windows, L, C)
        ordered = weights.squeeze(1).unflatten(0, (2, -1))[:, order]
        mixed = block.attn.proj(ordered @ v)
        out = torch.cat(
            [
                part.unflatten(0, (2, -1))
                for part in seen["out"].view(-1, clip.table.shape[1], 16).split(sizes)
            ],
            1,
        )
    torch.testing.assert_close(mixed, out, atol=1e-5, rtol=0)
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


@pytest.mark.parametrize("name", ["micro_video_swin", SEMANTIC])
def test_what_timms_users_expect(name):
    model = micro(name, in_chans=1)
    x = clips(2, 1, 8, 32, 32)
    assert model.pretrained_cfg["input_size"] == timm.get_pretrained_cfg(name).input_size == (3, 8, 32, 32)
    with torch.no_grad():
        features = model.forward_features(x)
        final, maps = model.forward_intermediates(x)
        torch.testing.assert_close(final, features)
        assert [tuple(m.shape[:3]) for m in maps] == [(2, 16 * 2**i, 4) for i in range(4)]
        assert [32 // m.shape[-1] for m in maps] == [info["reduction"] for info in model.feature_info]
        mean = model.forward_head(features, pre_logits=True)
        torch.testing.assert_close(mean, features.mean((1, 2, 3)), atol=1e-6, rtol=1e-4)
        model.reset_classifier(3)
        assert model(x).shape == (2, 3)
        model.reset_classifier(0)
        torch.testing.assert_close(model(x), mean)
    assert all(name in dict(model.named_parameters()) for name in model.no_weight_decay())
    net = timm.create_model(name, features_only=True, out_indices=(0, 2))
    assert [f.ndim for f in net(clips(1, 3, 8, 32, 32))] == [5, 5]


@pytest.mark.parametrize("name", ["micro_video_swin", SEMANTIC])
def test_gradient_checkpointing_changes_nothing(name):
    plain, thrifty = micro(name).train(), micro(name).train()
    thrifty.set_grad_checkpointing(True)
    x = clips(1, 3, 8, 32, 32)
    for model in (plain, thrifty):
        model(x).square().sum().backward()
    for a, b in zip(plain.parameters(), thrifty.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ["micro_video_swin", SEMANTIC])
def test_half_precision(name):
    model = micro(name)
    x = clips(2, 3, 8, 32, 40)
    with torch.no_grad():
        whole, half = model(x), model.to(torch.bfloat16)(x.bfloat16()).float()
    assert (whole - half).abs().max() < 0.05 * whole.abs().max() + 0.02


def test_checkpoints_go_round(tmp_path):
    model = micro(base_depth=3)
    stvit.save_checkpoint(model, tmp_path)
    x = clips(1, 3, 8, 32, 32)
    with torch.no_grad():
        for again in (
            stvit.load_checkpoint(tmp_path),
            timm.create_model(f"local-dir:{tmp_path}", pretrained=True),
        ):
            assert again.pretrained_cfg["input_size"] == (3, 8, 32, 32)
            torch.testing.assert_close(again.eval()(x), model(x))


def test_weights_under_the_authors_names_load(pair, tmp_path):
    """mmaction's: a merging at its stage's end, backbone and cls_head in front, the state nested in a file."""
    _, ours = pair
    names = {}
    for name, value in ours.state_dict().items():
        for stage in (1, 2, 3):
            name = name.replace(f"layers.{stage}.downsample", f"layers.{stage - 1}.downsample.", 1).replace(
                "..", "."
            )
        names[name.replace("head.fc", "cls_head.fc_cls") if "head" in name else f"backbone.{name}"] = value
    names["backbone.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(4, 4, dtype=torch.long)
    torch.save({"state_dict": names, "meta": {}}, tmp_path / "authors.pth")
    again = timm.create_model("video_swin_tiny", **TRUNK).eval()
    assert load_video_swin(again, tmp_path / "authors.pth") == []
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), again.parameters(), strict=True))


def test_what_stvit_shares_with_video_swin_loads(pair):
    model = timm.create_model("stvit_video_swin_tiny", **{**TRUNK, "depths": (2, 2, 6, 2)})
    theirs = timm.create_model("video_swin_tiny", **{**TRUNK, "depths": (2, 2, 6, 2), "num_classes": 400})
    fresh = load_video_swin(model, theirs.state_dict())
    groups = {name.split(".blocks.")[0] if "initial" in name else name for name in fresh}
    assert {
        "layers.3.downsample.weight",
        "layers.3.downsample.bias",
        "head.fc.weight",
        "head.fc.bias",
    } <= groups
    rest = [
        name for name in fresh if not name.startswith(("layers.3.downsample", "head", "layers.2.initial"))
    ]
    assert rest == ["layers.2.blocks.3.centers.weight"]
    assert model.layers[2].blocks[4].attn.qkv.weight.equal(theirs.layers[2].blocks[4].attn.qkv.weight)


def test_an_inflated_image_model_is_that_model_on_a_still_clip():
    """Of frames that are all alike, patches, relative positions and means are those of the image."""
    torch.manual_seed(0)
    args = dict(embed_dim=12, depths=(2, 2, 2, 2), num_heads=(1, 2, 3, 6), num_classes=7)
    image = timm.create_model("swin_tiny_patch4_window7_224", **args).eval()
    video = timm.create_model("video_swin_tiny", **args).eval()
    assert load_video_swin(video, image) == []
    x = clips(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(
            video(x[:, :, None].expand(-1, -1, 8, -1, -1)), image(x), atol=1e-5, rtol=0
        )


def test_inflation_from_stvit_swin_takes_all_but_the_stem():
    image = timm.create_model("micro_stvit_swin", img_size=32, num_classes=5)
    video = micro(depths=(1, 1, 12, 1), **WIDE)
    fresh = load_video_swin(video, image)
    assert all(name.startswith("patch_embed.") for name in fresh) and len(fresh) == 6
    table = "layers.1.blocks.0.attn.relative_position_bias_table"
    assert video.state_dict()[table].unflatten(0, (7, 49))[3].equal(image.state_dict()[table])


def test_what_does_not_fit_is_refused(pair):
    theirs, _ = pair
    with pytest.raises(ValueError, match="this model: shapes differ: "):
        load_video_swin(timm.create_model("video_swin_tiny", **{**TRUNK, "embed_dim": 24}), theirs)
    with pytest.raises(ValueError, match="no layer is shared"):
        load_video_swin(micro(), {"weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="Linear is neither Video Swin nor STViT on it"):
        load_video_swin(torch.nn.Linear(1, 1), theirs)
    with pytest.raises(ValueError, match="window_size must be \\(frames, rows, columns\\), not 7"):
        timm.create_model("video_swin_tiny", window_size=7)
    with pytest.raises(
        ValueError, match=r"clips are \(B, channels, frames, height, width\), not \(1, 3, 32, 32\)"
    ):
        micro()(clips(1, 3, 32, 32))
    with pytest.raises(ValueError, match="border='masked' is for images"):
        micro(border="masked")


def test_inflated_patches_add_up():
    weight = torch.randn(4, 3, 2, 2)
    wide = inflate({"patch_embed.proj.weight": weight}, frames=2, span=4)["patch_embed.proj.weight"]
    torch.testing.assert_close(wide.sum(2), weight)
    assert to_timm({"features.6.1.mlp.3.bias": weight, "features.5.norm.bias": weight}).keys() == {
        "layers.3.blocks.1.mlp.fc2.bias",
        "layers.3.downsample.norm.bias",
    }
