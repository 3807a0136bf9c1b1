"""Average precision: a value computed by hand, and pycocotools' own on files in COCO's layout."""

import contextlib
import io
import json

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from stvit.data.coco import CocoFolder, write_coco
from stvit.data.coco_masks import encode
from stvit.data.objects import SceneObjects
from stvit.data.scenes import CLASSES, SceneConfig
from stvit.dense.detection.evaluate import average_precision, evaluate, scores
from stvit.dense.detection.source import SIZES, collate, scene_sizes

NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


def drawn(boxes, size=(40, 40)):
    """Boxes as masks."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[int(y0) : int(y1), int(x0) : int(x1)] = 1
    return masks


def target(boxes, labels, **changes):
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    crowd = torch.zeros(len(boxes), dtype=torch.int64)
    masks = drawn(boxes)
    area = masks.flatten(1).sum(1).float()
    return dict(boxes=boxes, labels=torch.as_tensor(labels), masks=masks, iscrowd=crowd, area=area, **changes)


def told(boxes, labels, values):
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    masks = drawn(boxes)[:, None].float()
    return dict(boxes=boxes, labels=torch.as_tensor(labels), scores=torch.as_tensor(values), masks=masks)


class Told(torch.nn.Module):
    """A model that says what it was given, batch by batch."""

    def __init__(self, answers):
        super().__init__()
        self.answers = iter(answers)

    def forward(self, images):
        return [next(self.answers) for _ in images]


def score(targets, answers, sizes=SIZES):
    batches = [([torch.zeros(3, 40, 40)], [t]) for t in targets]
    return evaluate(Told(answers), batches, sizes)


def test_average_precision_by_hand():
    """Two objects of one class. A hit (score 0.9), then a miss: precision is 1 up to half the recall, which
    covers 51 of COCO's 101 recall levels, at all ten overlaps."""
    truth = target([[0, 0, 20, 20], [20, 20, 36, 36]], [1, 1])
    answer = told([[0, 0, 20, 20], [0, 25, 10, 35]], [1, 1], [0.9, 0.8])
    found = score([truth], [answer])
    for name in ("ap", "ap50", "ap75", "mask_ap", "mask_ap50", "ap_small"):
        assert found[name] == pytest.approx(100 * 51 / 101, abs=1e-4)
    assert found["images"] == 1 and found["objects"] == 2
    assert found["ap_medium"] is None and found["mask_ap_large"] is None  # there are no such objects


def test_a_box_that_overlaps_by_two_thirds():
    """IoU 16 / 24 = 0.667 passes four of the ten overlaps, 0.5 to 0.65."""
    found = score([target([[0, 0, 20, 20]], [1])], [told([[0, 4, 20, 24]], [1], [0.5])])
    assert found["ap"] == pytest.approx(40, abs=1e-4)
    assert found["ap50"] == pytest.approx(100, abs=1e-4) and found["ap75"] == 0


def test_an_overlap_of_exactly_three_fifths_counts_at_three_fifths():
    """IoU 12 / 20: the thresholds are double precision, as pycocotools has them."""
    found = score([target([[0, 0, 20, 20]], [1])], [told([[0, 5, 20, 25]], [1], [0.5])])
    assert found["ap"] == pytest.approx(30, abs=1e-4)


def test_sizes_are_those_of_the_masks_of_the_objects():
    sizes = dict(small=(0, 100), medium=(100, 300), large=(300, 1e10))
    boxes = [[0, 0, 8, 8], [10, 10, 24, 24], [20, 0, 40, 20]]  # 64, 196, 400 pixels
    answer = told(boxes[:2], [1, 1], [0.9, 0.8])  # the large one is not found
    found = score([target(boxes, [1, 1, 1])], [answer], sizes)
    assert [found[f"ap_{name}"] for name in sizes] == pytest.approx([100, 100, 0], abs=1e-4)


def test_crowds_and_images_without_objects():
    crowd = target([[0, 0, 20, 20], [22, 22, 38, 38]], [1, 1])
    crowd["iscrowd"][1] = 1
    inside = told([[0, 0, 20, 20], [24, 24, 30, 30], [30, 30, 36, 36]], [1] * 3, [0.5, 0.9, 0.8])
    assert score([crowd], [inside])["ap"] == pytest.approx(
        100, abs=1e-4
    )  # what lies in a crowd is no mistake
    empty, silent = (
        target([], torch.zeros(0, dtype=torch.int64)),
        told([], torch.zeros(0, dtype=torch.int64), []),
    )
    alone = target([[0, 0, 20, 20]], [1]), told([[0, 0, 20, 20]], [1], [0.5])
    assert score([empty, alone[0]], [silent, alone[1]])["ap"] == pytest.approx(100, abs=1e-4)
    mistaken = told([[0, 0, 9, 9]], [1], [0.9])
    assert score([empty, alone[0]], [mistaken, alone[1]])["ap"] == pytest.approx(50, abs=1e-4)
    with pytest.raises(ValueError, match="no images"):
        score([], [])


