"""UperNet on timm's backbones, mIoU by hand, views of an image, ADE20K's layout and what is wrong with it."""

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torchvision import tv_tensors
from transformers import AutoBackbone, TimmBackboneConfig, UperNetConfig, UperNetForSemanticSegmentation
from transformers.modeling_outputs import SemanticSegmenterOutput

from stvit.data.ade20k import AdeFolder, write
from stvit.data.maps import CLASS_NAMES, SceneMaps
from stvit.data.scenes import SceneConfig, draw_scenes, sized
from stvit.data.share import Share
from stvit.dense.segmentation.backbone import Backbone, BackboneConfig
from stvit.dense.segmentation.inference import SCALES, predict
from stvit.dense.segmentation.model import IGNORED, PRESETS, PooledBatchNorm, create_segmenter
from stvit.dense.segmentation.scores import create_metrics, evaluate, scores
from stvit.dense.segmentation.source import VariedCrop, augmentation, segmentation_source
from stvit.dense.segmentation.task import loss
from stvit.reduce import METHODS
from stvit.training.config import TrainConfig

STILL = dict(drop_path_rate=0.0)  # timm's Swins drop paths at 0.1 unless they are told not to


def micro(name: str = "micro_stvit_r_swin", classes: int = 5, **args) -> UperNetForSemanticSegmentation:
    return create_segmenter(name, classes, {**STILL, **args}, **PRESETS["micro"])


def batch(classes: int = 5, size: tuple[int, int] = (64, 64), images: int = 1):
    return torch.randn(images, 3, *size), torch.randint(classes, (images, *size))


# The model


@pytest.mark.parametrize(
    ("args", "size"),
    [
        (dict(depths=(1, 1, 8, 1), units=[[1, 1, 1, 1]] * 2), (64, 64)),
        (dict(depths=(1, 1, 6, 1), units=[[1, 2, 2, 1]]), (70, 93)),
        (dict(depths=(1, 1, 8, 1), units=[[1, 1, 1, 1]] * 2, reuse=True), (64, 48)),
    ],
)
def test_every_parameter_learns_from_one_image(args, size):
    model = micro(**args).train()
    images, classes = batch(size=size)
    loss(model, images, classes).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert model(images).logits.shape == (1, 5, *size)


@pytest.mark.parametrize("method", METHODS)
def test_upernet_reads_the_whole_map_of_a_vit_with_any_method(method):
    """The layers' tokens come back to their places, so that all four maps have the image's grid."""
    model = micro(f"micro_{method}", img_size=(48, 36), drop_path_rate=0.0).eval()
    images = torch.randn(1, 3, 48, 36)
    with torch.no_grad():
        assert [m.shape[2:] for m in model.backbone(images).feature_maps] == [(8, 6)] * 4
        assert model(images).logits.shape == (1, 5, 48, 36)


@pytest.mark.slow
def test_every_parameter_of_upernet_on_stvit_r_swin_small_learns_from_one_image():
    model = create_segmenter("stvit_r_swin_small_patch4_window7_224", 150, STILL).train()
    assert model.decode_head.classifier.in_channels == 512 and model.auxiliary_head.in_channels == 384
    loss(model, *batch(150, (64, 64))).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_a_pool_of_one_value_is_normalised_by_running_statistics_else_it_is_batch_norm():
    norm = nn.BatchNorm2d(3)
    norm.running_mean.uniform_(), norm.running_var.uniform_(0.5, 2)
    pooled = PooledBatchNorm.adopt(nn.BatchNorm2d(3))
    pooled.load_state_dict(norm.state_dict())
    one, two = torch.randn(1, 3, 1, 1), torch.randn(2, 3, 1, 1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm.train()(one)
    assert pooled.train()(one).equal(norm.eval()(one))
    assert pooled.running_mean.equal(norm.running_mean) and pooled.num_batches_tracked == 0
    assert pooled.train()(two).equal(norm.train()(two))
    assert pooled.running_var.equal(norm.running_var)


def test_the_backbone_is_timms_to_the_bit():
    torch.manual_seed(3)
    model = micro()
    torch.manual_seed(3)
    maps = timm.create_model("micro_stvit_r_swin", features_only=True, **STILL)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            model.backbone._backbone.state_dict().values(), maps.state_dict().values(), strict=True
        )
    )
    images = torch.randn(2, 3, 64, 64)
    bare = Backbone(BackboneConfig(backbone="micro_stvit_r_swin", backbone_args=STILL)).eval()
    bare._backbone.load_state_dict(maps.state_dict())
    for ours, theirs in zip(bare(images).feature_maps, maps.eval()(images), strict=True):
        assert ours.equal(theirs)


