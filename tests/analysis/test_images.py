"""Pictures: any file that Pillow reads, any size, and one clear line for what is none."""

import numpy as np
import pytest
from PIL import Image

from analysis import images
from analysis.shared.models import STAND_INS, available, open_model


@pytest.mark.parametrize("name", ["china", "flower", "grace_hopper", "scene:3"])
@pytest.mark.parametrize("size", [48, 224])
def test_samples(name, size):
    photo = images.photo(name, size)
    assert photo.shape == (size, size, 3) and photo.dtype == np.uint8 and photo.std() > 10


def test_not_square_and_not_stretched():
    """The middle is cut out: a picture of three stripes keeps its middle one."""
    assert images.photo("china", (64, 96)).shape == (64, 96, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "YCbCr"])
def test_modes(mode, tmp_path):
    ramp = Image.fromarray(np.tile(np.arange(60, dtype=np.uint8) * 4, (40, 1)))
    if mode == "I;16":
        picture = Image.fromarray(np.tile(np.arange(60, dtype=np.uint16) * 1000, (40, 1)))
    else:
        picture = ramp.convert(mode)
    suffix = {"CMYK": "tif", "F": "tif", "YCbCr": "jpg"}.get(mode, "png")
    picture.save(tmp_path / f"ramp.{suffix}")
    photo = images.photo(tmp_path / f"ramp.{suffix}", 32)
    assert photo.shape == (32, 32, 3) and photo.dtype == np.uint8
    assert photo[:, 24:].mean() > photo[:, :8].mean() + 40, "bright on the right, as it was drawn"


def test_transparency_is_white_and_rotation_applied(tmp_path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (images.photo(tmp_path / "clear.png", 8) == 255).all()
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:, 20:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: to be shown rotated by a quarter, clockwise
    Image.fromarray(picture).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    shown = images.photo(tmp_path / "turned.jpg", (40, 20))
    assert shown[30:].mean() > 250 and shown[:10].mean() < 5


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (4000, 2)])
def test_any_size(size, tmp_path):
    Image.new("RGB", size, "green").save(tmp_path / "odd.png")
    assert images.photo(tmp_path / "odd.png", 48).shape == (48, 48, 3)


def broken(folder, what):
    path = folder / f"{what}.png"
    if what == "text":
        path.write_text("no image")
    elif what == "empty":
        path.write_bytes(b"")
    elif what == "cut":
        Image.effect_noise((100, 100), 80).save(path)
        path.write_bytes(path.read_bytes()[:2000])
    elif what == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize("what", ["text", "empty", "cut", "folder", "missing"])
def test_a_broken_file_gets_one_line(what, tmp_path):
    with pytest.raises(images.PictureError) as error:
        images.photo(broken(tmp_path, what), 48)
    text = str(error.value)
    assert what in text and "\n" not in text and "Traceback" not in text


def test_names_that_are_none():
    with pytest.raises(images.PictureError, match="neither a file nor one of china"):
        images.photo("chinaa")
    with pytest.raises(images.PictureError, match="scene:7"):
        images.photo("scene:x")


def test_normalised_as_the_model_was_trained():
    subject = open_model("micro_stvit_4")
    white = np.full((48, 48, 3), 255, np.uint8)
    assert images.normalised(white, subject.model).unique().tolist() == [1.0]
    assert images.normalised(np.stack([white, white]), subject.model).shape == (2, 3, 48, 48)


def test_untrained_models_say_so(tmp_path):
    subject = open_model("micro_stvit_16", shelf=tmp_path)
    assert not subject.trained and "UNTRAINED" in subject.label and subject.size == (48, 48)
    again = open_model("micro_stvit_16", shelf=tmp_path)
    for one, two in zip(subject.model.parameters(), again.model.parameters(), strict=True):
        assert one.equal(two)


def test_stand_ins_have_the_shape_of_the_shipped_checkpoints(tmp_path):
    for name in set(available()) & set(STAND_INS):
        shipped, stand_in = open_model(name), open_model(name, shelf=tmp_path)
        assert shipped.trained and "UNTRAINED" not in shipped.label
        shapes = [{k: v.shape for k, v in s.model.state_dict().items()} for s in (shipped, stand_in)]
        assert shapes[0] == shapes[1], name


def test_unknown_checkpoint_names_what_there_is(tmp_path):
    with pytest.raises(ValueError, match="neither a path, nor a timm model, nor a shipped checkpoint"):
        open_model("no_such_model")
