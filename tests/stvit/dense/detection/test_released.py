"""The authors' detectors: every tensor of mmdetection's names finds its place and computes what it did there.

The checkpoint is synthetic, of those names and shapes at a smaller width; what mmdetection computes with
such tensors is written out here with plain functions.
"""

import json
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from fill_rule import draw

import stvit
from stvit.dense.detection.released import convert_detector, load_released_detector, main, report

KEYS = Path(__file__).resolve().parents[2] / "oracles" / "stvit_r_swin_small_keys.json"
WIDTHS = (16, 32, 64, 128)
C, HIDDEN, K = 8, 12, 5  # channels of the pyramid, hidden units, classes


def backbone() -> dict[str, list[int]]:
    """The authors' detection backbone, its widths divided by 6 and heads by 3."""
    shapes = json.loads(KEYS.read_text())
    shapes = {k: s for k, s in shapes.items() if not k.startswith(("norm.", "head."))}
    shapes |= {f"norm{i}.{part}": [96 * 2**i] for i in range(4) for part in ("weight", "bias")}
    table = "relative_position_bias_table"
    return {
        f"backbone.{k}": [s[0], s[1] // 3] if k.endswith(table) else [n if n in (1, 3) else n // 6 for n in s]
        for k, s in shapes.items()
    }


def heads(agnostic: bool, norm: bool = True) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = {}

    def layer(name: str, *shape: int, bias: bool = True, outputs: int | None = None) -> None:
        shapes[f"{name}.weight"] = list(shape)
        if bias:
            shapes[f"{name}.bias"] = [outputs or shape[0]]

    for i, width in enumerate(WIDTHS):
        layer(f"neck.lateral_convs.{i}.conv", C, width, 1, 1)
        layer(f"neck.fpn_convs.{i}.conv", C, C, 3, 3)
    layer("rpn_head.rpn_conv", C, C, 3, 3)
    layer("rpn_head.rpn_cls", 3, C, 1, 1)
    layer("rpn_head.rpn_reg", 12, C, 1, 1)
    for i in range(3):
        box, mask = f"roi_head.bbox_head.{i}", f"roi_head.mask_head.{i}"
        for j in range(4):
            layer(f"{box}.shared_convs.{j}.conv", C, C, 3, 3, bias=not norm)
            for part in ("weight", "bias", "running_mean", "running_var") if norm else ():
                shapes[f"{box}.shared_convs.{j}.bn.{part}"] = [C]
            layer(f"{mask}.convs.{j}.conv", C, C, 3, 3)
        layer(f"{box}.shared_fcs.0", HIDDEN, C * 49)
        layer(f"{box}.fc_cls", K + 1, HIDDEN)
        layer(f"{box}.fc_reg", 4 if agnostic else 4 * K, HIDDEN)
        layer(f"{mask}.upsample", C, C, 2, 2)
        layer(f"{mask}.conv_logits", K, C, 1, 1)
    return shapes


def weights(agnostic: bool = False, **options) -> dict[str, torch.Tensor]:
    shapes = {**backbone(), **heads(agnostic, **options)}
    return {
        key: torch.tensor(0) if key.endswith("num_batches_tracked") else draw(key, torch.empty(shape))
        for key, shape in shapes.items()
    }


def saved(path, tensors):
    torch.save({"meta": {"epoch": 36, "CLASSES": ("person",)}, "state_dict": tensors}, path)
    return path


@pytest.fixture(scope="module", params=[False, True], ids=["boxes by class", "one box"])
def pair(request, tmp_path_factory):
    """The tensors and the detector that was read from their file."""
    tensors = weights(agnostic=request.param)
    path = saved(tmp_path_factory.mktemp("detector") / "cascade.pth", tensors)
    return tensors, load_released_detector(path), path


def images(count=1, channels=C, side=7, seed=0):
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(seed))


def test_box_heads(pair):
    """Four convolutions with BatchNorm, a hidden layer; background is the last class there, the first here."""
    tensors, model, _ = pair
    x = images(3)
    for i, stage in enumerate(model.roi_heads.stages):
        prefix = f"roi_head.bbox_head.{i}"
        y = x
        for j in range(4):
            norm = {part: tensors[f"{prefix}.shared_convs.{j}.bn.{part}"] for part in ("weight", "bias")}
            mean, var = (tensors[f"{prefix}.shared_convs.{j}.bn.running_{part}"] for part in ("mean", "var"))
            y = F.conv2d(y, tensors[f"{prefix}.shared_convs.{j}.conv.weight"], padding=1)
            y = F.batch_norm(y, mean, var, **norm).relu()
        y = y.flatten(1) @ tensors[f"{prefix}.shared_fcs.0.weight"].T + tensors[f"{prefix}.shared_fcs.0.bias"]
        theirs, deltas = (
            y.relu() @ tensors[f"{prefix}.{part}.weight"].T + tensors[f"{prefix}.{part}.bias"]
            for part in ("fc_cls", "fc_reg")
        )
        with torch.no_grad():
            logits, own = stage.box_head(x)
        torch.testing.assert_close(logits[:, 0], theirs[:, K])
        torch.testing.assert_close(logits[:, 1:], theirs[:, :K])
        torch.testing.assert_close(own, deltas.view(3, -1, 4))


def test_mask_heads(pair):
    tensors, model, _ = pair
    x = images(2, side=14)
    for i, stage in enumerate(model.roi_heads.stages):
        prefix, y = f"roi_head.mask_head.{i}", x
        for j in range(4):
            conv = (tensors[f"{prefix}.convs.{j}.conv.{part}"] for part in ("weight", "bias"))
            y = F.conv2d(y, *conv, padding=1).relu()
        y = F.conv_transpose2d(
            y, *(tensors[f"{prefix}.upsample.{p}"] for p in ("weight", "bias")), stride=2
        ).relu()
        y = F.conv2d(y, *(tensors[f"{prefix}.conv_logits.{p}"] for p in ("weight", "bias")))
        with torch.no_grad():
            torch.testing.assert_close(stage.masks(x), y)