def test_transformers_find_the_backbone_and_what_it_was_given():
    shallow = dict(drop_path_rate=0.5, img_size=56, depths=(1, 1, 1, 2))
    config = BackboneConfig(backbone="swin_tiny_patch4_window7_224", backbone_args=shallow)
    again = type(config).from_dict(config.to_dict())
    backbone = AutoBackbone.from_config(again)
    assert isinstance(backbone, Backbone)
    assert backbone._backbone.model.layers[3].blocks[1].drop_path1.drop_prob == 0.5
    maps = backbone(torch.randn(1, 3, 56, 56)).feature_maps  # channels last in timm
    assert [m.shape[1:] for m in maps] == [(96, 14, 14), (192, 7, 7), (384, 4, 4), (768, 2, 2)]
    plain = TimmBackboneConfig(backbone="micro_stvit_r_swin", out_indices=[0, 1, 2, 3])
    model = UperNetForSemanticSegmentation(UperNetConfig(backbone_config=plain, num_labels=4, hidden_size=16))
    assert model.eval()(torch.randn(1, 3, 64, 64)).logits.shape == (1, 4, 64, 64)


def test_transformers_save_and_load_the_whole_model(tmp_path):
    model = micro(units=[[4, 2, 5, 1]]).eval()
    model.save_pretrained(tmp_path)
    again = UperNetForSemanticSegmentation.from_pretrained(tmp_path).eval()
    assert len(again.backbone._backbone.model.layers[2].units) == 1
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(again(images).logits, model(images).logits)


def test_the_loss_is_that_of_both_heads_on_labelled_pixels():
    model, (images, classes) = micro(), batch(images=2)
    model.eval()
    classes[:, :40] = IGNORED
    maps = model.backbone(images).feature_maps
    parts = [
        F.cross_entropy(F.interpolate(head(maps), size=64, mode="bilinear")[:, :, 40:], classes[:, 40:])
        for head in (model.decode_head, model.auxiliary_head)
    ]
    assert loss(model, images, classes).item() == pytest.approx((parts[0] + 0.4 * parts[1]).item(), rel=1e-5)


def test_a_batch_without_labels_teaches_nothing_and_breaks_nothing():
    model, (images, classes) = micro().train(), batch()
    value = loss(model, images, torch.full_like(classes, IGNORED))
    value.backward()
    assert value == 0 and not any(p.grad.any() for p in model.parameters())


def test_what_the_backbone_excepts_from_weight_decay_is_excepted():
    from stvit.training.build import build_optimizer

    model = micro()
    groups = build_optimizer(config(opt="adamw"), model).param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    named = {name: id(p) in decayed for name, p in model.named_parameters()}
    excepted = model.no_weight_decay() & named.keys()
    assert any("centers.weight" in name for name in excepted) and not any(named[name] for name in excepted)
    assert named["decode_head.classifier.weight"] and not named["decode_head.classifier.bias"]


# Views


class Pixels(nn.Module):
    """Logits that are a fixed function of each pixel: equivariant to mirroring."""

    def forward(self, images):
        red, green = images[:, :1], images[:, 1:2]
        return SemanticSegmenterOutput(logits=torch.cat([red, green, red * green], 1))


class Columns(nn.Module):
    """Logits that depend on the column alone, whatever the image is."""

    def forward(self, images):
        row = torch.linspace(0, 1, images.shape[3]).expand(images.shape[0], 1, *images.shape[2:])
        return SemanticSegmenterOutput(logits=torch.cat([row, 1 - row], 1))


def test_one_view_is_the_softmax_and_mirror_images_of_an_equivariant_model_agree():
    images = torch.randn(2, 3, 8, 10)
    once = predict(Pixels(), images)
    assert once.equal(Pixels()(images).logits.softmax(1))
    torch.testing.assert_close(predict(Pixels(), images, flip=True), once)


def test_mirror_images_are_turned_back_and_averaged():
    columns = Columns()(torch.zeros(1, 3, 4, 5)).logits
    both = predict(Columns(), torch.zeros(1, 3, 4, 5), flip=True)
    torch.testing.assert_close(both, (columns.softmax(1) + columns.flip(3).softmax(1)) / 2)


