"""Every family of timm with every method: equal to the dense model where nothing is reduced, there and back, saved."""

import copy
import pickle
from functools import cache

import pytest
import timm
import torch

import stvit
from analysis.shared.families import FAMILIES, SIDE, choices_for, row, tried
from stvit.reduce import METHODS, Seen

SWIN = ("Swin", "Swin v2")
REFUSED = ("SAM", "Hiera", "ViT, relative positions", "NaFlexViT", "CaiT", "XCiT", *SWIN)
HOSTED = [name for name in FAMILIES if name not in REFUSED]
NO_CLASS_TOKEN = (
    "ViT, no class token",
    "ViT, registers, no class token",
    "SigLIP",
    "RoPE-ViT, no class token",
)
PLACED = HOSTED[HOSTED.index("EVA") :]


@cache
def dense(family: str):
    """The family's small model with no weight at 0 or 1, a batch of images, and what it gives."""
    torch.manual_seed(0)
    model = FAMILIES[family].build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        size = model.patch_embed.img_size or (SIDE, SIDE)
        x = torch.randn(2, model.in_chans, *size)
        return model, x, model(x)


@cache
def dense_length(family: str) -> int:
    """How many tokens leave the family's dense layers."""
    model, x, _ = dense(family)
    return model.forward_features(x).shape[1]


def test_sixteen_families_are_hosted():
    assert len(HOSTED) >= 16


@pytest.mark.parametrize("method", ["stvit", *METHODS])
@pytest.mark.parametrize("family", HOSTED)
def test_any_method_in_any_family(family, method, tmp_path):
    model, x, expected = dense(family)
    choices = choices_for(model, method)
    if (method == "stvit" and family in PLACED) or (
        family in NO_CLASS_TOKEN and method != "stvit" and METHODS[method].needs_class_token
    ):
        with pytest.raises(ValueError, match="no class token|semantic tokens have no place"):
            stvit.sparsify(model, method=method, **choices)
        return
    sparse = stvit.sparsify(model, method=method, **choices)
    with torch.no_grad():
        y = sparse(x)
        if method != "stvit" and METHODS[method].identity is not None:
            same = stvit.sparsify(model, method=method, **METHODS[method].identity)(x)
            torch.testing.assert_close(same, expected, atol=1e-6, rtol=0)
        again = stvit.densify(sparse)
        assert type(again) is type(model) and again(x).equal(expected)
        assert again.state_dict().keys() == model.state_dict().keys() <= sparse.state_dict().keys()
        loaded = stvit.load_checkpoint(stvit.save_checkpoint(sparse, tmp_path)).eval()
        assert type(loaded) is type(sparse) and loaded(x).equal(y)
        assert loaded.state_dict().keys() == sparse.state_dict().keys()
        fewer = sparse.forward_features(x).shape[1] < dense_length(family)
    assert y.isfinite().all() and (
        fewer or (method != "stvit" and METHODS[method].keeps_all) or not y.equal(expected)
    )
    sparse(x).square().sum().backward()
    first = dict(sparse.blocks[0].named_parameters())
    assert all(
        p.grad is not None and p.grad.any() for name, p in first.items() if name.startswith(("mlp", "norm2"))
    )


@pytest.mark.parametrize("family", REFUSED)
def test_the_others_are_refused_with_one_line(family):
    found = tried(FAMILIES[family].build())
    assert all(reason and "\n" not in reason for method, reason in found.items() if method != "stvit")
    assert bool(found["stvit"]) == (family != "Swin")


def test_rows_say_what_runs():
    assert row("DINOv3")["methods of `stvit.reduce`"] == f"all {len(METHODS)}"
    assert "`evit`" in row("SigLIP")["not"] and "`tome`" not in row("SigLIP")["not"]
    assert row("SAM")["not"].startswith("most of its layers attend in windows")


def stepped(sparse, x, layers: int):
    """Tokens, and where they lie, after the first layers."""
    grid = sparse.patch_embed.grid_size
    seen = Seen(16, grid, None, sparse.num_prefix_tokens, whole=grid, angles=sparse.angles_at(grid))
    tokens = sparse.embed(x)
    for block in sparse.blocks[:layers]:
        tokens, _, seen = sparse.run(block, tokens, seen)
    return tokens, seen


