"""STViT-R-Swin and what every model with semantic tokens in windows offers, at any size."""

import pytest
import timm
import torch
from micro_swin import MICRO, SMALL, build, images
from timm.optim import create_optimizer_v2

import stvit
from stvit.layers.window_centers import GridCenters

SWIN_ROWS = [row for row in MICRO if row.startswith("swin")]
R_ROWS = [row for row in MICRO if row not in SWIN_ROWS]
SIZES = [(237, 301), (32, 50)]


def test_registered():
    names = [f"stvit_swin_{size}_patch4_window7_224" for size in ("base", "small", "tiny")]
    assert timm.list_models("stvit_swin_*patch4*") == names
    names = [f"stvit_r_swin_{size}_patch4_window7_224" for size in ("base", "small")]
    assert timm.list_models("stvit_r_swin*") == names


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("stvit_r_swin_small_patch4_window7_224.released", 49_625_518),
        ("stvit_r_swin_base_patch4_window7_224.released", 87_812_336),
        ("stvit_r_swin_small_patch4_window7_224.released_detection", 48_857_862),
        ("stvit_r_swin_base_patch4_window7_224.released_detection", 86_789_128),
    ],
)
def test_parameters_of_the_released_models(name, parameters):
    with torch.device("meta"):
        model = timm.create_model(name, features_only=name.endswith("detection"))
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("row", MICRO)
@pytest.mark.parametrize("size", SIZES)
def test_any_size_in_float32_and_bf16(row, size):
    model, x = build(row), images(size, batch=1)
    with torch.no_grad():
        full = model(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(x)
        assert full.shape == (1, 7) and full.isfinite().all()
        torch.testing.assert_close(half.float(), full, atol=5e-2, rtol=0)
        assert model.bfloat16()(x.bfloat16()).isfinite().all()


@pytest.mark.parametrize(
    ("row", "size"),
    [*((row, size) for row in R_ROWS for size in SIZES), ("recovery", (800, 1333))],
)
def test_four_maps_for_dense_heads(row, size):
    model = build(row, features_only=True)
    assert model.feature_info.reduction() == [4, 8, 16, 32]
    assert model.feature_info.channels() == [16, 32, 64, 128]
    with torch.no_grad():
        maps = model(images(size, batch=1))
    sides, grid = [], size
    for halvings in (2, 1, 1, 1):
        for _ in range(halvings):
            grid = -(-grid[0] // 2), -(-grid[1] // 2)
        sides.append(grid)
    assert [tuple(m.shape[2:]) for m in maps] == sides
    assert all(m.isfinite().all() for m in maps)


@pytest.mark.parametrize("row", MICRO)
def test_record_puts_maps_back_on_the_grid(row):
    model, x = build(row), images()
    with torch.no_grad():
        before = model(x)
        with stvit.record(model) as maps:
            during = model(x)
    assert during.equal(before)
    grid = (6, 8)  # of stage 3, with its windows completed below where key windows stick out
    tokens = 7 * 14 if "detection" in row else grid[0] * grid[1]
    side = model.semantic_options.semantic_window
    semantic = side * 2 * side
    for name, value in maps.items():
        torch.testing.assert_close(value.sum(-1), torch.ones(value.shape[:-1]), msg=name)
    unit = model.layers[2].units[0]
    if (
        model.semantic_options.initialization != "global"
    ):  # centers that have not seen the image assign nothing
        assert maps["layers.2.initial.0.assignment"].shape == (2, semantic, tokens)
    assigned = maps[f"layers.2.blocks.{unit.image}.assignment"]
    assert assigned.shape[:2] == (2, semantic) and assigned.shape[2] in (tokens, tokens + 1)
    if unit.recovery:
        last = maps[f"layers.2.blocks.{sum(unit) - 1}.attn"]
        assert last.shape[:3] == (2, 4, tokens) and last.shape[3] in (semantic, semantic + 1)


def test_keys_and_recovery_stay_near_on_a_large_map():
    model, x = build("recovery", key_windows=(7, 7), recovery_window=1, cross_window=1), images((448, 448), 1)
    with stvit.record(model) as maps:
        model(x)
    own = torch.arange(28).div(7, rounding_mode="floor")
    window = (own[:, None] * 4 + own).flatten()  # of each image token
    cell = torch.arange(12).div(3, rounding_mode="floor")
    semantic = (cell[:, None] * 4 + cell).flatten()  # of each semantic token
    near = window[:, None] == semantic
    assert (maps["layers.2.blocks.5.attn"][0].sum(0) > 0).equal(near)  # recovery
    assert (maps["layers.2.blocks.1.assignment"][0] > 0).equal(near.T)
    assert (maps["layers.2.blocks.3.attn"][0].sum(0) > 0).equal(semantic[:, None] == semantic)


def test_the_corrected_mask_hides_all_padding():
    model, x = build("released detection"), images()
    with stvit.record(model) as maps:
        model(x)
    real = torch.zeros(7, 14, dtype=torch.bool)
    real[:6, :8] = True
    for block in (1, 2):
        weights = maps[f"layers.2.blocks.{block}.attn"]  # (B, heads, M, 7·14)
        assert (weights[..., ~real.flatten()] == 0).all() and (weights[..., real.flatten()] > 0).any()
    seen = torch.zeros(3, 6, dtype=torch.bool)
    seen[:3, :4] = True  # of the second window one column shows the image, and so one column of cells
    for block in (3, 4, 5):
        assert (maps[f"layers.2.blocks.{block}.attn"][..., ~seen.flatten()] == 0).all()


def test_masks_differ_only_where_there_is_padding_or_a_border():
    """The released mask and the corrected one agree where both hide the same: one padded side."""
    x = images((112, 120), 1)  # stage 3: 7 × 8, padded at the right alone
    right, released = build("released detection"), build("released detection mask")
    with stvit.record(right) as ours, stvit.record(released) as theirs:
        right(x), released(x)
    name = "layers.2.blocks.1.attn"
    torch.testing.assert_close(ours[name], theirs[name][..., :-1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("row", MICRO)
def test_backward_reaches_every_parameter(row):
    model = build(row).train()
    (model(images((64, 96))).square().sum()).backward()
    bare = [name for name, p in model.named_parameters() if p.grad is None]
    assert all(name.startswith("output_norms") for name in bare), bare
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("row", ["swin", "recovery", "released detection"])
def test_checkpointing_changes_nothing(row):
    grads = []
    for enable in (False, True):
        model = build(row)
        model.set_grad_checkpointing(enable)
        model(images((64, 96))).sum().backward()
        grads.append([p.grad for p in model.parameters() if p.grad is not None])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("row", ["swin", "recovery", "released"])
def test_deterministic_under_a_seed(row):
    first, second = build(row, drop_path_rate=0.2), build(row, drop_path_rate=0.2)
    x, outs = images((64, 96)), []
    for model in (first, second):
        torch.manual_seed(3)
        outs.append(model.train()(x))
    assert outs[0].equal(outs[1])


@pytest.mark.parametrize("row", ["swin", "recovery", "released"])
def test_timm_surface(row):
    model, x = build(row), images((64, 96))
    features = model.forward_head(model.forward_features(x), pre_logits=True)
    assert features.shape == (2, model.num_features)
    assert model.get_classifier() is model.head.fc
    model.reset_classifier(5)
    assert model(x).shape == (2, 5)
    model.reset_classifier(0)
    torch.testing.assert_close(model(x), features)
    assert build(row, num_classes=0, in_chans=1)(images((64, 96), channels=1)).shape == (2, 128)
    with pytest.raises(ValueError, match="unknown output_fmt 'NLC'; choose NCHW"):
        model.forward_intermediates(x, output_fmt="NLC")
    with pytest.raises(ValueError, match="window_size"):
        model.set_input_size((64, 96), window_size=8)
    model.set_input_size((64, 96))
    centers = {name for name, m in model.named_modules() if isinstance(m, GridCenters)}
    undecayed = model.no_weight_decay()
    assert {f"{name}.weight" for name in centers} <= undecayed
    assert any(name.endswith("relative_position_bias_table") for name in undecayed)
    groups = create_optimizer_v2(model, opt="adamw", lr=1e-3, layer_decay=0.7).param_groups
    scales = {name: group["lr_scale"] for group in groups for name in group.get("param_names", [])}
    assert len(groups) > 8 or scales


@pytest.mark.parametrize("row", ["swin", "recovery", "released detection"])
def test_features_of_some_stages(row):
    whole = build(row, features_only=True)
    some = build(row, features_only=True, out_indices=(0, 2))
    x = images()
    with torch.no_grad():
        maps, few = whole(x), some(x)
    assert few[0].equal(maps[0]) and few[1].equal(maps[2])
    assert len(some.model.layers) == 3


def test_global_centers_on_another_grid():
    centers = GridCenters((6, 6), 8)
    s = torch.zeros(1, 36, 8)
    assert centers(s, (6, 6))[0].equal(centers.weight)
    assert centers(torch.zeros(1, 54, 8), (6, 9)).shape == (1, 54, 8)
    constant = GridCenters((6, 6), 8)
    torch.nn.init.ones_(constant.weight)
    torch.testing.assert_close(constant(torch.zeros(1, 54, 8), (6, 9)), torch.ones(1, 54, 8))


def test_reused_tokens_pool_once():
    model = build("recovery, two units")
    assert len(model.layers[2].initial) == 1
    assert len(build("recovery, two units", reuse=False).layers[2].initial) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(units=((1, 2, 2, 2),)), "do not fill 6 layers"),
        (dict(units=((1, 2, 3, 0),)), "must recover the map"),
        (dict(units=((1, 0, 4, 1),)), "at least one STGM layer"),
        (dict(units=((1, 1, 1, 0), (1, 1, 0, 1))), "recovers no image tokens"),
        (dict(semantic_window=9), "semantic_window ≤ 7"),
    ],
)
def test_impossible_units_are_refused_with_the_reason(changes, words):
    with pytest.raises(ValueError, match=words):
        build("recovery", **changes)


@pytest.mark.slow
@pytest.mark.parametrize("row", ["swin", "recovery", "released detection"])
def test_compiled_without_graph_breaks(row):
    model, x = build(row), images(SMALL)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x), atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("row", ["swin", "recovery", "released"])
def test_exported_with_any_batch(row):
    model = build(row)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (images(SMALL),), dynamic_shapes=({0: batch},))
    x = images(SMALL, batch=5)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), model(x), atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("row", ["swin", "recovery"])
def test_onnx_runtime_agrees(row, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, path = build(row), tmp_path / "model.onnx"
    torch.onnx.export(model, (images(SMALL),), path, dynamo=True, opset_version=20, verbose=False)
    session = onnxruntime.InferenceSession(str(path))
    x = images(SMALL)
    (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(out), model(x), atol=1e-5, rtol=0)