def test_scales_of_a_constant_image_agree_and_sizes_are_as_asked():
    images = torch.full((1, 3, 12, 16), 0.3)
    once = predict(Pixels(), images, size=(30, 40))
    assert once.shape == (1, 3, 30, 40)
    torch.testing.assert_close(predict(Pixels(), images, (30, 40), SCALES, flip=True), once)
    seen = []
    hook = Pixels()
    hook.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape[2:])))
    predict(hook, images, scales=SCALES)
    assert seen == [(6, 8), (9, 12), (12, 16), (15, 20), (18, 24), (21, 28)]


def test_scales_that_are_none_are_refused():
    for scales in ((), (0.0, 1.0)):
        with pytest.raises(ValueError, match="scales must be positive"):
            predict(Pixels(), torch.zeros(1, 3, 4, 4), scales=scales)


# Scores


def test_miou_by_hand():
    true = torch.tensor([[[0, 0, 0, 1, 1, IGNORED, 2, IGNORED]]])
    told = torch.tensor([[[0, 0, 1, 1, 0, 3, 2, 0]]])
    metrics = create_metrics(5)
    metrics.update(told, true)
    found = scores(metrics)
    # class 0: 2 of {0, 1, 2, 4}; class 1: 1 of {2, 3, 4}; class 2: all; 3 was told of a pixel that does not count
    assert found["iou"] == [50.0, 33.3333, 100.0, None, None]
    assert found["miou"] == pytest.approx((50 + 100 / 3 + 100) / 3)
    assert found["pixel_accuracy"] == pytest.approx(100 * 4 / 6)


def test_scores_are_of_all_pixels_however_they_are_batched():
    class Told(nn.Module):
        def forward(self, images):
            return SemanticSegmenterOutput(logits=images)

    images, classes = torch.randn(6, 4, 5, 7), torch.randint(4, (6, 5, 7))
    classes[0, :2] = IGNORED
    whole = evaluate(Told(), [(images, classes)], 4)
    parts = evaluate(Told(), zip(images.split([1, 2, 3]), classes.split([1, 2, 3]), strict=True), 4)
    assert whole == parts and whole["images"] == 6
    told, kept = images.argmax(1), classes != IGNORED
    iou = [
        ((told == k) & (classes == k) & kept).sum() / (((told == k) | (classes == k)) & kept).sum()
        for k in range(4)
    ]
    assert whole["miou"] == pytest.approx(100 * float(sum(iou)) / 4, abs=1e-4)


def test_nothing_to_score_is_an_error():
    with pytest.raises(ValueError, match="no images to evaluate"):
        evaluate(Pixels(), [], 3)
    with pytest.raises(ValueError, match="every pixel of the evaluation images is unlabelled"):
        evaluate(Pixels(), [(torch.randn(1, 3, 4, 4), torch.full((1, 4, 4), IGNORED))], 3)


# Data


