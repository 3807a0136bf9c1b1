"""What every reduction owes, asked of every row of the table: a new method is tested by its line."""

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reduced import MICRO, ROWS, build, images, inputs, shuffle

import stvit
from stvit.models.reduced_vit import Place
from stvit.reduce import METHODS, compose
from stvit.reduce.reduction import HostBlock, Reduction

PRUNING = (
    "topk",
    "random",
    "dynamicvit",
    "ats",
    "ats_sorted",
    "kmedoids",
    "shrinking",
    "middle",
    "iared2",
    "psvit",
)
AROUND = [
    row for row, (m, _) in ROWS.items() if m in ("evovit", "avit", "dge")
]  # layers compute with fewer tokens
DROPS = (
    *PRUNING,
    "svite",
    "evit without fused token",
    "bat, attentive token preservation",
    "diffrate",
    "tofu",
)
IN_PLACE = (  # the order of the tokens plays a part, or their new order follows it
    *("tome", "random", "meanpool", "bat by spatial", "ats", "shrinking", "middle"),
    *("tofu", "dtem", "mctf", "atc", "iared2", "spvit", "psvit", "tokenlearner 1.0", "kmeans"),
)
PADS = ("ats", "ats_sorted", "iared2", "spvit", "svite", *AROUND)  # images keep different numbers of tokens
LEARNS = (
    "dynamicvit",
    "patchmerger",
    "sinkhorn",
    "sit",
    "dtem",
    "spvit",
    "svite",
    "iared2",
    "tokenlearner",
    "dge",
)
RESULTS = [row for row in ROWS if row not in AROUND]  # those with new tokens
FREE = [row for row in RESULTS if row not in IN_PLACE and ROWS[row][0] not in IN_PLACE]


def reduction(row: str, tokens: int = 36, dim: int = 12) -> Reduction:
    """As in the fourth of twelve layers, the first that reduces."""
    method, choices = ROWS[row]
    torch.manual_seed(0)
    return METHODS[method](dim, **choices, **Place(0, 4, 12, tokens).asked_by(METHODS[method])).eval()


def test_registered():
    for method in METHODS:
        for size, params in {"tiny": 5_717_416, "small": 22_050_664, "base": 86_567_656}.items():
            name = f"{method}_deit_{size}_patch16_224"
            assert timm.is_model(name)
            assert timm.get_pretrained_cfg(name).input_size == (3, 224, 224)
            if size == "tiny" and method not in LEARNS:
                assert sum(p.numel() for p in timm.create_model(name).parameters()) == params


@pytest.mark.parametrize("method", [m for m in METHODS if METHODS[m].identity is not None])
def test_with_nothing_to_reduce_it_is_the_dense_model_to_the_bit(method):
    torch.manual_seed(0)
    model = timm.create_model("deit_tiny_patch16_224", **MICRO).eval()
    x = images()
    sparse = stvit.sparsify(model, method=method, **METHODS[method].identity)
    assert sparse(x).equal(model(x)) and sparse.train().eval()(x).equal(model(x))
    early = (
        dict(gate_center=2.0) if method == "avit" else {}
    )  # no token of an untrained model halts by itself
    assert not stvit.sparsify(model, method=method, **early)(x).equal(model(x))


@pytest.mark.parametrize("row", ROWS)
def test_assignments(row):
    model = build(row)
    with stvit.record(model, attention=False) as maps:
        tokens = model.forward_features(images())
    hosts = [name for name, block in model.named_modules() if isinstance(block, HostBlock)]
    assert list(maps) == [f"{name}.assignment" for name in hosts]
    for holds in maps.values():
        assert (holds >= 0).all() and holds.shape[1] <= holds.shape[2]
        assert are_shares(holds, row in PADS)
        if row in PRUNING:
            assert set(holds.sum(1).unique().tolist()) <= {0.0, 1.0}
    if row in AROUND:
        assert tokens.shape[1] == 65
        return
    total = compose(list(maps.values()))
    assert total.shape == (2, tokens.shape[1] - 1, 64)
    assert are_shares(total, row in PADS)
    if row not in DROPS:
        assert (total.sum(1) > 0).all(), "a token that is not dropped is nowhere"


