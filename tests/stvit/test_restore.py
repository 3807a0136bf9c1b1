"""The way back to the map, for every method: what it equals, its shape, and that gradients take it."""

import pytest
import timm
import torch
import torch.nn.functional as F
from reduced import MICRO, build, images
from sklearn.datasets import load_sample_image

import stvit
from stvit.models.saliency import SaliencyHead
from stvit.pretrained import is_available
from stvit.reduce import METHODS


def dense():
    torch.manual_seed(0)
    return timm.create_model("deit_tiny_patch16_224", **MICRO).eval()


@pytest.mark.parametrize("method", [m for m in METHODS if METHODS[m].identity is not None])
def test_with_nothing_to_reduce_it_is_the_dense_models_tokens(method):
    model, x = dense(), images()
    encoder = stvit.restore(stvit.sparsify(model, method=method, **METHODS[method].identity))
    assert encoder(x).equal(model.forward_features(x)[:, 1:]) and encoder(x).equal(stvit.restore(model)(x))


@pytest.mark.parametrize("method", METHODS)
def test_every_place_has_its_token(method):
    model, x = build(method).train(), images(size=(64, 48))
    torch.manual_seed(0)
    tokens = stvit.restore(model, dropped="last")(x)
    assert tokens.shape == (2, 8 * 6, 48) and tokens.any(dim=2).all()
    tokens.square().mean().backward()
    learned = (
        p for name, p in model.named_parameters() if name.startswith("blocks.0") and "reduction" not in name
    )
    assert all(p.grad is not None and p.grad.any() for p in learned)


def test_a_dropped_place_reads_nothing_or_its_last_token():
    model, x = build("topk"), images()
    with stvit.record(model, attention=False) as maps:
        zero = stvit.restore(model)(x)
    *_, left = model.held(maps).values()
    dropped = left.sum(1) == 0
    assert 0 < dropped.sum() < dropped.numel() and not zero[dropped].any() and zero[~dropped].any(dim=1).all()
    last = stvit.restore(model, dropped="last")(x)
    assert last[~dropped].equal(zero[~dropped])
    first = next(iter(model.held(maps).values())).sum(1) == 0  # dropped by the first that reduces, in layer 2
    before = model.forward_intermediates(
        x, indices=[0], norm=True, output_fmt="NLC", intermediates_only=True
    )[0]
    assert first.any() and last[first].equal(before[first])


def test_merged_places_read_their_token():
    model, x = build("tome", r=9), images()
    with stvit.record(model, attention=False) as maps:
        tokens = stvit.restore(model)(x)
    *_, held = model.held(maps).values()
    own = model.forward_features(x)[:, 1:]
    torch.testing.assert_close(tokens, own.gather(1, held.argmax(1)[..., None].expand(-1, -1, 48)))


def test_semantic_tokens_are_read_by_each_places_part_in_them():
    model, x = dense(), images()
    sparse = stvit.sparsify(model, tokens=4, at=3)
    encoder = stvit.restore(sparse)
    with stvit.record(sparse, attention=False) as maps:
        tokens = encoder(x)
    part = maps["blocks.3.assignment"]
    part = part / part.sum(dim=1, keepdim=True)
    expected = part.mT @ sparse.forward_features(x)[:, 1:]
    torch.testing.assert_close(tokens, expected)
    one = stvit.restore(stvit.sparsify(model, tokens=1, at=3))(x)
    assert (one - one[:, :1]).abs().max() < 1e-5, "all places read the only token"
    tokens.square().mean().backward()
    assert sparse.patch_embed.proj.weight.grad.any()


def test_swin():
    torch.manual_seed(0)
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224",
        embed_dim=12,
        depths=(1, 1, 6, 1),
        num_heads=(1, 1, 2, 2),
        img_size=112,
    ).eval()
    x = torch.randn(2, 3, 112, 112)
    recovering = stvit.restore(stvit.sparsify(swin, recovery=True))
    assert recovering(x).shape == stvit.restore(swin)(x).shape == (2, 16, 96) and recovering.grid(x) == (4, 4)
    with pytest.raises(ValueError, match="do not return to the map; sparsify with recovery=True"):
        stvit.restore(stvit.sparsify(swin))


@pytest.mark.parametrize("method", ["bat", "ats", "avit", "stvit"])
def test_a_head_for_dense_output_takes_it(method):
    model, x = dense(), images()
    encoder = stvit.restore(stvit.sparsify(model, method=method))
    head = SaliencyHead((48, 8, 8, 4)).eval()
    shown = head(encoder(x).mT.unflatten(2, encoder.grid(x)), x.shape[-2:])
    assert shown.shape == (2, 64, 64) and shown.min() > 0 and shown.max() < 1


@pytest.mark.skipif(
    not is_available(), reason="the package that ships the real model's weights is not installed"
)
def test_the_real_models_saliency_head_takes_it():
    real = stvit.pretrained("dinov2_small", quiet=True, img_size=112)
    photo = (
        torch.from_numpy(load_sample_image("china.jpg")[100:324, 200:424].copy()).permute(2, 0, 1)[None] / 255
    )
    photo = F.interpolate((photo - 0.45) / 0.225, (112, 112), mode="area")
    head, maps = stvit.saliency_head(), {}
    models = {
        "dense": real,
        "nothing merged": stvit.sparsify(real, method="tome", r=0),
        "bat": stvit.sparsify(real, method="bat"),
    }
    with torch.inference_mode():
        for name, model in models.items():
            encoder = stvit.restore(model)
            maps[name] = head(encoder(photo).mT.unflatten(2, encoder.grid(photo)), (112, 112))
    assert maps["dense"].std() > 0.05 and maps["nothing merged"].equal(maps["dense"])
    assert maps["bat"].shape == (1, 112, 112) and 0 < (maps["bat"] - maps["dense"]).abs().mean() < 0.5


def test_refusals():
    with pytest.raises(ValueError, match="dropped='gone' is unknown; choose one of zero, last"):
        stvit.restore(dense(), dropped="gone")
    with pytest.raises(ValueError, match="cannot restore Linear: it has no image tokens"):
        stvit.restore(torch.nn.Linear(2, 2))