def config(**changes) -> TrainConfig:
    given = dict(
        task="segment", model="micro_stvit_r_swin", image_size=32, train_images=12, eval_images=5, batch_size=4,
        workers=0,
    )  # fmt: skip
    return TrainConfig.of(**{**given, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("ade"), 32, {"train": 12, "validation": 5})


def test_scenes_have_the_class_of_what_is_seen():
    scenes = sized(SceneConfig(), 32)
    maps, drawn = SceneMaps(scenes, "test", 7), draw_scenes(scenes, torch.arange(7), "test")
    assert torch.equal(maps.maps, drawn.semantic.to(torch.uint8)) and len(maps.class_names) == 13
    assert torch.equal(maps.images, drawn.images)


def test_a_folder_of_scenes_gives_the_batches_that_scenes_give(folder):
    scenes, files = segmentation_source(config()), segmentation_source(config(data=str(folder)))
    assert files.class_names == scenes.class_names == CLASS_NAMES and files.steps == scenes.steps == 3
    for which in (0, 1):
        ours, theirs = (torch.cat([b[which] for b in source.evaluate()]) for source in (scenes, files))
        assert torch.equal(ours, theirs)


def test_batches_are_a_function_of_seed_and_epoch_and_are_shared_by_processes(folder):
    made = config(data=str(folder), color_jitter=0.5)
    whole = list(segmentation_source(made).train(1))
    again = list(segmentation_source(made).train(1))
    halves = [list(segmentation_source(made, Share(rank, 2)).train(1)) for rank in (0, 1)]
    for step, (images, classes) in enumerate(whole):
        assert images.equal(again[step][0]) and classes.equal(again[step][1])
        for rank in (0, 1):
            assert images[rank::2].equal(halves[rank][step][0]) and classes[rank::2].equal(
                halves[rank][step][1]
            )
    assert not whole[0][0].equal(next(iter(segmentation_source(made).train(2)))[0])
    parts = [len(x) for rank in (0, 1) for x, _ in segmentation_source(made, Share(rank, 2)).evaluate()]
    assert sum(parts) == 5


def test_workers_change_nothing(folder):
    one, two = (segmentation_source(config(data=str(folder), workers=n)) for n in (0, 2))
    for (images, classes), (others, maps) in zip(one.train(0), two.train(0), strict=True):
        assert images.equal(others) and classes.equal(maps)


def test_image_and_map_move_together_and_padding_counts_nowhere():
    classes = torch.arange(20 * 24).reshape(20, 24) % 7
    image = (classes * 30).to(torch.uint8).expand(3, -1, -1)
    augment = augmentation(40, [], distort=False)
    augment.transforms[0].min_size = [20]  # no resizing: the values stay what they are
    for seed in range(5):
        torch.manual_seed(seed)
        seen, told = augment(tv_tensors.Image(image), tv_tensors.Mask(classes.to(torch.uint8)))
        assert seen.shape == (3, 40, 40) and (told == IGNORED).sum() == 40 * 40 - 20 * 24
        kept = told != IGNORED
        assert torch.equal(seen[0][kept], told[kept] * 30) and not seen[0][~kept].any()


def test_crops_avoid_what_one_class_fills():
    classes = torch.zeros(64, 64, dtype=torch.uint8)
    classes[:, 56:] = 1
    crop = VariedCrop(16, fill={tv_tensors.Mask: IGNORED, tv_tensors.Image: 0})
    plain = VariedCrop(16, fill={tv_tensors.Mask: IGNORED, tv_tensors.Image: 0}, fullest=1.1)

    def varied(transform):
        torch.manual_seed(0)
        return sum(transform(tv_tensors.Mask(classes)).float().mean().item() > 0.25 for _ in range(40))

    assert varied(crop) > 2 * varied(plain)


def annotation(folder, numbers: np.ndarray):
    Image.fromarray(numbers).save(folder / "annotations" / "training" / "a.png")


@pytest.fixture
def small(tmp_path):
    for split in ("training", "validation"):
        for kind in ("images", "annotations"):
            (tmp_path / kind / split).mkdir(parents=True)
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "images" / "training" / "a.jpg")
    annotation(tmp_path, np.array([[0, 1, 2, 150, 255, 3]] * 4, np.uint8))
    return tmp_path


def test_nought_and_255_count_nowhere_and_classes_begin_at_one(small):
    image, classes = AdeFolder(small, "train")[0]
    assert image.shape == (3, 4, 6) and classes[0].tolist() == [255, 0, 1, 149, 255, 2]
    assert AdeFolder(small, "train").class_names[149] == "class 150"


def test_names_are_read_from_the_last_column(small):
    (small / "objectInfo150.txt").write_text(
        "Idx\tRatio\tTrain\tVal\tName\n1\t0.2\t9\t1\twall\n2\t0.1\t7\t1\tbuilding, edifice\n"
    )
    data = AdeFolder(small, "train")
    assert data.class_names == ("wall", "building, edifice")
    with pytest.raises(ValueError, match=r"a.png has the number 150, and there are 2 classes \(1 to 2"):
        data[0]


def test_what_is_wrong_with_a_folder_is_said(small):
    with pytest.raises(
        ValueError, match=r"no .jpg or .png in .*validation: ADE20K's layout has images/training"
    ):
        AdeFolder(small, "validation")
    with pytest.raises(ValueError, match="there is no folder .*--data scenes needs no files"):
        AdeFolder(small / "images", "train")
    annotation(small, np.zeros((4, 7), np.uint8))
    with pytest.raises(ValueError, match="a.png is 7 × 4, .*a.jpg is 6 × 4"):
        AdeFolder(small, "train")[0]
    annotation(small, np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(ValueError, match="a.png is RGB: a map of classes has one number of 8 bits a pixel"):
        AdeFolder(small, "train")[0]
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(small / "images" / "training" / "b.jpg")
    with pytest.raises(ValueError, match="annotations/training has no b.png, which .* has an image for"):
        AdeFolder(small, "train")