def are_shares(holds: torch.Tensor, padded: bool) -> bool:
    """Each row sums to 1; or to 0 if it is padding."""
    sums = holds.sum(2)
    return ((sums - 1).abs().lt(1e-5) | ((sums == 0) & padded)).all()


@pytest.mark.parametrize("row", RESULTS)
def test_merged_tokens_are_what_the_assignment_says(row):
    x, seen = inputs(36)
    seen = seen._replace(grid=(6, 6), whole=(6, 6))
    method = reduction(row)
    y, plan = method(x, seen)
    raw = torch.cat([part.matrix(36) for part in plan.parts], 1).sum(2)  # not 1 for EViT's fused token
    y2 = plan.assignment(36) @ method.material(x) * raw[..., None]
    if row == "bat by max":
        y, y2 = y[:, :-3], y2[:, :-3]
    torch.testing.assert_close(y, y2)


@pytest.mark.parametrize("row", RESULTS)
def test_unmerge_is_the_way_back(row):
    """New tokens go back to where they came from; where one old token became one new one, unchanged."""
    x, seen = inputs(36)
    y, plan = reduction(row)(x, seen._replace(grid=(6, 6), whole=(6, 6)))
    back, holds = plan.unmerge(y, 36), plan.assignment(36)
    assert back.shape == x.shape
    alone = (holds.sum(1) == 1) & (holds.amax(1) == 1)
    assert back[alone].equal(x[alone]) and not back[holds.sum(1) == 0].any()


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(FREE), st.integers(8, 40), st.integers(0, 10**6))
def test_order_of_the_tokens_plays_no_part(row, count, seed):
    x, seen = inputs(count, seed=seed)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    y, plan = reduction(row, count)(x, seen)
    if not plan.parts:
        assert y is x
        return
    y2, plan2 = reduction(row, count)(*shuffle(x, seen, order))
    torch.testing.assert_close(y2, y, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        plan2.assignment(count), plan.assignment(count)[:, :, order], atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("row", ROWS)
def test_images_do_not_mix(row):
    model, x = build(row), images(3)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("row", ROWS)
def test_gradients_reach_everything(row):
    model = build(row).train()
    torch.manual_seed(0)
    model(images()).square().mean().backward()
    last = f"blocks.{len(model.blocks) - 1}.reduction"  # what it merges the class token does not see any more
    learn = [(name, p) for name, p in model.named_parameters() if not name.startswith(last)]
    assert not [name for name, p in learn if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("row", ROWS)
def test_checkpointing_changes_nothing(row):
    model, gradients = build(row).train(), []
    for enable in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(enable)
        torch.manual_seed(0)
        model(images()).square().mean().backward()
        gradients.append(model.blocks[0].mlp.fc1.weight.grad.clone())
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("method", METHODS)
def test_timm_surface(method):
    model, x = build(method), images()
    assert model(images(1, (96, 64))).shape == (1, 7)
    last, maps = model.forward_intermediates(x, indices=[0, 5])
    assert last.equal(model.forward_features(x)) and [m.shape for m in maps] == [(2, 48, 8, 8)] * 2
    tokens = model.forward_intermediates(x, indices=[5], output_fmt="NLC", norm=True, intermediates_only=True)
    assert tokens[0].equal(last[:, 1:])
    assert model.no_weight_decay() == {"pos_embed", "cls_token", "dist_token", "reg_token"}
    assert {"stem", "blocks"} <= model.group_matcher().keys()
    model.reset_classifier(5)
    assert model(x).shape == (2, 5)
    assert build(method, num_classes=0, in_chans=1)(images(channels=1)).shape == (2, 48)
    pyramid = timm.create_model(
        f"{method}_deit_tiny_patch16_224", **MICRO, features_only=True, out_indices=(1, 5)
    )
    assert [f.shape for f in pyramid(x)] == [(2, 48, 8, 8)] * 2


@pytest.mark.parametrize("method", METHODS)
def test_deit_weights_load_by_name_and_the_model_saves(method, tmp_path):
    deit = timm.create_model("deit_tiny_patch16_224", **MICRO)
    model = build(method)
    missing, unexpected = model.load_state_dict(deit.state_dict(), strict=False)
    assert not unexpected and all(".reduction." in name for name in missing)
    stvit.save_checkpoint(model, tmp_path)
    again = stvit.load_checkpoint(tmp_path).eval()
    assert again(images()).equal(model(images()))
    once, fixed = method == "meanpool", METHODS[method].fixed_layers
    sparse = stvit.sparsify(deit, 9 if once else None, None if fixed else 2 if once else (2, 4), method)
    stvit.save_checkpoint(sparse, tmp_path / "sparse")
    assert stvit.load_checkpoint(tmp_path / "sparse").eval()(images()).equal(sparse.eval()(images()))


def test_dynamicvit_checkpoints_load_by_their_own_names():
    model = build("dynamicvit")
    official = {}
    for name, value in model.state_dict().items():
        for stage, layer in enumerate(model.reductions):
            name = name.replace(f"blocks.{layer - 1}.reduction", f"score_predictor.{stage}")
        official[name] = value + 1 if value.is_floating_point() else value
    assert sum(name.startswith("score_predictor.2.out_conv.4") for name in official) == 2
    model.load_state_dict(official)
    assert model.blocks[1].reduction.in_conv[1].weight.equal(official["score_predictor.0.in_conv.1.weight"])


@pytest.mark.parametrize(
    "name",
    ["deit_tiny_distilled_patch16_224", "vit_small_patch14_reg4_dinov2", "vit_base_patch16_siglip_224"],
)
@pytest.mark.parametrize("method", METHODS)
def test_any_vit_with_what_the_method_needs(name, method):
    sizes = dict(embed_dim=48, num_heads=3, depth=5, num_classes=7, img_size=112)
    model = timm.create_model(name, **sizes).eval()
    x = torch.randn(2, 3, 112, 112)
    if METHODS[method].needs_class_token and "siglip" in name:
        with pytest.raises(ValueError, match="no class token"):
            stvit.sparsify(model, method=method)
        return
    sparse = stvit.sparsify(model, method=method)
    assert sparse(x).shape == (2, 7) and (
        sparse.forward_features(x).shape[1] < model.forward_features(x).shape[1]
    ) == (method not in AROUND)
    again = stvit.densify(sparse)
    assert type(again) is type(model) and again(x).equal(model(x))
    assert again.state_dict().keys() == model.state_dict().keys()


def test_refusals():
    model = timm.create_model("deit_tiny_patch16_224", **MICRO)
    with pytest.raises(ValueError, match="unknown method 'bta'; choose 'stvit' or one of bat, evit"):
        stvit.sparsify(model, method="bta")
    with pytest.raises(ValueError, match="tome has no choice 'keep_rate'; it has r, prop_attn"):
        stvit.sparsify(model, method="tome", keep_rate=0.5)
    with pytest.raises(ValueError, match="distinct layers from 1 to 6"):
        stvit.sparsify(model, method="bat", at=(1, 7))
    with pytest.raises(ValueError, match="reduces its tokens already"):
        stvit.sparsify(build("bat"))
    with pytest.raises(ValueError, match="it goes first, and once"):
        stvit.sparsify(model, method="meanpool", at=(2, 4))(images())
    with pytest.raises(ValueError, match="tome has no keep rate"):
        build("tome").set_keep_rate(0.5)


def test_set_keep_rate():
    model = build("bat")
    model.set_keep_rate(1.0)
    assert model.forward_features(images()).shape[1] == 65
    model.set_keep_rate(0.5)
    assert model.forward_features(images()).shape[1] < 20


def test_other_precisions_and_unfused_attention():
    for method in METHODS:
        model = build(method)
        with torch.autocast("cpu", torch.bfloat16):
            assert model(images()).isfinite().all()
        assert model.bfloat16()(images().bfloat16()).isfinite().all()
    model = build("tome")
    with stvit.record(model) as maps:
        expected = model(images())
    for block in model.blocks:
        block.attn.fused_attn = False
    torch.testing.assert_close(model(images()), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(maps["blocks.3.attn"].sum(-1), torch.ones(maps["blocks.3.attn"].shape[:3]))
