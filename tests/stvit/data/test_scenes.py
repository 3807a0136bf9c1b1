"""Scenes: a function of (seed, number); masks, boxes and labels that agree with each other."""

import pytest
import torch

from stvit.data.chance import uniform
from stvit.data.drawn import DrawnSource, drawn_batches, normalise
from stvit.data.scenes import (
    CLASSES,
    MOTIONS,
    SMALL,
    SceneConfig,
    boxes,
    draw_clips,
    draw_scenes,
    sized,
)
from stvit.data.shapes import SHAPES
from stvit.data.share import Share
from stvit.data.store import Scenes, address

CONFIG = SceneConfig()
LABELS, MEAN = [6, 9, 0, 11], 111.3687  # of the first four test scenes


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes(CONFIG, torch.arange(192))


def test_a_scene_depends_on_its_number_alone(scenes):
    some = torch.tensor([150, 3, 77])
    for name, alone, among in zip(scenes._fields, draw_scenes(CONFIG, some), scenes, strict=True):
        assert torch.equal(alone, among[some]), name


def test_seeds_splits_and_numbers_give_other_scenes(scenes):
    others = [
        draw_scenes(SceneConfig(seed=1), torch.arange(8)).images,
        draw_scenes(CONFIG, torch.arange(8), "test").images,
        draw_scenes(CONFIG, torch.arange(8) + 1).images,
    ]
    assert not any((other == scenes.images[:8]).flatten(1).all(1).any() for other in others)


def test_the_drawing_is_as_it_was():
    """Recorded accuracies stand on these images: change them, and DRAWING in store.py must grow."""
    scenes = draw_scenes(CONFIG, torch.arange(4), "test")
    assert scenes.labels.tolist() == LABELS
    assert abs(scenes.images.double().mean().item() - MEAN) < 0.01  # rounding differs between machines


def test_the_marked_object_is_the_label_and_on_top(scenes):
    assert torch.equal(scenes.labels, scenes.classes[:, 0])
    assert scenes.labels.bincount(minlength=len(CLASSES)).min() > 0
    area = (scenes.instances == 1).flatten(1).sum(1)
    rim = scenes.radii[:, 0] + CONFIG.outline
    assert (area > 0.8 * torch.pi * scenes.radii[:, 0] ** 2).all()
    assert (area < 1.6 * torch.pi * rim**2).all()


def test_masks_boxes_and_classes_agree(scenes):
    for k in range(CONFIG.max_objects):
        for i in range(64):
            seen = (scenes.instances[i] == k + 1).nonzero()
            x0, y0, x1, y1 = scenes.boxes[i, k].tolist()
            if len(seen) == 0:
                assert (x0, y0, x1, y1) == (0, 0, 0, 0)
                continue
            assert scenes.classes[i, k] >= 0
            assert seen.amin(0).tolist() == [y0, x0] and (seen.amax(0) + 1).tolist() == [y1, x1]


def test_semantic_maps_are_the_classes_of_the_instances(scenes):
    semantic = scenes.semantic
    assert torch.equal(semantic > 0, scenes.instances > 0)
    for i in range(32):
        for k in scenes.instances[i].unique().tolist():
            values = semantic[i][scenes.instances[i] == k].unique().tolist()
            assert values == [0 if k == 0 else int(scenes.classes[i, k - 1]) + 1]


def test_objects_occlude_each_other_and_differ_in_number_and_size(scenes):
    present = scenes.classes >= 0
    assert set(present.sum(1).tolist()) == set(range(CONFIG.min_objects, CONFIG.max_objects + 1))
    hidden = present & (scenes.boxes[..., 2] == 0)
    areas = torch.stack([(scenes.instances == k + 1).flatten(1).sum(1) for k in range(CONFIG.max_objects)], 1)
    covered = present & (areas < 0.6 * torch.pi * scenes.radii**2)
    assert covered.float().mean() > 0.03 and hidden.float().mean() < 0.1
    small = (scenes.radii[:, 0] < SMALL).float().mean()
    assert 0.15 < small < 0.5


