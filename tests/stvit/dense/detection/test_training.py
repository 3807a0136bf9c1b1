"""Detection by the common loop: scenes and COCO's layout, runs that resume, flips, sizes by chance."""

import json
from pathlib import Path

import pytest
import torch
from branches import TRAIN, branch_twice
from safetensors.torch import load_file

import stvit.dense
from stvit.data.coco import CocoFolder, write_coco
from stvit.data.objects import SceneObjects
from stvit.data.scenes import CLASSES, SceneConfig, sized
from stvit.data.share import Share
from stvit.dense.detection.source import crop, detection_source, mirror, part_of
from stvit.dense.detection.task import Detect
from stvit.train import Trainer, train
from stvit.training import journal
from stvit.training.config import TrainConfig
from stvit.training.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[4]
BACKBONE = dict(depths=(1, 1, 2, 1), embed_dim=8, num_heads=(1, 1, 2, 2), units=[[0, 1, 0, 1]])
HEADS = dict(
    channels=8, box_width=8, box_hidden=16, mask_width=8, samples=8, proposals_train=24, proposals_test=8
)
SMALL = dict(
    task="detect", model="micro_stvit_r_swin", model_args={**BACKBONE, "detector": HEADS}, image_size=32,
    train_images=8, eval_images=4, epochs=2, batch_size=4, log_every=1, threads=1, device="cpu", workers=0,
)  # fmt: skip


def small(out, **changes):
    return TrainConfig.of(**{**SMALL, "out": str(out), **changes})


