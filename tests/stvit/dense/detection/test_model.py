"""Cascade Mask R-CNN: exact geometry, losses in closed form, true boxes at each stage, gradients everywhere."""

import json

import pytest
import timm
import torch
from torchvision.models.detection.image_list import ImageList

import stvit.dense
from stvit.data.objects import SceneObjects
from stvit.data.scenes import SceneConfig, sized
from stvit.dense.detection import DetectorConfig, create_detector
from stvit.dense.detection.heads import box_loss, classification_loss, mask_loss, mask_targets
from stvit.dense.detection.model import paste
from stvit.dense.detection.pyramid import Pyramid, RoIMaps, StridedAnchors
from stvit.dense.detection.source import collate

BACKBONES = ("micro_swin", "micro_stvit_r_swin")


def batch(count=2):
    scenes = SceneObjects(sized(SceneConfig(), 64), "train", count)
    return collate([scenes[i] for i in range(count)])


def nothing(size=(64, 64)):
    """The target of an image without objects."""
    return {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, *size, dtype=torch.uint8),
    }


def detector(backbone="micro_swin", seed=0, model_args=None, **options):
    torch.manual_seed(seed)
    return create_detector(backbone, 12, model_args, **{"preset": "micro", **options})


def test_a_proposals_map_is_read_where_the_box_is():
    """On maps whose value is the position in the image, a box's map holds the centres of its cells."""
    strides, size = (2, 4), 5
    maps = []
    for stride in strides:
        places = (torch.arange(64 // stride) + 0.5) * stride
        maps.append(torch.stack(torch.meshgrid(places, places, indexing="ij"))[None])  # (1, 2, H, W): y, x
    boxes = torch.tensor([[10.0, 12, 19, 27], [8.0, 8, 48, 58]])  # the second is large: from the second map
    for sampling in (0, 1):
        pool = RoIMaps(strides, size, finest=16.0, sampling=sampling)
        assert pool.levels(boxes).tolist() == [0, 1]
        found = pool(maps, [boxes])  # (2, 2, 5, 5)
        cells = (torch.arange(size) + 0.5) / size
        for box, values in zip(boxes, found, strict=True):
            y, x = (box[i] + cells * (box[i + 2] - box[i]) for i in (1, 0))
            torch.testing.assert_close(values[0], y[:, None].expand(size, size))
            torch.testing.assert_close(values[1], x[None].expand(size, size))


def test_proposals_maps_keep_the_boxes_order_over_images():
    pool = RoIMaps((2, 4, 8), 3, finest=8.0)
    maps = [torch.randn(2, 4, 64 // s, 64 // s) for s in (2, 4, 8)]
    boxes = [torch.tensor([[0.0, 0, 60, 60], [1.0, 2, 9, 9]]), torch.tensor([[5.0, 5, 30, 25]])]
    together = pool(maps, boxes)
    alone = [pool([m[i : i + 1] for m in maps], [b[None]]) for i, part in enumerate(boxes) for b in part]
    torch.testing.assert_close(together, torch.cat(alone))
    assert pool(maps, [b[:0] for b in boxes]).shape == (0, 4, 3, 3)


def test_anchors_stand_at_the_maps_strides_and_are_not_rounded():
    grids = ((200, 336), (100, 168), (50, 84), (25, 42), (13, 21))  # of an image padded to 800 × 1344
    anchors = StridedAnchors((4, 8, 16, 32, 64), 8.0, (0.5, 1.0, 2.0))
    image = ImageList(torch.zeros(1, 1, 800, 1344), [(800, 1333)])
    (found,) = anchors(image, [torch.zeros(1, 1, *grid) for grid in grids])
    assert len(found) == 3 * sum(h * w for h, w in grids)
    coarse = found[-3 * 13 * 21 :].unflatten(0, (13, 21, 3))  # rows, columns, ratios
    centres = (coarse[..., :2] + coarse[..., 2:]) / 2
    assert centres[2, 5, 0].tolist() == [5 * 64, 2 * 64]
    sides = (coarse[..., 2:] - coarse[..., :2])[0, 0]  # width, height
    torch.testing.assert_close(sides[:, 1] / sides[:, 0], torch.tensor([0.5, 1.0, 2.0]))
    torch.testing.assert_close(sides.prod(1), torch.full((3,), 512.0**2))


def test_losses_in_closed_form():
    truth = torch.tensor([[0.0, 0, 2, 2]])
    aside = torch.tensor([[2.0, 0, 4, 2]], requires_grad=True)  # touches: IoU 0, hull of 8 without a gap
    assert box_loss(truth.clone(), truth, 1) == pytest.approx(0, abs=1e-6)
    assert float(box_loss(aside, truth, 1).detach()) == pytest.approx(1)
    far = torch.tensor([[4.0, 0, 6, 2]])  # hull of 12, a third of it gap
    assert float(box_loss(far, truth, 4)) == pytest.approx((1 + 1 / 3) / 4)
    logits = torch.zeros(3, 5, requires_grad=True)
    assert float(classification_loss(logits, torch.tensor([0, 1, 4])).detach()) == pytest.approx(
        torch.tensor(5.0).log().item()
    )
    masks = torch.zeros(2, 5, 4, 4, requires_grad=True)
    loss = mask_loss(masks, torch.ones(2, 4, 4), torch.tensor([0, 3]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(torch.tensor(2.0).log().item())
    assert masks.grad[0, 0].abs().min() > 0 and masks.grad[0, 1:].abs().max() == 0  # only the object's class


def test_without_objects_losses_are_zero_and_have_gradients():
    for loss in (
        lambda x: classification_loss(x, torch.zeros(0, dtype=torch.int64)),
        lambda x: mask_loss(x[:, :, None, None], torch.zeros(0, 1, 1), torch.zeros(0, dtype=torch.int64)),
        lambda x: box_loss(x, torch.zeros(0, 4), 0),
    ):
        x = torch.zeros(0, 4, requires_grad=True)
        value = loss(x)
        value.backward()
        assert value == 0 and x.grad is not None


def test_masks_go_into_boxes_and_back():
    mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
    mask[0, 10:30, 5:17] = 1
    box = torch.tensor([[5.0, 10, 17, 30]])
    full = mask_targets(mask, box, torch.tensor([0]), 14)
    assert full.shape == (1, 14, 14) and full.min() == 1
    assert (paste(full[:, None], box, (64, 64))[0, 0] >= 0.5).equal(mask[0].bool())
    left = mask_targets(mask, torch.tensor([[-7.0, 10, 17, 30]]), torch.tensor([0]), 4)[0]
    assert left.tolist() == [[0, 0, 1, 1]] * 4  # half of this box is not the object
    assert mask_targets(mask, box[:0], torch.zeros(0, dtype=torch.int64), 14).shape == (0, 14, 14)
    assert paste(full[:0, None], box[:0], (9, 8)).shape == (0, 1, 9, 8)


def test_masks_of_scenes_survive_the_round_trip():
    _, targets = batch(8)
    overlap = []
    for target in targets:
        number = torch.arange(len(target["boxes"]))
        small = mask_targets(target["masks"], target["boxes"], number, 28)
        again = paste(small[:, None], target["boxes"], (64, 64))[:, 0] >= 0.5
        true = target["masks"].bool()
        overlap.append((again & true).flatten(1).sum(1) / (again | true).flatten(1).sum(1))
    assert torch.cat(overlap).min() > 0.95


def test_true_boxes_join_each_stage_and_leave_before_the_next(monkeypatch):
    model = detector(samples=256, positive_fraction=1.0).train()
    images, targets = batch(2)
    seen = []
    for stage in model.roi_heads.stages:
        select = stage.select_training_samples

        def record(proposals, targets, select=select):
            before = [p.clone() for p in proposals]
            result = select(proposals, targets)
            seen.append((before, result))
            return result

        monkeypatch.setattr(stage, "select_training_samples", record)
    model(images, targets)

    def has(boxes, box):
        return (boxes == box).all(1).any()

    assert len(seen) == 3
    for number, (before, (sampled, matched, labels, _)) in enumerate(seen):
        for i, target in enumerate(targets):
            assert all(has(sampled[i], box) for box in target["boxes"])
            if number:
                assert not any(has(before[i], box) for box in target["boxes"])
                assert len(before[i]) == len(seen[number - 1][1][0][i]) - len(target["boxes"])
            own = (sampled[i] == target["boxes"][matched[i]]).all(1)
            assert labels[i][own].equal(target["labels"][matched[i][own]])


def test_stages_are_weighted_and_stricter():
    stages = detector().roi_heads.stages
    assert [stage.weight for stage in stages] == [1.0, 0.5, 0.25]
    assert [stage.proposal_matcher.high_threshold for stage in stages] == [0.5, 0.6, 0.7]
    assert stages[2].box_coder.weights[0] == pytest.approx(1 / 0.033)


CASES = [
    ("micro_swin", {}, {}, False),
    ("micro_stvit_r_swin", {}, {}, False),
    ("micro_stvit_r_swin", dict(units=[[4, 2, 5, 1]]), {}, True),
    ("micro_stvit_r_swin", dict(reuse=True, output_norms=True), dict(class_agnostic=False), True),
    ("resnet10t", {}, dict(size_divisible=32), False),  # another kind of backbone, channels first
    ("swin_tiny_patch4_window7_224", dict(  # timm's own, channels last
        img_size=64, window_size=2, embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2)
    ), {}, False),
]  # fmt: skip


@pytest.mark.parametrize(("backbone", "model_args", "options", "empty"), CASES)
def test_every_parameter_has_a_gradient(backbone, model_args, options, empty):
    """With ``empty`` no image has an object."""
    model = detector(backbone, model_args=model_args, **options).train()
    images, targets = batch(2)
    losses = model(images, [nothing()] * 2 if empty else targets)
    assert len(losses) == 11 and all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    heads = [p.grad.abs().max() for n, p in model.named_parameters() if ".masks." in n and "weight" in n]
    assert all(g == 0 for g in heads) if empty else all(g > 0 for g in heads)
    if empty:
        assert all(
            float(loss.detach()) == 0 for name, loss in losses.items() if name.endswith(("_box", "_mask"))
        )


def test_an_image_without_objects_among_others():
    model = detector().train()
    images, targets = batch(2)
    losses = model(images, [targets[0], nothing()])
    assert all(loss.isfinite() for loss in losses.values()) and losses["stage1_mask"] > 0


@pytest.mark.parametrize("backbone", BACKBONES)
def test_any_size_in_and_its_own_size_out(backbone):
    model = detector(backbone, min_sizes=(48, 64), max_size=80, score_threshold=0.0).eval()
    sizes = [(64, 64), (37, 90), (101, 50)]
    images = [torch.rand(3, *size, generator=torch.Generator().manual_seed(1)) for size in sizes]
    with torch.no_grad():
        found = model(images)
    for image, (height, width) in zip(found, sizes, strict=True):
        count = len(image["boxes"])
        assert 0 < count <= 24 and image["masks"].shape == (count, 1, height, width)
        assert image["boxes"].min() >= 0 and image["boxes"][:, 2].max() <= width + 1e-4
        assert image["boxes"][:, 3].max() <= height + 1e-4
        assert image["labels"].min() >= 1 and image["labels"].max() <= 12
        assert image["masks"].min() >= 0 and image["masks"].max() <= 1


def test_one_box_for_all_classes_is_the_same_box_for_each():
    """Deltas by class with equal rows give what class-agnostic deltas give."""
    agnostic = detector(score_threshold=0.0)
    by_class = detector(score_threshold=0.0, class_agnostic=False)
    state = agnostic.state_dict()
    for name, value in by_class.state_dict().items():
        if ".deltas." in name:
            state[name] = state[name].repeat(12, *[1] * (value.ndim - 1))
    by_class.load_state_dict(state)
    images, targets = batch(2)
    with torch.no_grad():
        for one, other in zip(agnostic.eval()(images), by_class.eval()(images), strict=True):
            assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)
    losses = []
    for model in (agnostic, by_class):
        torch.manual_seed(3)
        losses.append(model.train()(images, targets))
    for name, value in losses[0].items():
        torch.testing.assert_close(value, losses[1][name])


def test_mixed_precision_keeps_boxes_and_losses_finite():
    model = detector().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(*batch(2))
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())


@pytest.mark.slow
def test_a_detector_learns_two_images():
    model = detector().train()
    images, targets = batch(2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    first = None
    for _ in range(12):
        loss = sum(model(images, targets).values())
        first = first if first is not None else float(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.85 * first


def test_saved_and_loaded(tmp_path):
    model = detector("micro_stvit_r_swin", model_args=dict(units=[[4, 2, 5, 1]]), score_threshold=0.0).eval()
    stvit.dense.save(model, tmp_path, record={"ap": 1.0})
    again = stvit.dense.load(tmp_path).eval()
    images, _ = batch(1)
    with torch.no_grad():
        for name, value in model(images)[0].items():
            assert again(images)[0][name].equal(value)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["task"] == "detect" and config["arguments"]["backbone"] == "micro_stvit_r_swin"


def test_weight_decay_leaves_out_what_the_backbone_does():
    model = detector()
    names = model.no_weight_decay()
    assert names and names <= {name for name, _ in model.named_parameters()}
    assert any(name.endswith("relative_position_bias_table") for name in names)


@pytest.mark.parametrize(("size", "millions"), [("tiny", 86), ("small", 107)])
def test_the_size_of_swins_detectors(size, millions):
    """Swin's paper prints 86 and 107 M, which boxes for each class and three mask heads give."""
    with torch.device("meta"):
        model = create_detector(f"swin_{size}_patch4_window7_224", 80)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == millions


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: create_detector("micro_swim", 3), "no backbone 'micro_swim' .*near it: micro_"),
        (lambda: DetectorConfig.of("nano"), "unknown preset 'nano'; choose one of swin, micro"),
        (lambda: DetectorConfig.of(anchors=3), "unknown option 'anchors' .*anchor_scale"),
        (lambda: DetectorConfig(samples=0), "samples must be at least 1, not 0"),
        (lambda: DetectorConfig(stages=()), "at least one stage"),
        (lambda: create_detector("micro_stvit_swin", 3, preset="micro"), "growing strides"),
        (lambda: Pyramid(timm.create_model("micro_swin"), DetectorConfig.of("micro")), "features_only=True"),
    ],
)
def test_wrong_choices_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