def test_sizes_of_scenes_are_thirds_of_their_radii():
    sizes = scene_sizes(SceneConfig(min_radius=3, max_radius=9))
    assert [round(sizes[name][0] / torch.pi) for name in sizes] == [0, 25, 49]


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    """Scenes in COCO's layout, with a crowd, an object without area and an image without objects."""
    root = tmp_path_factory.mktemp("coco")
    scenes = SceneObjects(SceneConfig(size=48), "validation", 12)
    items = [(image, {**t, "iscrowd": t["iscrowd"].clone()}) for image, t in (scenes[i] for i in range(12))]
    items[3][1]["iscrowd"][0] = 1
    items[5] = (items[5][0], {name: value[:0] for name, value in items[5][1].items()})
    path = write_coco(root, "validation", items, CLASSES)
    content = json.loads(path.read_text())
    nothing = encode(torch.zeros(48, 48, dtype=torch.uint8))
    content["annotations"].append(
        dict(id=9999, image_id=2, category_id=1, bbox=[5, 5, 0, 9], segmentation=nothing, area=0, iscrowd=0)
    )
    path.write_text(json.dumps(content))
    return root, path


def answers(data):
    """Detections near the objects, some of another class, and some anywhere, on pixels."""
    chance = torch.Generator().manual_seed(5)
    for _, truth in data:
        boxes = truth["boxes"].repeat(2, 1)
        boxes = (boxes + torch.randint(-3, 4, boxes.shape, generator=chance)).clamp(0, 48)
        boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        labels = truth["labels"].repeat(2)
        other = torch.randint(1, 13, labels.shape, generator=chance)
        labels = labels.where(torch.rand(labels.shape, generator=chance) < 0.8, other)
        masks = drawn(boxes, (48, 48))[:, None].float()
        yield dict(boxes=boxes, labels=labels, masks=masks, scores=torch.rand(len(labels), generator=chance))


def by_pycocotools(path, found, kind):
    """COCO's own program on the file and on results in its format."""
    results = []
    for image_id, image in enumerate(found, 1):
        for k in range(len(image["labels"])):
            x0, y0, x1, y1 = image["boxes"][k].tolist()
            shape = dict(bbox=[x0, y0, x1 - x0, y1 - y0])
            if kind == "segm":
                shape = dict(segmentation=encode(image["masks"][k, 0] > 0.5))
            results.append(
                dict(
                    image_id=image_id,
                    category_id=int(image["labels"][k]),
                    score=float(image["scores"][k]),
                    **shape,
                )
            )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        program = COCOeval(truth, truth.loadRes(results), kind)
        program.evaluate(), program.accumulate(), program.summarize()
    return program.stats[:6]


def test_evaluation_equals_pycocotools(data_set):
    root, path = data_set
    data = CocoFolder(root, "validation", trainable=False)
    found = list(answers(data))
    batches = [collate([data[i] for i in part]) for part in (range(5), range(5, 12))]
    ours = evaluate(Told(found), batches, SIZES)
    for kind, prefix in (("bbox", ""), ("segm", "mask_")):
        theirs = by_pycocotools(path, found, kind)
        assert 0.05 < theirs[0] < 0.95
        for name, value in zip(NAMES, theirs, strict=True):
            if value < 0:
                assert ours[prefix + name] is None
            else:
                assert ours[prefix + name] == pytest.approx(100 * value, abs=1e-4)


def test_perfect_answers_score_a_hundred_but_for_what_nobody_finds(data_set):
    data = CocoFolder(
        data_set[0], "validation", trainable=True
    )  # without the crowd and the object of no area
    truth = [data[i][1] for i in range(len(data))]
    perfect = [
        {**t, "masks": t["masks"][:, None].float(), "scores": torch.ones(len(t["labels"]))} for t in truth
    ]
    batches = [([torch.zeros(3, 48, 48)] * len(truth), truth)]
    found = evaluate(Told(perfect), batches, scene_sizes(SceneConfig()))
    assert all(
        found[prefix + name] == pytest.approx(100, abs=1e-3) for prefix in ("", "mask_") for name in NAMES
    )


def test_scores_of_nothing_are_none():
    metric = average_precision(SIZES)
    metric.update(
        [told([], torch.zeros(0, dtype=torch.int64), [])], [target([], torch.zeros(0, dtype=torch.int64))]
    )
    assert scores(metric)["ap"] is None
