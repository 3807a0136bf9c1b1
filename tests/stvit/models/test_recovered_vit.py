"""STViT-R in plain ViTs: what it equals layer by layer, its places, its way back, checkpoints and errors."""

import pytest
import timm
import torch
from reduced import MICRO, images
from timm.models.deit import VisionTransformerDistilled

import stvit
from stvit.checkpoints import load_checkpoint, save_checkpoint
from stvit.layers.semantic import ClusterLayer, GenerationLayer
from stvit.models.dumbbell import Dumbbell
from stvit.models.recovered_vit import RecoveredTokens, Recovery, STViTR, default_units

UNITS = ((2, 2, 0, 1), (0, 1, 1, 1))  # of 8 layers


def dense(kind=None, depth=8, **changes):
    torch.manual_seed(0)
    if kind is not None:
        return kind(**{**MICRO, "depth": depth, **changes}).eval()
    return timm.create_model("deit_tiny_patch16_224", **{**MICRO, "depth": depth, **changes}).eval()


def sparse(model=None, **choices):
    torch.manual_seed(1)
    return stvit.sparsify(model or dense(), **{"tokens": 4, "recovery": True, "units": UNITS, **choices})


def by_hand(model, x):
    """The layers one after another, attention written out."""

    def attend(block, q, k):
        mine = block.attn
        weights = mine.weights(q, k)
        value = torch.nn.functional.linear(k, *(t.chunk(3)[2] for t in (mine.qkv.weight, mine.qkv.bias)))
        value = value.unflatten(2, (mine.num_heads, -1)).transpose(1, 2)
        return mine.proj((weights @ value).transpose(1, 2).flatten(2))

    def layer(block, q, k, plus):
        y = plus + attend(block, q, k)
        return y + block.mlp(block.norm2(y))

    b = model.blocks
    x = b[1](b[0](model._pos_embed(model.patch_embed(x))))
    s = torch.cat([x[:, :1], model.initial[0](x[:, 1:], (8, 8))], 1)
    s = layer(b[2], b[2].norm1(s), b[2].norm1(x), s)
    keys = b[3].norm1(torch.cat([s, x[:, 1:]], 1))
    s = layer(b[3], torch.cat([keys[:, :1], keys[:, 1:5] + b[3].centers.weight], 1), keys, s)
    x = torch.cat([s[:, :1], x[:, 1:]], 1)
    x = layer(b[4], b[4].norm1(x), b[4].norm1(s), x)
    s = torch.cat([x[:, :1], s[:, 1:] if model.reuse else model.initial[1](x[:, 1:], (8, 8))], 1)
    s = layer(b[5], b[5].norm1(s), b[5].norm1(x), s)
    s = b[6](s)
    x = torch.cat([s[:, :1], x[:, 1:]], 1)
    return model.norm(layer(b[7], b[7].norm1(x), b[7].norm1(s), x))


@pytest.mark.parametrize("reuse", [False, True])
def test_it_is_the_equations_one_after_another(reuse):
    model = sparse(reuse=reuse)
    for centers in (m for m in model.modules() if hasattr(m, "centers")):
        torch.nn.init.normal_(centers.centers.weight)
    x = images()
    torch.testing.assert_close(model.forward_features(x), by_hand(model, x), atol=2e-5, rtol=1e-4)
    assert [type(b) for b in model.blocks[2:5]] == [GenerationLayer, ClusterLayer, Recovery]
    assert len(model.initial) == (1 if reuse else 2)


def test_before_the_first_unit_it_is_the_dense_model_and_a_student_begins_there():
    model, x = dense(), images()
    student = sparse(model)
    one, other = (
        m.forward_intermediates(x, indices=[0, 1], output_fmt="NLC", intermediates_only=True)
        for m in (model, student)
    )
    assert all(a.equal(b) for a, b in zip(one, other, strict=True)) and student.unchanged_layers == 2
    tokens = torch.cat([student.forward_intermediates(x, indices=[1], output_fmt="NLC", intermediates_only=True,
                                                      return_prefix_tokens=True)[0][i] for i in (1, 0)], 1)  # fmt: skip
    torch.testing.assert_close(
        student.normed(student.forward_from(tokens, (8, 8), 2)), student.forward_features(x)
    )


