"""Photographs and crops: only what is shipped, no smaller copies, seeded, held out by photograph."""

import numpy as np
import pytest
from PIL import Image

from analysis.crops import AREA, cut, draw_box, middles
from analysis.images import photo, read_photograph
from stvit.data import photographs
from stvit.data.photographs import FILES, Folder, Photograph, debian, in_folder, is_held_out, shipped

pytest.importorskip("skimage", reason="the extra stvit[real] is not installed")


@pytest.mark.parametrize("name", FILES)
def test_every_listed_photograph_is_in_its_package_and_is_large_enough(name):
    found = photographs.find(name)
    assert found is not None and found.source and found.licence
    assert min(Image.open(found.path).size) >= photographs.LEAST
    assert (
        found.kind != "scene" or photographs.fingerprint(found.path) is not None
    )  # nor would it be passed over
    assert photo(name, 56).shape == (56, 56, 3)


def test_the_everyday_ones_are_the_default_and_all_are_held_out():
    assert len(shipped()) == 10 and {one.kind for one in shipped()} == {"scene"}
    assert len(shipped(("scene", "texture", "science"))) == len(FILES)
    assert all(is_held_out(one) for one in shipped())
    assert photographs.missing() == []


def noise(path, size, seed=0):
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(coarse).resize(size, resample=0).save(path)


def test_a_folder_without_small_flat_broken_and_doubled_files(tmp_path):
    (tmp_path / "below").mkdir()
    noise(tmp_path / "a.png", (400, 300))
    noise(tmp_path / "below" / "b.JPG", (300, 400), seed=1)
    noise(tmp_path / "c.png", (320, 256), seed=0)  # a.png in another size
    noise(tmp_path / "d.png", (255, 400), seed=2)  # too small
    Image.new("RGB", (400, 400), "red").save(tmp_path / "e.png")
    (tmp_path / "f.png").write_text("no image")
    noise(tmp_path / "g.gif", (400, 400), seed=3)
    assert [one.name for one in in_folder(tmp_path)] == ["a", "below/b"]
    assert [one.name for one in in_folder(tmp_path, least=255)] == ["a", "below/b", "d"]
    assert [one.name for one in debian((Folder("package", tmp_path, "CC0"),))] == [
        "package/a",
        "package/below/b",
    ]


def test_folders_without_photographs_say_so(tmp_path):
    with pytest.raises(ValueError, match="no image of at least 256"):
        in_folder(tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        in_folder(tmp_path / "missing")
    assert debian((Folder("package", tmp_path / "missing", "CC0"),)) == []


def test_one_in_five_of_the_others_is_held_out_whatever_else_is_there():
    others = [Photograph(f"package/{i}", None) for i in range(1000)]
    assert 150 < sum(map(is_held_out, others)) < 250
    assert [is_held_out(one) for one in others[500:]] == [is_held_out(one) for one in others][500:]


def test_crops_are_those_of_their_seed_and_more_of_them_begin_with_the_same():
    found = shipped()[:3]
    few, many, others = cut(found, 6, 28), cut(found, 9, 28), cut(found, 6, 28, seed=1)
    assert few.images.shape == (6, 28, 28, 3) and few.owner.tolist() == [0, 1, 2, 0, 1, 2]
    assert (many.images[:6] == few.images).all()
    assert (others.images != few.images).any(axis=(1, 2, 3)).all()
    assert set(few.record()) == {"china", "flower", "grace_hopper"}
    assert len(few.record()["china"]["digest"]) == 16


def test_boxes_lie_inside_and_cover_what_was_asked_for():
    generator = np.random.default_rng(0)
    boxes = np.array([draw_box(400, 300, generator, AREA) for _ in range(500)])
    assert (boxes >= 0).all() and (boxes[:, 2] <= 400).all() and (boxes[:, 3] <= 300).all()
    shares = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / 120_000
    assert shares.max() <= AREA[1] + 1e-9 and shares.min() > AREA[0] * 0.9
    assert shares.mean() == pytest.approx(sum(AREA) / 2, abs=0.04)


def test_a_crop_is_a_part_of_its_photograph(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 600).astype(np.uint8), (400, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    crops = cut([Photograph("ramp", tmp_path / "ramp.png")], 4, 64)
    rising = np.diff(crops.images[..., 0].astype(int), axis=2)
    assert (rising >= 0).all() and (
        crops.images.max(axis=(1, 2, 3)) - crops.images.min(axis=(1, 2, 3)) > 50
    ).all()


def test_nothing_to_cut_from_names_the_remedy():
    with pytest.raises(ValueError, match=r"stvit\[real\]"):
        cut([], 4, 28)


def test_large_photographs_are_scaled_down_and_small_ones_are_not():
    china = photographs.find("china").path  # 640 × 427
    assert read_photograph(china, 100).size == (150, 100)
    assert read_photograph(china, 1000).size == (640, 427)
    assert middles(shipped()[:2], 98).shape == (2, 98, 98, 3)