def test_pyramid_and_proposals(pair, tmp_path):
    """Top-down by nearest neighbours, five maps; then objectness and deltas of each anchor."""
    tensors, model, path = pair
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    backbone = stvit.load_released(path)
    with torch.no_grad():
        maps = backbone(image)
        tops = [F.conv2d(m, *two(tensors, f"neck.lateral_convs.{i}.conv")) for i, m in enumerate(maps)]
        for i in (3, 2, 1):
            tops[i - 1] = tops[i - 1] + F.interpolate(tops[i], size=tops[i - 1].shape[2:], mode="nearest")
        theirs = [
            F.conv2d(t, *two(tensors, f"neck.fpn_convs.{i}.conv"), padding=1) for i, t in enumerate(tops)
        ]
        theirs.append(F.max_pool2d(theirs[-1], 1, stride=2))
        own = list(model.backbone(image).values())
        assert [m.shape[2:] for m in own] == [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
        logits, deltas = model.rpn.head(own)
        for ours, other, score, delta in zip(own, theirs, logits, deltas, strict=True):
            torch.testing.assert_close(ours, other, atol=1e-4, rtol=1e-4)
            hidden = F.conv2d(ours, *two(tensors, "rpn_head.rpn_conv"), padding=1).relu()
            torch.testing.assert_close(score, F.conv2d(hidden, *two(tensors, "rpn_head.rpn_cls")))
            torch.testing.assert_close(delta, F.conv2d(hidden, *two(tensors, "rpn_head.rpn_reg")))


def two(tensors, name):
    return tensors[f"{name}.weight"], tensors[f"{name}.bias"]


def test_structure_is_read_from_the_shapes_and_it_detects(pair):
    tensors, model, _ = pair
    config = model.config
    assert (model.num_classes, config.channels, config.box_hidden, config.box_convs) == (K, C, HIDDEN, 4)
    assert config.class_agnostic == (tensors["roi_head.bbox_head.0.fc_reg.weight"].shape[0] == 4)
    assert not model.training and not len(model.backbone.norms)  # the backbone has its own
    model.transform.min_size, model.roi_heads.stages[-1].score_thresh = (64,), 0.0
    with torch.no_grad():
        (found,) = model([torch.rand(3, 64, 80)])
    assert found["masks"].shape[1:] == (1, 64, 80) and set(found["labels"].tolist()) <= set(range(1, K + 1))


def test_no_tensor_is_lost(pair):
    tensors, model, _ = pair
    converted = convert_detector(tensors)
    kinds = ("relative_position_index", "attn_mask")
    given = sum(v.numel() for k, v in tensors.items() if not k.endswith(kinds))
    assert sum(v.numel() for v in converted.values()) == given
    own = model.state_dict()
    assert all(own[name].equal(value) for name, value in converted.items())


def test_report_says_what_agrees_and_what_does_not(pair):
    text = report(pair[2])
    for words in ("neck", "roi_head", "all mapped", "background first", "Differs:", "by OpenCV"):
        assert words in text


def test_other_files_are_refused_with_the_reason(tmp_path):
    tensors = weights()
    alone = {k: v for k, v in tensors.items() if k.startswith("backbone.")}
    with pytest.raises(ValueError, match="not weights of a detector: no roi_head"):
        load_released_detector(saved(tmp_path / "backbone.pth", alone))
    extra = {**tensors, "roi_head.semantic_head.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"unexpected roi_head.semantic_head.weight"):
        load_released_detector(saved(tmp_path / "extra.pth", extra))
    short = {k: v for k, v in tensors.items() if "mask_head.1.convs.2" not in k}
    with pytest.raises(ValueError, match=r"missing roi_heads.stages.1.masks.convs.2.0.bias"):
        load_released_detector(saved(tmp_path / "short.pth", short))
    two_stages = {k: v for k, v in tensors.items() if not k.startswith("roi_head.bbox_head.2")}
    with pytest.raises(ValueError, match="box heads for 2 stages"):
        load_released_detector(saved(tmp_path / "two.pth", two_stages))
    misfit = {**tensors, "roi_head.bbox_head.1.fc_cls.bias": torch.zeros(9)}
    with pytest.raises(
        ValueError, match=r"shapes differ: roi_heads.stages.1.box_head.classes.bias is \(9,\)"
    ):
        load_released_detector(saved(tmp_path / "misfit.pth", misfit))


def test_heads_without_norm(tmp_path):
    with pytest.raises(ValueError, match=r"missing .*box_head.shared.0.1"):
        load_released_detector(saved(tmp_path / "plain.pth", weights(norm=False)))


class Hostile:
    def __reduce__(self):
        return (os.mkdir, (os.environ["STVIT_TEST_HOSTILE"],))


def test_code_in_a_file_does_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("STVIT_TEST_HOSTILE", str(tmp_path / "ran"))
    torch.save({"meta": Hostile(), "state_dict": weights()}, tmp_path / "hostile.pth")
    with pytest.raises(ValueError, match=r"hostile.pth holds Python objects .*\.mkdir"):
        load_released_detector(tmp_path / "hostile.pth")
    assert not (tmp_path / "ran").exists()


def test_command(pair, capsys):
    assert main([str(pair[2])]) == 0
    assert "all mapped" in capsys.readouterr().out
    assert main(["nowhere.pth"]) == 1
    assert "nowhere.pth" in capsys.readouterr().out