@torch.no_grad()
@pytest.mark.parametrize("family", ["EVA-02", "DINOv3", "Perception Encoder", "RoPE-ViT, mixed"])
def test_kept_tokens_are_turned_by_their_own_places(family):
    """After others are dropped the next layer is timm's own on the tokens that stay, with their rows of its table."""
    model, x, _ = dense(family)
    sparse = stvit.sparsify(model, method="random", keep_rate=0.5, at=1)
    with stvit.record(sparse, attention=False) as maps:
        tokens, seen = stepped(sparse, x[:1], 1)
    (kept,) = maps["blocks.0.assignment"].argmax(2)
    table = model.rope.get_embed(sparse.patch_embed.grid_size)
    rows = table[1][:, kept] if family.endswith("mixed") else table[kept]
    after, _, _ = sparse.run(sparse.blocks[1], tokens, seen)
    torch.testing.assert_close(after, model.blocks[1](tokens, rope=rows), atol=1e-5, rtol=0)
    other = model.blocks[1](tokens, rope=rows.flip(-2))
    assert (other - after).abs().max() > 1e-4, "places play a part"


@torch.no_grad()
def test_kept_tokens_have_the_biases_of_their_own_places():
    model, x, _ = dense("BEiT")
    sparse = stvit.sparsify(model, method="random", keep_rate=0.5, at=1)
    with stvit.record(sparse, attention=False) as maps:
        _, seen = stepped(sparse, x, 1)
    kept = maps["blocks.0.assignment"].argmax(2) + 1
    table = model.blocks[1].attn._get_rel_pos_bias()[0]  # (heads, 17, 17)
    bias = sparse.blocks[1].attn.bias_among(None, seen.angles)
    for one, places in zip(bias, kept, strict=True):
        places = [0, *places.tolist()]
        assert one.equal(table[:, places][:, :, places])


@torch.no_grad()
@pytest.mark.parametrize("family", ["EVA-02", "DINOv3", "RoPE-ViT, mixed", "BEiT"])
def test_merged_tokens_lie_at_the_mean_of_their_patches(family):
    """Weighted by mass: through two layers a token lies at the mean of all patches that it holds."""
    model, x, _ = dense(family)
    sparse = stvit.sparsify(model, method="tome", r=5, at=(1, 2))
    with stvit.record(sparse, attention=False) as maps:
        _, seen = stepped(sparse, x, 2)
    *_, held = sparse.held(maps).values()  # (B, 6, 16)
    patches = (held > 0).float()
    mean = (patches / patches.sum(2, keepdim=True)) @ sparse.angles_at((4, 4))
    torch.testing.assert_close(seen.angles, mean, atol=1e-5, rtol=0)
    assert patches.sum(2).max() > 1


def test_what_cannot_be_hosted_is_said():
    model = FAMILIES["DINOv3"].build()
    with pytest.raises(ValueError, match="reduces its tokens already"):
        stvit.sparsify(stvit.sparsify(model, method="tome"), method="tome")
    with pytest.raises(ValueError, match="is not a sparsified model"):
        stvit.densify(model)
    small = FAMILIES["EVA-02"].small
    for name, changes, message in (
        ("eva02_tiny_patch14_224", dict(use_post_norm=True), "normalise after attention"),
        ("eva02_tiny_patch14_224", dict(patch_drop_rate=0.5), "drops patches at random"),
        ("vit_small_patch16_dinov3", dict(rope_rescale_coords=2.0), "moved at random in training"),
        ("beit_base_patch16_224", dict(use_shared_rel_pos_bias=True), "share one bias"),
    ):
        with pytest.raises(ValueError, match=message):
            stvit.sparsify(timm.create_model(name, **small, **changes), method="tome")


def test_copies_pickles_and_checkpointing():
    model, x, _ = dense("RoPE-ViT, mixed")
    sparse = stvit.sparsify(model, method="bat")
    again = pickle.loads(pickle.dumps(copy.deepcopy(sparse)))
    assert type(again.blocks[1]) is type(sparse.blocks[1]) and again(x).equal(sparse(x))
    assert again.blocks[1].attn.mixed[0] is again.rope
    gradients = []
    for enable in (False, True):
        again.zero_grad()
        again.set_grad_checkpointing(enable)
        again(x).square().sum().backward()
        gradients.append(again.rope.freqs.grad.clone())
    torch.testing.assert_close(*gradients)
    assert gradients[0].any()