def weights(out):
    return load_file(out / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Images of several sizes, one of them without objects, in COCO's layout."""
    root = tmp_path_factory.mktemp("layout")
    for split, count in (("train", 6), ("validation", 4)):
        items = []
        for i in range(count):
            image, target = SceneObjects(sized(SceneConfig(), (32, 40, 48)[i % 3]), split, i + 1)[i]
            items.append((image, {k: v[:0] for k, v in target.items()} if i == 1 else target))
        write_coco(root, split, items, CLASSES)
    return root


def test_scenes_train_resume_and_load(tmp_path):
    train(small(tmp_path / "whole"))
    stopped = Trainer(small(tmp_path / "broken"))
    stopped.save = lambda: (Trainer.save(stopped), (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    scores = train(small(tmp_path / "broken"))
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert whole.keys() == broken.keys() and all(whole[name].equal(broken[name]) for name in whole)
    assert {"ap", "ap50", "ap75", "ap_small", "mask_ap", "mask_ap_large", "images"} <= scores.keys()
    assert scores["images"] == 4 and (tmp_path / "whole" / journal.CURVES).exists()
    model = stvit.dense.load(tmp_path / "whole" / "model")
    assert model.num_classes == 12 and model.config.channels == 8
    record = json.loads((tmp_path / "whole" / "model" / "record.json").read_text())
    assert record["ap"] == scores["ap"] and record["config"]["task"] == "detect"


def test_cocos_layout_trains_and_is_scored(tmp_path, coco):
    heads = {**HEADS, "preset": "micro", "min_sizes": [24, 32], "max_size": 48}
    config = small(
        tmp_path, data=str(coco), recipe="cascade_mask_rcnn", epochs=1, batch_size=3, workers=1,
        train_images=0, eval_images=0, drop_path=0.0, model_args={**BACKBONE, "detector": heads},
    )  # fmt: skip
    scores = train(config)
    assert scores["images"] == 4 and scores["objects"] > 4 and 0 <= scores["ap"] <= 100
    assert scores["ap_medium"] is None  # by COCO's measure objects of scenes are small
    losses = [line["loss"] for line in journal.read(tmp_path / journal.LOG) if "loss" in line]
    assert len(losses) == 2 and all(0 < loss < 20 for loss in losses)


def test_both_sources_give_the_same_batches(coco, tmp_path):
    """Scenes directly, and the same scenes from files."""
    scenes = SceneObjects(sized(SceneConfig(), 32), "train", 8)
    write_coco(tmp_path, "train", (scenes[i] for i in range(8)), CLASSES)
    write_coco(tmp_path, "validation", (scenes[i] for i in range(2)), CLASSES)
    direct = detection_source(small(tmp_path, train_images=8, eval_images=2))
    files = detection_source(small(tmp_path, data=str(tmp_path), train_images=8, eval_images=2))
    for (images, targets), (again, found) in zip(direct.train(3), files.train(3), strict=True):
        for i in range(4):
            assert images[i].equal(again[i])
            assert all(targets[i][name].equal(found[i][name]) for name in targets[i])


def test_processes_share_what_one_would_have_had(tmp_path):
    config = small(tmp_path)
    whole = detection_source(config)
    parts = [detection_source(config, Share(rank, 2)) for rank in range(2)]
    for batch, *shares in zip(whole.train(1), *(part.train(1) for part in parts), strict=True):
        for rank, (images, _) in enumerate(shares):
            assert all(a.equal(b) for a, b in zip(images, batch[0][rank::2], strict=True))
    counts = [sum(len(images) for images, _ in part.evaluate()) for part in parts]
    assert counts == [2, 2]


def test_epochs_and_seeds_have_other_orders(tmp_path):
    def first(seed, epoch):
        return next(iter(detection_source(small(tmp_path, seed=seed)).train(epoch)))[0]

    same = [a.equal(b) for a, b in zip(first(0, 0), first(0, 0), strict=True)]
    assert all(same)
    for other in (first(0, 1), first(1, 0)):
        assert not all(a.equal(b) for a, b in zip(first(0, 0), other, strict=True))


def test_a_mirrored_image_has_mirrored_boxes_and_masks():
    image, target = SceneObjects(sized(SceneConfig(), 32), "train", 1)[0]
    flipped, found = mirror(image, target)
    for box, mask in zip(found["boxes"].int().tolist(), found["masks"], strict=True):
        rows, columns = mask.nonzero().unbind(1)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    again, twice = mirror(flipped, found)
    assert again.equal(image) and all(twice[name].equal(target[name]) for name in target)


def test_a_part_of_an_image_has_its_part_of_boxes_and_masks():
    """Crops fill the picture at sides of 16 pixels, since 384 pixels are more than there are."""
    image, target = SceneObjects(sized(SceneConfig(), 48), "train", 1)[0]
    target["image_id"] = torch.tensor(7)
    whole, same = crop(image, target, (48,), 0.0, 0.5, 0.5, 0.9, 0.9)
    assert whole.equal(image) and all(same[name].equal(target[name]) for name in target)
    part, found = crop(
        image, target, (1200,), 0.0, 0.5, 0.25, 0.5, 1 - 1e-6
    )  # 25 times as large: 492 and 438
    height, width = round(492 / 25), round(438 / 25)
    assert part.shape == (3, height, width) and part.equal(
        image[:, (49 - height) // 2 : (49 - height) // 2 + height, 48 - width :]
    )
    assert 0 < len(found["boxes"]) <= len(target["boxes"]) and int(found["image_id"]) == 7
    assert {len(found[name]) for name in ("boxes", "labels", "masks", "area")} == {len(found["boxes"])}
    for (x0, y0, x1, y1), mask in zip(found["boxes"].int().tolist(), found["masks"], strict=True):
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height and mask.any()
        assert mask[y0:y1, x0:x1].sum() == mask.sum()  # nothing outside the box
    nobody = {name: value[:0] if value.ndim else value for name, value in target.items()}
    assert crop(image, nobody, (1200,), 0, 0, 0, 0, 0)[1]["boxes"].shape == (0, 4)


def test_sizes_of_parts():
    assert [part_of(800, 0.5, chance) for chance in (0.0, 1.0)] == [768, 800]  # 384 to 400 of its 400
    assert [part_of(2000, 0.5, chance) for chance in (0.0, 1.0)] == [768, 1200]  # 384 to 600 of its 1000


@pytest.mark.slow
def test_two_processes_train_and_score_every_image_once(tmp_path):
    config = small(tmp_path)
    words = [
        w for name in (*SMALL, "out") for w in (f"--{name.replace('_', '-')}", text(getattr(config, name)))
    ]
    two = branch_twice(TRAIN, *words, said=tmp_path / "said")
    for process in two:
        process.join(480)
    assert [process.exitcode for process in two] == [0, 0], (tmp_path / "said").read_text()
    (line,) = [
        line for line in journal.read(tmp_path / journal.LOG) if line.get("epoch") == 1 and "ap" in line
    ]
    assert line["images"] == 4
    model = stvit.dense.load(tmp_path / "model").eval()
    source = detection_source(config)
    alone = Detect().evaluate(model, source, torch.device("cpu"))
    assert alone["objects"] == line["objects"] and alone["ap"] == pytest.approx(line["ap"], abs=1e-3)


def text(value) -> str:
    return json.dumps(value) if isinstance(value, dict) else str(value)


def test_the_paper_recipe_is_multi_scale_and_falls_twice():
    recipe = RECIPES["cascade_mask_rcnn"]
    config = TrainConfig.of(task="detect", data="coco", model_args=dict(units=[[6, 2, 9, 1]]))
    assert config.recipe == "cascade_mask_rcnn" and config.epochs == 36 and config.milestones == "27,33"
    assert config.model_args["detector"] == recipe["model_args"]["detector"]  # beside the units
    sizes = recipe["model_args"]["detector"]["min_sizes"]
    assert recipe["model_args"]["detector"]["crops"] == (400, 500, 600)
    assert (sizes[0], sizes[-1], recipe["model_args"]["detector"]["max_size"]) == (480, 800, 1333)


def test_training_sizes_are_drawn_and_evaluation_has_the_largest():
    model = Detect().build_model(
        small("", model_args={**BACKBONE, "detector": {**HEADS, "min_sizes": [24, 32, 40]}}),
        type("Source", (), {"class_names": CLASSES}),
    )
    image, target = SceneObjects(sized(SceneConfig(), 32), "train", 1)[0]
    image = image.float() / 255
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        images, targets = model.transform([image], [target])
        side = images.image_sizes[0][0]
        seen.add(side)
        torch.testing.assert_close(targets[0]["boxes"], target["boxes"] * side / 32)
        assert targets[0]["masks"].shape[1:] == (side, side) and images.tensors.shape[2] % 16 == 0
    assert seen == {24, 32, 40}
    assert model.eval().transform([image])[0].image_sizes == [(40, 40)]


def test_a_classifiers_backbone_and_a_detector_can_be_started_from(tmp_path):
    import timm

    from stvit.checkpoints import save_checkpoint

    torch.manual_seed(7)
    classifier = timm.create_model("micro_stvit_r_swin", num_classes=5, **BACKBONE)
    save_checkpoint(classifier, tmp_path / "classifier")
    source = type("Source", (), {"class_names": CLASSES})
    model = Detect().build_model(small("", init=str(tmp_path / "classifier")), source)
    own, given = model.backbone.body.model.state_dict(), classifier.state_dict()
    assert len(own) > 50 and all(own[name].equal(given[name]) for name in own)
    stvit.dense.save(model, tmp_path / "detector")
    again = Detect().build_model(small("", init=str(tmp_path / "detector"), seed=9), source)
    assert all(value.equal(again.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(data="nowhere"), r"no annotations/instances_train\*.json in nowhere"),
        (dict(train_images=3), "3 training images do not fill one batch of 4"),
        (dict(model="micro_nothing"), "no model 'micro_nothing' is registered"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        train(small(tmp_path, **changes))


def test_splits_with_other_categories(tmp_path):
    scenes = SceneObjects(sized(SceneConfig(), 32), "train", 4)
    write_coco(tmp_path, "train", (scenes[i] for i in range(4)), CLASSES)
    write_coco(tmp_path, "validation", (scenes[i] for i in range(2)), CLASSES[::-1])
    assert CocoFolder(tmp_path, "validation", False).class_names == CLASSES[::-1]
    with pytest.raises(ValueError, match="other categories"):
        detection_source(small(tmp_path, data=str(tmp_path)))