def test_places_do_not_depend_on_where_they_stand():
    """Recovered tokens are permuted with their queries: the recovery layer has no places of its own."""
    layer, x = sparse().blocks[4], torch.randn(2, 65, 48)
    s, order = torch.randn(2, 5, 48), torch.randperm(65)
    torch.testing.assert_close(layer(x, s)[:, order], layer(x[:, order], s))


@pytest.mark.parametrize("kind", [None, VisionTransformerDistilled])
def test_maps_heads_and_intermediates(kind):
    model = sparse(dense(kind))
    x, prefix = images(), model.num_prefix_tokens
    assert isinstance(model, RecoveredTokens) and model(x).shape == (2, model.num_classes)
    assert stvit.restore(model)(x).equal(model.forward_features(x)[:, prefix:])
    found = model.forward_intermediates(x, intermediates_only=True)
    assert [f.shape[-1] for f in found] == [8, 8, 2, 2, 8, 2, 2, 8]
    assert [info["reduction"] for info in model.feature_info] == [8, 8, 32, 32, 8, 32, 32, 8]
    model.train()(x).square().mean().backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert not unused, "every parameter takes part"


def test_other_sizes_and_half_precision():
    model = sparse()
    model.set_input_size(img_size=(64, 48))
    assert stvit.restore(model)(images(size=(64, 48))).shape == (2, 48, 48)
    assert sparse(dense().double())(images().double()).dtype == torch.float64


def test_it_goes_back_to_the_dense_model_and_through_checkpoints(tmp_path):
    model, x = dense(), images()
    student = sparse(model, reuse=True, pooling="mean")
    again = stvit.densify(student)
    assert type(again) is type(model) and again(x).equal(model(x))
    assert [i["reduction"] for i in again.feature_info] == [i["reduction"] for i in model.feature_info]
    save_checkpoint(student, tmp_path)
    loaded = load_checkpoint(tmp_path).eval()
    assert type(loaded) is STViTR and loaded(x).equal(student(x)) and loaded.reuse
    assert stvit.densify(loaded)(x).equal(model(x))


def test_pruned_models_give_the_layers_that_are_left():
    model, x = sparse(), images()
    whole = model.forward_intermediates(x, indices=[4], intermediates_only=True)[0]
    model.prune_intermediate_layers([4])
    assert len(model.blocks) == 5
    assert model.forward_intermediates(x, indices=[4], intermediates_only=True)[0].equal(whole)


@pytest.mark.parametrize("depth", [4, 5, 6, 9, 12, 13, 24, 40])
def test_default_units_fill_every_depth(depth):
    units = default_units(depth)
    assert sum(map(sum, units)) == depth
    assert all(u.stgm == 2 and u.recovery == 1 and u.semantic >= 0 and u.image >= 1 for u in units)
    if depth == 6:
        assert units == (Dumbbell(1, 2, 2, 1),), "the paper's"
    if depth == 12:
        assert units == ((3, 2, 1, 1), (1, 2, 1, 1))


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (dict(units=((2, 2, 2, 1),)), "units of .7. layers do not fill 8 layers"),
        (dict(units=((2, 2, 4, 0),)), "the last unit must recover"),
        (dict(units=((3, 0, 4, 1),)), "unit 1 needs at least one STGM layer"),
        (dict(units=((1, 2, 1, 0), (1, 1, 1, 1))), "unit 1 recovers no image tokens"),
        (dict(at=3), "no choice at=3.*units say"),
        (dict(units="ab"), "units='ab': each is four numbers"),
        (dict(units=((1, 2),)), "each is four numbers"),
        (dict(units=((1, 2, "a", 1),)), "each is four numbers"),
        (dict(units=()), "each is four numbers"),
        (dict(units=5), "each is four numbers"),
        (dict(recovery=False), "no choice 'units'.*with recovery=True units and reuse"),
        (dict(position="learned"), "no choice 'position'"),
        (dict(pooling="none of these"), "none of these"),
    ],
)
def test_what_does_not_fit_is_said(choices, words):
    with pytest.raises(ValueError, match=words):
        sparse(**choices)


def test_small_models_and_models_with_other_heads_are_refused():
    with pytest.raises(ValueError, match="at least 4"):
        stvit.sparsify(dense(depth=3), tokens=4, recovery=True)
    with pytest.raises(ValueError, match="with recovery"):
        stvit.sparsify(timm.create_model("lvvit_small_patch16_224"), tokens=4, recovery=True)
    with pytest.raises(ValueError, match="already"):
        stvit.sparsify(sparse(), tokens=4)