def test_neither_colours_nor_distractors_give_the_label_away(scenes):
    others = scenes.classes[:, 1:][scenes.classes[:, 1:] >= 0]
    assert others.bincount(minlength=len(CLASSES)).min() > 0  # every class is a distractor too


def test_figures_have_like_areas():
    side = torch.arange(64) + 0.5 - 32
    x, y = side[None, None].expand(1, 64, 64), side[None, :, None].expand(1, 64, 64)
    r = torch.full((1, 1, 1), 15.0)
    for name, shape in SHAPES.items():
        area = (shape(x, y, r) <= 0).sum().item()
        assert 0.8 < area / (torch.pi * 15**2) < 1.2, name


def test_clips_move_as_their_label_says():
    clip, motion = draw_clips(CONFIG, torch.arange(40), frames=3)
    still = draw_scenes(CONFIG, torch.arange(40))
    assert torch.equal(clip[0].labels, still.labels) and len(clip) == 3
    assert motion.bincount(minlength=len(MOTIONS)).min() > 0
    inside = (clip[0].boxes[:, 0] > 0).all(1) & (clip[2].boxes[:, 0, 2:] < CONFIG.size).all(1)
    inside &= (clip[0].boxes[:, 0, 2:] < CONFIG.size).all(1) & (clip[2].boxes[:, 0] > 0).all(1)
    moved = (clip[2].boxes[:, 0] - clip[0].boxes[:, 0])[:, :2]  # of x₀, y₀
    direction = torch.tensor([[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]])[motion]
    assert torch.equal(moved[inside].sign(), direction[inside])


def test_scenes_scale_with_the_image():
    large = draw_scenes(sized(CONFIG, 96), torch.arange(16))
    small = draw_scenes(CONFIG, torch.arange(16))
    assert torch.equal(large.labels, small.labels)
    assert (large.boxes[:, 0] - 2 * small.boxes[:, 0]).abs().max() <= 2


def test_uniform_is_uniform():
    draws = uniform(0, 0, 0, torch.arange(2000), (20,))
    assert draws.min() >= 0 and draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.005 and abs(draws.var() - 1 / 12) < 0.002
    corners = torch.corrcoef(draws.T) - torch.eye(20)
    assert corners.abs().max() < 0.12


def test_the_cache_gives_the_same_images(tmp_path):
    fresh, first, again = (Scenes(CONFIG, "test", 40, cache) for cache in (None, tmp_path, tmp_path))
    assert torch.equal(fresh.images, first.images) and torch.equal(first.images, again.images)
    assert [path.name for path in tmp_path.iterdir()] == [f"scenes-{address(CONFIG, 'test', 40)}.safetensors"]


def test_shares_add_up_to_the_batches_of_one_process():
    scenes = Scenes(CONFIG, "train", 48)
    whole = list(DrawnSource(scenes, scenes, 16, 3, Share()).train(epoch=2))
    halves = [list(DrawnSource(scenes, scenes, 16, 3, Share(rank, 2)).train(epoch=2)) for rank in (0, 1)]
    assert len(whole) == 3
    for (images, labels), *parts in zip(whole, *halves, strict=True):
        for rank, (own, own_labels) in enumerate(parts):
            assert torch.equal(own, images[rank::2]) and torch.equal(own_labels, labels[rank::2])
    counted = sum(len(labels) for rank in (0, 1) for _, labels in drawn_batches(scenes, Share(rank, 2), 10))
    assert counted == 48


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="unknown split 'dev'; choose one of train"):
        draw_scenes(CONFIG, torch.arange(1), "dev")
    with pytest.raises(ValueError, match="a batch of 15 cannot be shared equally by 2"):
        Share(0, 2).of(15)


def test_normalised_images_are_centred():
    assert normalise(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


def test_boxes_of_nothing():
    assert boxes(torch.zeros(2, 8, 8, dtype=torch.uint8), 3).sum() == 0
